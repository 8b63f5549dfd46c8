package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// dbName is bbolt's file in the store's directory.
const dbName = "store.db"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// table is a bucket whose values are sealed: four bytes of CRC-32C over table
// name, key and value, then the value. bbolt has no checksums on its pages, so
// without the seal a flipped bit would be served as the truth. The name is
// covered so that a value under the right key in the wrong bucket is found.
type table string

const (
	tableMeta         table = "meta"         // tip, certificates
	tableBlocks       table = "blocks"       // height -> blockValue
	tableFirsts       table = "firsts"       // first index -> height
	tableState        table = "state"        // state key -> state value
	tableCertificates table = "certificates" // height -> exact note
	tableEntries      table = "entries"      // applied index -> digest of the entry
	tableSegments     table = "segments"     // number of a packed segment -> packedSegment
	tablePages        table = "pages"        // meter -> its newest page of counters: see counterpages.go
)

var tables = []table{tableMeta, tableBlocks, tableFirsts, tableState, tableCertificates, tableEntries, tableSegments, tablePages}

const sealBytes = 4

// appendOnly tables get keys in ascending order only, so their pages are filled
// to the brim; bbolt's default leaves half of each page for insertions.
func (t table) appendOnly() bool {
	return t == tableBlocks || t == tableFirsts || t == tableCertificates || t == tableEntries || t == tableSegments
}

func (t table) in(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	b := tx.Bucket([]byte(t))
	if b == nil {
		return nil, t.damage(nil, "the table is missing")
	}
	if t.appendOnly() {
		b.FillPercent = 1
	}
	return b, nil
}

func (t table) crc(key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(t))
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

// get returns the value under key, valid during the transaction, or nil.
func (t table) get(tx *bbolt.Tx, key []byte) ([]byte, error) {
	b, err := t.in(tx)
	if err != nil {
		return nil, err
	}
	sealed := b.Get(key)
	if sealed == nil {
		return nil, nil
	}
	return t.open(key, sealed)
}

// open checks and removes the seal.
func (t table) open(key, sealed []byte) ([]byte, error) {
	if len(sealed) <= sealBytes {
		return nil, t.damage(key, fmt.Sprintf("the value has %d bytes, its seal alone has %d", len(sealed), sealBytes))
	}
	value := sealed[sealBytes:]
	if want, got := binary.BigEndian.Uint32(sealed), t.crc(key, value); want != got {
		return nil, t.damage(key, fmt.Sprintf("the value's checksum is %08x, its bytes give %08x", want, got))
	}
	return value, nil
}

// put seals and writes; it takes the value from sealed[sealBytes:] and fills in
// the seal, so that a large value is not copied. bbolt keeps both slices until
// the transaction ends.
func (t table) put(b *bbolt.Bucket, key, sealed []byte) error {
	binary.BigEndian.PutUint32(sealed, t.crc(key, sealed[sealBytes:]))
	if err := b.Put(key, sealed); err != nil {
		return fmt.Errorf("write %s %x: %w", t, key, err)
	}
	return nil
}

// room is a new value of n bytes with room for its seal before it.
func room(n int) []byte { return make([]byte, sealBytes, sealBytes+n) }

// sealable copies a value behind room for its seal.
func sealable(value []byte) []byte { return append(room(len(value)), value...) }

func (t table) damage(key []byte, what string) *DataLossError {
	where := fmt.Sprintf("table %s", t)
	height := int64(None)
	if key != nil {
		where += fmt.Sprintf(", key %q", key)
		if (t == tableBlocks || t == tableCertificates) && len(key) == 8 {
			height = int64(binary.BigEndian.Uint64(key))
			where = fmt.Sprintf("table %s, height %d", t, height)
		}
	}
	return &DataLossError{Height: height, Index: None, File: dbName, Offset: None, What: where + ": " + what}
}

// number is the key of a dense table: big-endian, so that bbolt's byte order
// is the order of numbers.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// view runs f in a read transaction.
func view(db *bbolt.DB, f func(tx *bbolt.Tx) error) error {
	err := guarded(func() error { return db.View(f) })
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// guarded runs f, which uses bbolt. bbolt panics, or touches memory beyond its
// map, when a page is damaged; both come back as a DataLossError.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &DataLossError{
				Height: None, Index: None, File: dbName, Offset: None,
				What: "a page is damaged", Cause: fmt.Errorf("%v", r),
			}
		}
	}()
	return f()
}

// clone copies bytes out of a transaction; nil stays nil.
func clone(b []byte) []byte { return slices.Clone(b) }
