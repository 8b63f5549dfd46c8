package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
)

// tally judges the values that a walk over the pages of store.db meets: each by
// its seal, and all by their number. A key that a damaged page hides, or one that
// a flipped bit turned into another, is so missed: bbolt would say that there is
// no such key.
type tally struct {
	values   uint64
	counts   map[table]uint64
	newest   uint64 // height of the newest certificate met
	problems []*DataLossError
	later    error // a later program wrote the store: what is wrong with it is not ours to say

	tip          *tip
	certificates *certificateTip
}

// value takes one value, which stands in the page at an offset.
func (y *tally) value(t table, key, sealed []byte, offset int64) {
	y.values++
	y.counts[t]++
	y.add(checkValue(t, key, sealed), offset)
	if t == tableCertificates && len(key) == 8 {
		y.newest = max(y.newest, binary.BigEndian.Uint64(key))
	}
	if t != tableMeta {
		return
	}
	value, err := t.open(key, sealed)
	if err != nil {
		return // it was reported
	}
	switch {
	case bytes.Equal(key, keyTip):
		decoded, err := decodeTip(value)
		y.tip = &decoded
		if reason.Of(err) == reason.UnsupportedVersion {
			y.later = err
		}
		y.add(err, offset)
	case bytes.Equal(key, keyCertificates) && len(value) == certificateTipN:
		decoded := decodeCertificateTip(value)
		y.certificates = &decoded
	}
}

func (y *tally) add(err error, offset int64) {
	var lost *DataLossError
	if errors.As(err, &lost) && len(y.problems) < maxProblems {
		lost.Offset = offset
		y.problems = append(y.problems, lost)
	}
}

// check compares the numbers with those that the same transaction committed.
func (y *tally) check() {
	counts := map[table]uint64{tableMeta: 2}
	if y.tip != nil {
		counts[tableBlocks], counts[tableFirsts] = y.tip.blocks, y.tip.blocks
		counts[tableState], counts[tableEntries] = y.tip.stateKeys-y.tip.pages, y.tip.entries
		counts[tableSegments], counts[tablePages] = uint64(y.tip.packed), y.tip.pages
	}
	if y.certificates != nil {
		counts[tableCertificates] = y.certificates.count
	}
	if c := y.certificates; c != nil && c.count > 0 && c.newest != y.newest {
		y.add(tableCertificates.damage(number(c.newest), fmt.Sprintf("the newest certificate is missing, the last is of height %d", y.newest)), None)
	}
	for _, t := range tables {
		if want, known := counts[t]; known && y.counts[t] != want {
			y.add(t.damage(nil, fmt.Sprintf("%d values are committed, %d are there", want, y.counts[t])), None)
		}
	}
}

// checkValue checks a seal, and the form of what has one.
func checkValue(t table, key, sealed []byte) error {
	value, err := t.open(key, sealed)
	if err != nil {
		return err
	}
	want := 0
	switch t {
	case tableMeta:
		if !bytes.Equal(key, keyTip) && !bytes.Equal(key, keyCertificates) {
			return t.damage(key, "the key is unknown")
		}
		return nil
	case tableFirsts:
		want = 8
	case tableSegments:
		want = packedSegmentBytes
	case tableEntries:
		want = digest.Size
	case tablePages:
		_, _, err := decodePage(key, value)
		return err
	case tableBlocks:
		if len(key) == 8 {
			_, err := decodeBlock(binary.BigEndian.Uint64(key), value)
			return err
		}
	}
	if t != tableState && len(key) != 8 {
		return t.damage(key, fmt.Sprintf("the key has %d bytes, want 8", len(key)))
	}
	if want != 0 && len(value) != want {
		return t.damage(key, fmt.Sprintf("the value has %d bytes, want %d", len(value), want))
	}
	return nil
}
