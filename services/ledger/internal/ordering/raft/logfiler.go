package raft

import (
	"sync"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// lightFiler is raft-wal's filer whose writers let go of what a full segment does
// not need. raft-wal reads a segment that it wrote through its writer until the
// process ends, and with it keeps the buffer of the largest batch, here a megabyte
// for each 64 (v0.4.2, segment.Writer): a log of 6,000 entries would hold 50 MB.
type lightFiler struct{ *segment.Filer }

func (f lightFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	return f.light(info)(f.Filer.Create(info))
}

func (f lightFiler) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	return f.light(info)(f.Filer.RecoverTail(info))
}

func (f lightFiler) light(info types.SegmentInfo) func(types.SegmentWriter, error) (types.SegmentWriter, error) {
	return func(w types.SegmentWriter, err error) (types.SegmentWriter, error) {
		if err != nil {
			return nil, err
		}
		return &lightSegment{SegmentWriter: w, info: info, open: f.Open}, nil
	}
}

// lightSegment is a segment that is written, and once it is full one that was
// opened for reading, as all full ones are after a restart.
type lightSegment struct {
	types.SegmentWriter // Append and ForceSeal; without its use once reader is set
	info                types.SegmentInfo
	open                func(types.SegmentInfo) (types.SegmentReader, error)

	mu     sync.RWMutex        // guards the rest; held while a read is under way
	reader types.SegmentReader // nil until the segment is full
	last   uint64              // index of its last entry
}

// Sealed is asked after each append; nothing is appended after a yes.
func (s *lightSegment) Sealed() (bool, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		return true, s.info.IndexStart, nil
	}
	sealed, indexStart, err := s.SegmentWriter.Sealed()
	if err != nil || !sealed {
		return sealed, indexStart, err
	}
	full := s.info
	full.IndexStart, full.MaxIndex = indexStart, s.SegmentWriter.LastIndex()
	reader, err := s.open(full)
	if err != nil {
		return true, indexStart, nil // the writer goes on reading it
	}
	s.info, s.reader, s.last = full, reader, full.MaxIndex
	// All is synced, and what a close may still say is of no use.
	_ = s.SegmentWriter.Close()
	s.SegmentWriter = fullSegment{}
	return true, indexStart, nil
}

func (s *lightSegment) ForceSeal() (uint64, error) {
	if sealed, indexStart, err := s.Sealed(); sealed || err != nil {
		return indexStart, err
	}
	return s.SegmentWriter.ForceSeal()
}

func (s *lightSegment) LastIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.reader != nil {
		return s.last
	}
	return s.SegmentWriter.LastIndex()
}

func (s *lightSegment) GetLog(index uint64) (*types.PooledBuffer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.reader != nil {
		return s.reader.GetLog(index)
	}
	return s.SegmentWriter.GetLog(index)
}

func (s *lightSegment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		return s.reader.Close()
	}
	return s.SegmentWriter.Close()
}

// fullSegment takes no more entries.
type fullSegment struct{ types.SegmentWriter }

func (fullSegment) Append([]types.LogEntry) error { return types.ErrSealed }
