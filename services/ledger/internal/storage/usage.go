package storage

import (
	"context"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// Usage is where a store's bytes are. Frames count with their heads.
type Usage struct {
	Blocks, Records, RawVectors uint64
	RecordBytes, RawBytes       int64       // in segments
	SegmentBytes                int64       // of all segments, up to the committed tail
	Packed                      PackedUsage // the part of the above that is packed
	Cold                        ColdUsage
	Expired                     ExpiredUsage
	Tables                      []TableUsage // of store.db
	DBBytes                     int64        // of the file
	FreeBytes                   int64        // of its pages that hold nothing
}

// PackedUsage is what packed segments hold, and what they take on disk with their
// heads and indexes.
type PackedUsage struct {
	Segments              uint32
	RawVectors            uint64
	RecordBytes, RawBytes int64
}

// ColdUsage is what is in cold storage.
type ColdUsage struct {
	Segments   uint32
	RawVectors uint64 // of Usage.RawVectors
	Bytes      int64  // not of RawBytes nor SegmentBytes
}

// ExpiredUsage is what is in neither any more.
type ExpiredUsage struct {
	Segments   uint32 // whose raw vectors were dropped
	RawVectors uint64 // not of Usage.RawVectors: dropped here, and those that had expired before their blocks came
	Dropped    uint64 // of these, the ones of dropped segments
	Below      uint64 // no block from this height on lacks one
}

// TableUsage is one table's share of store.db.
type TableUsage struct {
	Name   string
	Keys   int
	Used   int64 // bytes of keys and values, with their heads
	Allots int64 // bytes of its pages
}

// Usage adds up where the bytes are; it reads the index, not the segments.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	t := s.recent.Load().tip
	u := &Usage{Blocks: t.blocks, Records: t.size, Packed: PackedUsage{Segments: t.packed}, Cold: ColdUsage{Segments: max(t.cold, t.dropped) - t.dropped},
		Expired: ExpiredUsage{Segments: t.dropped, RawVectors: t.lacking, Below: t.prunedBelow}}
	for n := uint32(1); n <= t.packed; n++ {
		p, err := s.packedSegment(n)
		if err != nil {
			return nil, err
		}
		u.Packed.RecordBytes += p.records.bytes
		switch {
		case n <= t.dropped:
			u.Expired.RawVectors += p.rawItems
			u.Expired.Dropped += p.rawItems
			continue
		case n <= t.cold:
			u.Cold.RawVectors += p.rawItems
			u.Cold.Bytes += p.raws.bytes
		default:
			u.Packed.RawBytes += p.raws.bytes
		}
		u.Packed.RawVectors += p.rawItems
	}
	u.RecordBytes, u.RawBytes, u.RawVectors = u.Packed.RecordBytes, u.Packed.RawBytes, u.Packed.RawVectors
	for height := range t.blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, _, err := s.copyBlock(height)
		if err != nil {
			return nil, err
		}
		err = value.place(func(_ int, p placed) bool {
			if p.leaf.at.segment > t.packed {
				u.RecordBytes += frameHeaderBytes + int64(p.leaf.length)
			}
			if p.raw.length > 0 && p.raw.at.segment > t.packed {
				u.RawVectors++
				u.RawBytes += frameHeaderBytes + int64(p.raw.length)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	u.SegmentBytes = u.RecordBytes + u.RawBytes + int64(t.end.segment-t.packed)*segmentHeaderBytes
	info, err := os.Stat(s.db.Path())
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	u.DBBytes = info.Size()
	return u, view(s.db, func(tx *bbolt.Tx) error {
		held := int64(0)
		for _, t := range tables {
			if (t == tableSegments || t == tablePages) && tx.Bucket([]byte(t)) == nil {
				continue // a store of an earlier version
			}
			b, err := t.in(tx)
			if err != nil {
				return err
			}
			stats := b.Stats()
			allots := int64(stats.BranchAlloc + stats.LeafAlloc)
			u.Tables = append(u.Tables, TableUsage{Name: string(t), Keys: stats.KeyN, Used: int64(stats.BranchInuse + stats.LeafInuse), Allots: allots})
			held += allots
		}
		u.FreeBytes = max(0, u.DBBytes-held)
		return nil
	})
}
