package storage

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// packedSegment is what table segments says of a packed segment. Big-endian:
//
//	plain[8] records: bytes[8] sha256[32] raw vectors: bytes[8] sha256[32] items[8] itemBytes[8]
type packedSegment struct {
	plain    int64 // length of the segment before it was packed
	records  packedSum
	raws     packedSum
	rawItems uint64 // raw vectors
	rawBytes int64  // their own bytes, without heads and index
}

const packedSegmentBytes = 8 + 40 + 40 + 16

// file is the sum of one of its files.
func (p *packedSegment) file(k kind) packedSum {
	if k == kindRawVector {
		return p.raws
	}
	return p.records
}

func (p *packedSegment) encode() []byte {
	b := binary.BigEndian.AppendUint64(room(packedSegmentBytes), uint64(p.plain))
	for _, s := range []packedSum{p.records, p.raws} {
		b = binary.BigEndian.AppendUint64(b, uint64(s.bytes))
		b = append(b, s.digest[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, p.rawItems)
	return binary.BigEndian.AppendUint64(b, uint64(p.rawBytes))
}

func decodePackedSegment(key, b []byte) (p packedSegment, err error) {
	if len(b) != packedSegmentBytes {
		return p, tableSegments.damage(key, fmt.Sprintf("the value has %d bytes, want %d", len(b), packedSegmentBytes))
	}
	next := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	p.plain = int64(next())
	for _, s := range []*packedSum{&p.records, &p.raws} {
		s.bytes = int64(next())
		b = b[copy(s.digest[:], b):]
	}
	p.rawItems, p.rawBytes = next(), int64(next())
	return p, nil
}

// segmentKey is the key of a segment in table segments.
func segmentKey(segment uint32) []byte { return number(uint64(segment)) }

// packedSegment reads what was committed of a packed segment.
func (s *Store) packedSegment(segment uint32) (p packedSegment, err error) {
	err = view(s.db, func(tx *bbolt.Tx) error {
		key := segmentKey(segment)
		b, err := tableSegments.get(tx, key)
		if err != nil {
			return err
		}
		p, err = decodePackedSegment(key, b)
		return err
	})
	return p, err
}
