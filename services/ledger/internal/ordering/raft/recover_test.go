package raft

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// filled is a memory that has applied entries 2 to index.
func filled(c *cluster, id string, index uint64) *memory {
	m := newMemory(c, id)
	for i := uint64(2); i <= index; i++ {
		data := fmt.Append(nil, i)
		e := ordering.Entry{Index: i, Data: data, Digest: digest.Of(digest.Entry, data)}
		m.entries, m.digests[i], m.applied = append(m.entries, e), e.Digest, i
	}
	return m
}

func store(t *testing.T, s *pointerStore, f pointerFile) {
	t.Helper()
	sink, err := s.Create(1, f.Index, f.Term, hraft.Configuration{Servers: f.Servers}, f.ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(f.Content); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartAfterACrash(t *testing.T) {
	snapshotAt := func(index, applied uint64) *pointerFile {
		return &pointerFile{Index: index, Term: 2, Content: content{applied: applied,
			pointer: fmt.Appendf(nil, `{"Node":"peer","Applied":%d}`, applied)}.encode()}
	}
	for _, test := range []struct {
		name        string
		first, last uint64 // of the log
		snapshot    *pointerFile
		applied     uint64
		loss        bool
		wantLast    uint64 // of the log
		wantApplied uint64
	}{
		{"new", 0, 0, nil, 0, false, 0, 0},
		{"bootstrapped", 1, 1, nil, 0, false, 1, 0},
		{"state behind the log", 1, 9, nil, 5, false, 9, 5},
		{"state behind log and snapshot", 1, 20, snapshotAt(8, 8), 15, false, 20, 15},
		{"an engine's entry after the last applied", 6, 9, snapshotAt(9, 8), 8, false, 9, 8},
		{"snapshot arrived, not restored", 1, 5, snapshotAt(12, 12), 5, false, 0, 12},
		{"snapshot restored, log not cut", 1, 5, snapshotAt(12, 12), 12, false, 0, 12},
		{"snapshot installed", 0, 0, snapshotAt(12, 12), 12, false, 0, 12},
		{"the log lost its tail", 1, 9, nil, 10, true, 9, 10},
		{"the log is gone", 0, 0, nil, 10, true, 0, 10},
		{"the log begins too late", 5, 9, nil, 9, true, 9, 9},
		{"the log begins after the snapshot", 7, 20, snapshotAt(5, 5), 9, true, 20, 9},
		{"the snapshot says nonsense", 1, 9, snapshotAt(5, 6), 9, true, 9, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{nodes: make(map[string]*node)}
			c.nodes["peer"] = &node{state: filled(c, "peer", 30)}
			log := openWAL(t, t.TempDir())
			if test.last > 0 {
				if err := log.StoreLogs(logs(test.first, test.last, 2)); err != nil {
					t.Fatal(err)
				}
			}
			snapshots, err := openPointerStore(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if test.snapshot != nil {
				store(t, snapshots, *test.snapshot)
			}
			state := filled(c, "self", test.applied)
			err = recoverState(testContext(t), log, snapshots, state)
			if (reason.Of(err) == reason.DataLoss) != test.loss || (err != nil) != test.loss {
				t.Fatalf("error %v, want DATA_LOSS = %v", err, test.loss)
			}
			last, err := log.LastIndex()
			if err != nil || last != test.wantLast || state.AppliedIndex() != test.wantApplied {
				t.Fatalf("the log ends at %d (%v), applied are %d; want %d, %d", last, err, state.AppliedIndex(), test.wantLast, test.wantApplied)
			}
		})
	}
}

func TestPointerStore(t *testing.T) {
	s, err := openPointerStore(filepath.Join(t.TempDir(), "new"))
	if err != nil {
		t.Fatal(err)
	}
	servers := []hraft.Server{{ID: "a", Address: "a"}}
	for _, f := range []pointerFile{
		{Index: 9, Term: 1, Content: []byte("nine"), Servers: servers, ConfigurationIndex: 3},
		{Index: 100, Term: 1, Content: []byte("hundred"), Servers: servers, ConfigurationIndex: 3},
		{Index: 20, Term: 77, Content: []byte("a liar's term"), Servers: servers, ConfigurationIndex: 3},
	} {
		store(t, s, f)
	}
	metas, err := s.List()
	if err != nil || len(metas) != 2 || metas[0].Index != 100 || metas[1].Index != 20 {
		t.Fatalf("snapshots %v (%v), want those at 100 and 20", metas, err)
	}
	meta, source, err := s.Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(source)
	if err != nil || string(b) != "hundred" || meta.Size != 7 || meta.Configuration.Servers[0].ID != "a" || meta.ConfigurationIndex != 3 {
		t.Fatalf("snapshot %+v %q (%v)", meta, b, err)
	}
	sink, err := s.Create(1, 200, 1, hraft.Configuration{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(make([]byte, maxSnapshot+1)); err == nil {
		t.Error("a sink takes more than the limit")
	}
	if err := sink.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil { // the library may do so
		t.Fatal(err)
	}
	if newest, ok, err := s.newest(); !ok || err != nil || newest.Index != 100 {
		t.Fatalf("newest is %d, %v, %v", newest.Index, ok, err)
	}

	path := filepath.Join(s.dir, metas[0].ID+pointerSuffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.List(); reason.Of(err) != reason.DataLoss {
			t.Fatalf("byte %d flipped: %v, want DATA_LOSS", i, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	renamed := strings.Replace(path, "0100-", "0101-", 1)
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); reason.Of(err) != reason.DataLoss {
		t.Fatalf("a renamed snapshot: %v, want DATA_LOSS", err)
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add(content{applied: 7, pointer: []byte("pointer")}.encode())
	f.Add([]byte{})
	file, err := pointerFile{Index: 7, Term: 1, Content: []byte("x")}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeContent(b); err == nil && !bytes.Equal(c.encode(), b) {
			t.Errorf("%x is encoded again as %x", b, c.encode())
		}
		if _, err := decodePointerFile(b); err != nil && reason.Of(err) != reason.DataLoss {
			t.Errorf("%x: %v, want DATA_LOSS", b, err)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add(hraft.EncodeConfiguration(hraft.Configuration{Servers: []hraft.Server{{ID: "a", Address: "a"}}}))
	f.Add([]byte{0xc1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkConfiguration(b) == nil && len(hraft.DecodeConfiguration(b).Servers) == 0 {
			t.Errorf("%x passes without servers", b)
		}
	})
}
