package raft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/types"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// metaName is the file in the log's directory that says which segments there
// are, and holds Raft's term and vote.
const metaName = "meta"

// segmentPattern matches raft-wal's segment files.
const segmentPattern = "*.wal"

// logMeta replaces raft-wal's own store for these few bytes, which is a bbolt
// file without checksums: a flipped bit there hides entries, or lets a replica
// vote twice in one term. One small file instead, a line with the digest of the
// rest, then JSON, replaced whole at each change: a term, a vote, a new or a
// removed segment, none of them frequent.
//
// A directory with segments and without this file is DATA_LOSS: raft-wal alone
// would delete the segments.
type logMeta struct {
	dir string
	mu  sync.Mutex
	now metaContent // under mu
}

type metaContent struct {
	State  types.PersistentState `json:"state"`
	Stable map[string][]byte     `json:"stable"`
}

var _ types.MetaStore = (*logMeta)(nil)

func (m *logMeta) path() string { return filepath.Join(m.dir, metaName) }

// Load implements types.MetaStore.
func (m *logMeta) Load(dir string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dir = dir
	b, err := os.ReadFile(m.path())
	if errors.Is(err, fs.ErrNotExist) {
		segments, err := filepath.Glob(filepath.Join(dir, segmentPattern))
		if err != nil || len(segments) == 0 {
			return types.PersistentState{}, err
		}
		return types.PersistentState{}, reason.New(reason.DataLoss, "log/%s is missing, and there are %d segments", metaName, len(segments))
	}
	if err != nil {
		return types.PersistentState{}, err
	}
	if m.now, err = decodeMeta(b); err != nil {
		return types.PersistentState{}, err
	}
	return m.now.State, nil
}

func decodeMeta(b []byte) (metaContent, error) {
	var c metaContent
	loss := func(format string, args ...any) (metaContent, error) {
		return metaContent{}, reason.New(reason.DataLoss, "log/%s, of %d bytes: %s", metaName, len(b), fmt.Sprintf(format, args...))
	}
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return loss("it has no digest line")
	}
	// Compared as text: the digest has one form.
	if got := digest.Plain(body).String(); got != string(head) {
		return loss("its first line is %q, the digest of the rest is %s", head, got)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return loss("%v", err)
	}
	return c, nil
}

// write makes c durable and then the present content.
func (m *logMeta) write(c metaContent) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(m.path(), append([]byte(digest.Plain(body).String()+"\n"), body...), 0o600); err != nil {
		return err
	}
	m.now = c
	return nil
}

// CommitState implements types.MetaStore.
func (m *logMeta) CommitState(state types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(metaContent{State: state, Stable: m.now.Stable})
}

// GetStable implements types.MetaStore.
func (m *logMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.now.Stable[string(key)]), nil
}

// SetStable implements types.MetaStore.
func (m *logMeta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stable := maps.Clone(m.now.Stable)
	if stable == nil {
		stable = make(map[string][]byte)
	}
	if value == nil {
		delete(stable, string(key))
	} else {
		stable[string(key)] = slices.Clone(value)
	}
	return m.write(metaContent{State: m.now.State, Stable: stable})
}

// Close implements types.MetaStore.
func (m *logMeta) Close() error { return nil }
