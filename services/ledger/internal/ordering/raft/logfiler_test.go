package raft

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// watchedFiler remembers the segments that it made.
type watchedFiler struct {
	lightFiler
	mu   sync.Mutex
	made []*lightSegment
}

func (f *watchedFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.lightFiler.Create(info)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.made = append(f.made, w.(*lightSegment))
	}
	return w, err
}

// A log holds one writer, whatever its length, and gives every entry while it is
// written and after it was opened again.
func TestFullSegmentsLetTheirWriterGo(t *testing.T) {
	const entries = 300
	dir := t.TempDir()
	filer := &watchedFiler{lightFiler: lightFiler{segment.NewFiler(dir, logFiles())}}
	log, err := wal.Open(dir, wal.WithMetaStore(new(logMeta)), wal.WithSegmentSize(16<<10), wal.WithSegmentFiler(filer))
	if err != nil {
		t.Fatal(err)
	}
	content := func(index uint64) []byte {
		return bytes.Repeat(binary.BigEndian.AppendUint64(nil, index), 100)
	}
	check := func(log *wal.WAL, from, to uint64) {
		t.Helper()
		for index := from; index <= to; index++ {
			var got hraft.Log
			if err := log.GetLog(index, &got); err != nil || !bytes.Equal(got.Data, content(index)) {
				t.Fatalf("entry %d of %d: %v", index, to, err)
			}
		}
	}
	var reading sync.WaitGroup
	written := make(chan uint64, entries)
	reading.Go(func() {
		for last := range written {
			var got hraft.Log
			for index := max(last, 20) - 19; index <= last; index++ { // also while its segment becomes full
				if err := log.GetLog(index, &got); err != nil || !bytes.Equal(got.Data, content(index)) {
					t.Errorf("entry %d: %v", index, err)
				}
			}
		}
	})
	for index := uint64(1); index <= entries; index++ {
		if err := log.StoreLog(&hraft.Log{Index: index, Term: 1, Data: content(index)}); err != nil {
			t.Fatal(err)
		}
		written <- index
	}
	close(written)
	reading.Wait()
	check(log, 1, entries)
	if err := log.DeleteRange(281, entries); err != nil { // the tail, across segments
		t.Fatal(err)
	}
	if err := log.DeleteRange(1, 90); err != nil {
		t.Fatal(err)
	}
	check(log, 91, 280)
	if err := log.StoreLog(&hraft.Log{Index: 281, Term: 2, Data: content(281)}); err != nil {
		t.Fatal(err)
	}
	writers := 0
	filer.mu.Lock()
	for _, s := range filer.made {
		s.mu.RLock()
		if s.reader == nil {
			writers++
		}
		s.mu.RUnlock()
	}
	made := len(filer.made)
	filer.mu.Unlock()
	if made < 10 || writers > 2 { // the newest, and one that was cut before it was full
		t.Errorf("%d of %d segments hold their writer", writers, made)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openLog(dir, nil, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	check(again.WAL, 91, 281)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
