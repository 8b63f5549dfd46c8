package raft

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

const (
	maxPointer       = ordering.MaxPointer
	contentVersion   = 1
	contentHeader    = 1 + 8 // version, applied index
	pointerSuffix    = ".pointer"
	retainedPointers = 2 // one that is being sent may still be open while the next is made
)

// content is what travels in an InstallSnapshot: the applier's pointer, and the
// applied index at which it was made. Raft's own index of the snapshot can be
// higher, because entries of the engine follow.
//
// Wire form: one byte version, eight bytes applied index (big-endian), pointer.
type content struct {
	applied uint64
	pointer []byte
}

func (c content) encode() []byte {
	out := make([]byte, contentHeader, contentHeader+len(c.pointer))
	out[0] = contentVersion
	binary.BigEndian.PutUint64(out[1:], c.applied)
	return append(out, c.pointer...)
}

func decodeContent(b []byte) (content, error) {
	if len(b) < contentHeader || len(b) > maxSnapshot {
		return content{}, fmt.Errorf("snapshot has %d bytes, want %d to %d", len(b), contentHeader, maxSnapshot)
	}
	if b[0] != contentVersion {
		return content{}, fmt.Errorf("snapshot has version %d, want %d", b[0], contentVersion)
	}
	return content{applied: binary.BigEndian.Uint64(b[1:]), pointer: b[contentHeader:]}, nil
}

// pointerStore keeps snapshots, each a small file: a line with the digest of the
// rest, then JSON. The newest is the one with the highest index, whatever term
// somebody claims for another.
type pointerStore struct {
	dir string
	mu  sync.Mutex // held while files are created, removed or listed
}

// pointerFile is a snapshot as it is on disk.
type pointerFile struct {
	Index              uint64         `json:"index"`
	Term               uint64         `json:"term"`
	ConfigurationIndex uint64         `json:"configuration_index"`
	Servers            []hraft.Server `json:"servers"`
	Content            []byte         `json:"content"`
}

func (f pointerFile) id() string { return fmt.Sprintf("%020d-%020d", f.Index, f.Term) }

func (f pointerFile) meta() *hraft.SnapshotMeta {
	return &hraft.SnapshotMeta{
		Version:            1,
		ID:                 f.id(),
		Index:              f.Index,
		Term:               f.Term,
		Configuration:      hraft.Configuration{Servers: f.Servers},
		ConfigurationIndex: f.ConfigurationIndex,
		Size:               int64(len(f.Content)),
	}
}

func (f pointerFile) encode() ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return append([]byte(digest.Plain(body).String()+"\n"), body...), nil
}

func decodePointerFile(b []byte) (pointerFile, error) {
	var f pointerFile
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return f, reason.New(reason.DataLoss, "snapshot file of %d bytes has no digest line", len(b))
	}
	want, err := digest.Parse(string(head))
	if err != nil {
		return f, reason.New(reason.DataLoss, "snapshot file: %v", err)
	}
	if got := digest.Plain(body); got != want {
		return f, reason.New(reason.DataLoss, "snapshot file has digest %s, its first line says %s", got.Short(), want.Short())
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, reason.New(reason.DataLoss, "snapshot file: %v", err)
	}
	return f, nil
}

func openPointerStore(dir string) (*pointerStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &pointerStore{dir: dir}, nil
}

// Create starts a snapshot; it exists once the sink is closed.
func (s *pointerStore) Create(version hraft.SnapshotVersion, index, term uint64, configuration hraft.Configuration, configurationIndex uint64, _ hraft.Transport) (hraft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("snapshot has version %d, want 1", version)
	}
	return &pointerSink{store: s, file: pointerFile{
		Index: index, Term: term, ConfigurationIndex: configurationIndex, Servers: configuration.Servers,
	}}, nil
}

// List gives the snapshots, highest index first. A damaged file is DATA_LOSS:
// skipping it could mean to start from an older snapshot than the log follows.
func (s *pointerStore) List() ([]*hraft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	var metas []*hraft.SnapshotMeta
	for _, f := range files {
		metas = append(metas, f.meta())
	}
	return metas, nil
}

// Open gives a snapshot's bytes.
func (s *pointerStore) Open(id string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(id + pointerSuffix)
	if err != nil {
		return nil, nil, err
	}
	return f.meta(), &pointerReader{Reader: bytes.NewReader(f.Content), id: id}, nil
}

// newest is the snapshot with the highest index; false when there is none.
func (s *pointerStore) newest() (pointerFile, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files()
	if err != nil || len(files) == 0 {
		return pointerFile{}, false, err
	}
	return files[0], true, nil
}

// discard removes a snapshot that was refused.
func (s *pointerStore) discard(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.dir, id+pointerSuffix)); err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

func (s *pointerStore) add(f pointerFile) error {
	encoded, err := f.encode()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := durable.WriteFile(filepath.Join(s.dir, f.id()+pointerSuffix), encoded, 0o600); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, old := range files[min(retainedPointers, len(files)):] {
		if err := os.Remove(filepath.Join(s.dir, old.id()+pointerSuffix)); err != nil {
			return err
		}
	}
	return nil
}

// files reads all snapshots, highest index first. The lock is held.
func (s *pointerStore) files() ([]pointerFile, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var files []pointerFile
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), pointerSuffix) {
			continue // a temporary file that a crash left
		}
		f, err := s.read(entry.Name())
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b pointerFile) int { return strings.Compare(b.id(), a.id()) })
	return files, nil
}

func (s *pointerStore) read(name string) (pointerFile, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return pointerFile{}, err
	}
	f, err := decodePointerFile(b)
	if err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	if f.id()+pointerSuffix != name {
		return f, reason.New(reason.DataLoss, "snapshot file %s holds snapshot %s", name, f.id())
	}
	return f, nil
}

// pointerSink collects a snapshot in memory.
type pointerSink struct {
	store *pointerStore
	file  pointerFile
	ended bool
}

func (s *pointerSink) ID() string { return s.file.id() }

func (s *pointerSink) Write(p []byte) (int, error) {
	if s.ended {
		return 0, errors.New("write to a snapshot that has ended")
	}
	if total := len(s.file.Content) + len(p); total > maxSnapshot {
		return 0, fmt.Errorf("snapshot has at least %d bytes, the limit is %d", total, maxSnapshot)
	}
	s.file.Content = append(s.file.Content, p...)
	return len(p), nil
}

func (s *pointerSink) Close() error {
	if s.ended {
		return nil
	}
	s.ended = true
	return s.store.add(s.file)
}

func (s *pointerSink) Cancel() error {
	s.ended = true
	return nil
}

// pointerReader is an open snapshot that knows which one it is.
type pointerReader struct {
	*bytes.Reader
	id string
}

func (*pointerReader) Close() error { return nil }
