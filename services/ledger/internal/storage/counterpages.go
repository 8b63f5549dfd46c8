package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/state"
	"go.etcd.io/bbolt"
)

// A meter's counters are in pages of 32 (state.PageKey), of which it has more and
// more, and it writes the newest with each measurement. In the order of their
// keys each meter's newest page lies between its own old ones and the next
// meter's, so each measurement would change a page of store.db of its own. The
// newest page of each meter is therefore in a table of its own, where only such
// pages lie: what a block changes there depends on the number of meters, not on
// what they have measured. A page goes to the other state when its meter begins a
// later one, once for 32 counters (ADR 18).
//
// Invariants:
//   - Each page is in one of the two tables, and readers see one state.
//   - A store of an earlier version has all pages among the other state; they
//     stay there, and the pages that its meters begin afterwards do as said.

// decodePage is a value of tablePages: a page's number in 8 bytes and its state
// value.
func decodePage(meter, b []byte) (number uint64, value []byte, err error) {
	if len(b) <= 8 {
		return 0, nil, tablePages.damage(meter, fmt.Sprintf("the value has %d bytes, a page's number alone has 8", len(b)))
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}

// newestPage is what is in the table of newest pages; value is nil for a meter
// that has none there.
func newestPage(b *bbolt.Bucket, meter []byte) (number uint64, value []byte, err error) {
	sealed := b.Get(meter)
	if sealed == nil {
		return 0, nil, nil
	}
	opened, err := tablePages.open(meter, sealed)
	if err != nil {
		return 0, nil, err
	}
	return decodePage(meter, opened)
}

// stateValue returns the state value under key, valid during the transaction, or
// nil.
func stateValue(tx *bbolt.Tx, key []byte) ([]byte, error) {
	if meter, page, ok := state.SplitPageKey(key); ok {
		if b := tx.Bucket([]byte(tablePages)); b != nil { // a store of an earlier version has none
			number, value, err := newestPage(b, meter)
			if err != nil || value != nil && number == page {
				return value, err
			}
		}
	}
	return tableState.get(tx, key)
}

// putPage writes a page of a meter where it belongs.
func putPage(other, pages *bbolt.Bucket, w state.Write, meter []byte, page uint64, t *tip) error {
	number, value, err := newestPage(pages, meter)
	if err != nil {
		return err
	}
	if value == nil || number != page {
		if other.Get(w.Key) != nil { // a gap in an old page is filled
			return tableState.put(other, w.Key, sealable(w.Value))
		}
		t.stateKeys++
		switch {
		case value == nil:
			t.pages++
		case page < number: // nothing in an old page came before
			return tableState.put(other, w.Key, sealable(w.Value))
		default:
			if err := tableState.put(other, pageKey(meter, number), sealable(value)); err != nil {
				return err
			}
		}
	}
	numbered := binary.BigEndian.AppendUint64(room(8+len(w.Value)), page)
	return tablePages.put(pages, meter, append(numbered, w.Value...))
}

// pageKey is the state key of a page.
func pageKey(meter []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Grow(slices.Clip(meter), 8), number)
}

// turned is the key of the page before, if a key is one of a page that has one.
func turned(key []byte) []byte {
	meter, number, ok := state.SplitPageKey(key)
	if !ok || number == 0 {
		return nil
	}
	return pageKey(meter, number-1)
}

// pageScan visits the newest pages among the other state, in the order of their
// keys, which is that of their meters.
type pageScan struct {
	cursor        *bbolt.Cursor // nil when there is nothing to visit
	prefix, start []byte
	meter, sealed []byte // the next one
}

// pagesFrom begins a scan of the newest pages as Store.Scan has it.
func pagesFrom(tx *bbolt.Tx, prefix, start []byte) *pageScan {
	all := []byte(state.PrefixPage)
	b := tx.Bucket([]byte(tablePages))
	if b == nil || !bytes.HasPrefix(prefix, all) && !bytes.HasPrefix(all, prefix) {
		return &pageScan{}
	}
	p := &pageScan{cursor: b.Cursor(), prefix: prefix, start: start}
	p.meter, p.sealed = p.cursor.First()
	return p
}

// before visits the pages up to a key, or all that are left without one; goOn is
// false after a visit that said so.
func (p *pageScan) before(limit []byte, visit func(key, value []byte) bool) (goOn bool, err error) {
	for ; p.meter != nil; p.meter, p.sealed = p.cursor.Next() {
		opened, err := tablePages.open(p.meter, p.sealed)
		if err != nil {
			return false, err
		}
		number, value, err := decodePage(p.meter, opened)
		if err != nil {
			return false, err
		}
		key := pageKey(p.meter, number)
		if limit != nil && bytes.Compare(key, limit) > 0 {
			return true, nil
		}
		if bytes.HasPrefix(key, p.prefix) && bytes.Compare(key, p.start) >= 0 && !visit(key, value) {
			return false, nil
		}
	}
	return true, nil
}
