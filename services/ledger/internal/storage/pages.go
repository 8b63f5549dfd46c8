package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"go.etcd.io/bbolt"
)

// bbolt's file, as this file reads it (bbolt v1.5.0, internal/common; numbers
// in the machine's byte order):
//
//	page   = id[8] flags[2] count[2] overflow[4] body; overflow more pages follow
//	meta   = magic[4] version[4] pageSize[4] flags[4] root[8] sequence[8] freelist[8] highWater[8] txid[8] fnv1a[8]
//	branch = count x (pos[4] keySize[4] child[8]); pos counts from the element
//	leaf   = count x (flags[4] pos[4] keySize[4] valueSize[4])
//	bucket = root[8] sequence[8] inlinePage; the value of a leaf element with flag 1; inline if root is 0
//	free   = count x id[8]; if count is 0xFFFF the true count stands first
//
// Elements lie back to back behind their heads, and bbolt fills the rest of a
// page that it writes with zeros. So every bit of a page in use is structure, a
// sealed value (table.go), or zero, and this walk judges all of them. What it
// cannot judge is what nobody reads: free pages, and pages behind the last.
//
// bbolt itself has no checksum but on its meta pages. Its own Check follows a
// damaged page in circles or reads outside its map, either of which ends the
// process; this walk does neither, and it reads the file, not the map.
const (
	boltMagic       = 0xED0CDAED
	boltPageHeader  = 16
	boltMetaBytes   = 64
	boltBranchPage  = 0x01
	boltLeafPage    = 0x02
	boltMetaPage    = 0x04
	boltFreePage    = 0x10
	boltBucketEntry = 0x01
	boltElement     = 16
	boltBucketHead  = 16
	boltMaxDepth    = 64
)

// boltMeta is one state of the file.
type boltMeta struct {
	pageSize  uint64
	root      uint64
	freelist  uint64
	highWater uint64 // number of pages in use, free ones included
	txid      uint64
}

func pageDamage(offset int64, format string, args ...any) *DataLossError {
	return &DataLossError{Height: None, Index: None, File: dbName, Offset: offset, What: fmt.Sprintf(format, args...)}
}

// checkPages checks the whole file at rest: each page is either used once or
// free, lies in the file, and holds its keys in order, every value has its seal,
// and each table as many as were committed. The error is the first problem; with
// structureOnly, the first with a page.
func checkPages(path string, structureOnly bool) error {
	f, err := os.Open(path)
	if scarce(err) {
		return fmt.Errorf("%s: %w: %w", dbName, ErrScarce, err)
	}
	if err != nil {
		return &DataLossError{Height: None, Index: None, File: dbName, Offset: None, What: "the database cannot be opened", Cause: err}
	}
	defer f.Close() //nolint:errcheck // only read from.
	return checkPagesFrom(f, structureOnly)
}

func checkPagesFrom(f io.ReaderAt, structureOnly bool) error {
	meta, err := readMetaFrom(f)
	if err != nil {
		return err
	}
	w, err := walkPages(f, meta)
	if w.later != nil {
		return w.later
	}
	if err == nil && len(w.problems) > 0 && !structureOnly {
		err = w.problems[0]
	}
	return err
}

// checkLivePages is checkPages while commits go on: a read transaction keeps
// the pages of one state from being reused. The walk has the problems with
// values; the error is one with the pages that hold them.
func (s *Store) checkLivePages() (*pageWalk, error) {
	f, err := os.Open(s.db.Path())
	if err != nil {
		return nil, fmt.Errorf("check pages: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from.
	meta, tx, err := s.pin(f)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // a read transaction has nothing to lose.
	return walkPages(f, meta)
}

// pin begins a read transaction and reads the meta page that it stands on.
func (s *Store) pin(f io.ReaderAt) (boltMeta, *bbolt.Tx, error) {
	s.writing.Lock() // no commit between the two
	defer s.writing.Unlock()
	if s.closed {
		return boltMeta{}, nil, ErrClosed
	}
	meta, err := readMetaFrom(f)
	if err != nil {
		return meta, nil, err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return meta, nil, fmt.Errorf("check pages: %w", err)
	}
	if got := uint64(tx.ID()); got != meta.txid {
		return meta, nil, errJoinRollback(tx, pageDamage(0, "the newest transaction on disk is %d, in memory %d", meta.txid, got))
	}
	return meta, tx, nil
}

func errJoinRollback(tx *bbolt.Tx, err error) error {
	_ = tx.Rollback() // a read transaction has nothing to lose
	return err
}

// pageWalk visits each page of one state of the file, and each value.
type pageWalk struct {
	file io.ReaderAt
	meta boltMeta
	used []uint64 // bit set of page ids
	// strange is damage if this program wrote the store: a table that it has not.
	strange error
	tally
}

func walkPages(f io.ReaderAt, meta boltMeta) (*pageWalk, error) {
	w := &pageWalk{file: f, meta: meta, tally: tally{counts: make(map[table]uint64)}}
	if end, err := f.ReadAt(make([]byte, 1), int64(meta.highWater*meta.pageSize)-1); meta.highWater > 1<<40 || end != 1 {
		lost := pageDamage(0, "the file ends before page %d", meta.highWater)
		lost.Cause = err
		return w, lost
	}
	w.used = make([]uint64, meta.highWater/64+1)
	w.used[0] = 0b11 // the meta pages
	if err := w.tree(meta.root, nil, nil, "", 0); err != nil {
		return w, err
	}
	if w.later == nil && w.strange != nil {
		return w, w.strange
	}
	if err := w.free(); err != nil {
		return w, err
	}
	for id := range meta.highWater {
		if w.used[id/64]>>(id%64)&1 == 0 {
			return w, pageDamage(w.offset(id), "page %d is neither used nor free", id)
		}
	}
	w.check()
	return w, nil
}

func (w *pageWalk) offset(id uint64) int64 { return int64(id * w.meta.pageSize) }

func (w *pageWalk) claim(id uint64) error {
	if id < 2 || id >= w.meta.highWater {
		return pageDamage(None, "page %d is referred to, there are %d", id, w.meta.highWater)
	}
	if w.used[id/64]>>(id%64)&1 == 1 {
		return pageDamage(w.offset(id), "page %d is used twice, or used and free", id)
	}
	w.used[id/64] |= 1 << (id % 64)
	return nil
}

// page claims and reads a page with its overflow.
func (w *pageWalk) page(id uint64) ([]byte, error) {
	if err := w.claim(id); err != nil {
		return nil, err
	}
	b := make([]byte, w.meta.pageSize)
	if _, err := w.file.ReadAt(b, w.offset(id)); err != nil {
		lost := pageDamage(w.offset(id), "page %d cannot be read", id)
		lost.Cause = err
		return nil, lost
	}
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	if got := binary.NativeEndian.Uint64(b); got != id || overflow >= w.meta.highWater-id {
		return nil, pageDamage(w.offset(id), "page %d says that it is page %d with %d more", id, got, overflow)
	}
	for i := range overflow {
		if err := w.claim(id + 1 + i); err != nil {
			return nil, err
		}
	}
	if overflow > 0 {
		b = make([]byte, (overflow+1)*w.meta.pageSize)
		if _, err := w.file.ReadAt(b, w.offset(id)); err != nil {
			lost := pageDamage(w.offset(id), "page %d cannot be read", id)
			lost.Cause = err
			return nil, lost
		}
	}
	return b, nil
}

// tree walks the tree under a page, of a table or, without a name, of the list
// of tables; all its keys must lie in [low, high), nil being open, and the first
// must be low.
func (w *pageWalk) tree(id uint64, low, high []byte, t table, depth int) error {
	b, err := w.page(id)
	if err != nil {
		return err
	}
	end, err := w.elements(id, b, low, high, t, depth)
	if err == nil && !zeros(b[end:]) {
		err = pageDamage(w.offset(id), "page %d: there are bytes behind its last element", id)
	}
	return err
}

// elements walks a page's elements and returns where they end.
func (w *pageWalk) elements(id uint64, b, low, high []byte, t table, depth int) (end int, err error) {
	fail := func(format string, args ...any) (int, error) {
		return 0, pageDamage(w.offset(id), "page %d: %s", id, fmt.Sprintf(format, args...))
	}
	flags, count := binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	if flags != boltBranchPage && flags != boltLeafPage {
		return fail("its type is %#x, want a branch or a leaf", flags)
	}
	if depth > boltMaxDepth || boltPageHeader+count*boltElement > len(b) || (flags == boltBranchPage && count == 0) {
		return fail("it has %d elements at depth %d", count, depth)
	}
	keys, end, err := elementKeys(b, flags, count)
	if err != nil {
		return fail("%v", err)
	}
	for i, key := range keys {
		if (i > 0 && bytes.Compare(keys[i-1], key) >= 0) || (high != nil && bytes.Compare(key, high) >= 0) {
			return fail("key %q is out of order", key)
		}
		if i == 0 && low != nil && !bytes.Equal(key, low) {
			return fail("its first key is %q, the page above says %q", key, low)
		}
	}
	for i, key := range keys {
		at := boltPageHeader + i*boltElement
		if flags == boltBranchPage {
			next := high
			if i+1 < count {
				next = keys[i+1]
			}
			if err := w.tree(binary.NativeEndian.Uint64(b[at+8:]), key, next, t, depth+1); err != nil {
				return 0, err
			}
			continue
		}
		begin := at + int(binary.NativeEndian.Uint32(b[at+4:])) + len(key)
		value := b[begin:][:binary.NativeEndian.Uint32(b[at+12:])]
		switch entry := binary.NativeEndian.Uint32(b[at:]); {
		case t == "" && entry == boltBucketEntry:
			if err := w.bucket(id, table(key), value, depth); err != nil {
				return 0, err
			}
		case t == "" || entry != 0:
			return fail("key %q has flags %#x", key, entry)
		default:
			w.value(t, key, value, w.offset(id))
		}
	}
	return end, nil
}

// bucket walks a table, which may be inline in the page that names it.
func (w *pageWalk) bucket(id uint64, t table, value []byte, depth int) error {
	if !slices.Contains(tables, t) && w.strange == nil {
		w.strange = pageDamage(w.offset(id), "page %d: there is a table %q", id, t) // unless a later program wrote it
	}
	if len(value) < boltBucketHead || !zeros(value[8:boltBucketHead]) {
		return pageDamage(w.offset(id), "page %d: the root of table %s has %d bytes, or a sequence", id, t, len(value))
	}
	root, inline := binary.NativeEndian.Uint64(value), value[boltBucketHead:]
	if root != 0 {
		if len(inline) > 0 {
			return pageDamage(w.offset(id), "page %d: table %s has a page and is inline", id, t)
		}
		return w.tree(root, nil, nil, t, depth+1)
	}
	if len(inline) < boltPageHeader || binary.NativeEndian.Uint16(inline[8:]) != boltLeafPage || !zeros(inline[:8]) || !zeros(inline[12:boltPageHeader]) {
		return pageDamage(w.offset(id), "page %d: the inline table %s is malformed", id, t)
	}
	end, err := w.elements(id, inline, nil, nil, t, depth+1)
	if err == nil && end != len(inline) {
		err = pageDamage(w.offset(id), "page %d: the inline table %s has %d bytes, its elements end at %d", id, t, len(inline), end)
	}
	return err
}

// elementKeys returns the keys of a page after checking that keys and values
// lie back to back behind the elements' heads, and where they end.
func elementKeys(b []byte, flags uint16, count int) (keys [][]byte, end int, err error) {
	keys = make([][]byte, count)
	end = boltPageHeader + count*boltElement
	for i := range keys {
		at := boltPageHeader + i*boltElement
		var pos, keySize, valueSize int
		if flags == boltBranchPage {
			pos, keySize = int(binary.NativeEndian.Uint32(b[at:])), int(binary.NativeEndian.Uint32(b[at+4:]))
		} else {
			pos, keySize = int(binary.NativeEndian.Uint32(b[at+4:])), int(binary.NativeEndian.Uint32(b[at+8:]))
			valueSize = int(binary.NativeEndian.Uint32(b[at+12:]))
		}
		if at+pos != end || end+keySize+valueSize > len(b) {
			return nil, 0, fmt.Errorf("element %d spans bytes %d to %d of %d, the one before ends at %d", i, at+pos, at+pos+keySize+valueSize, len(b), end)
		}
		keys[i] = b[end:][:keySize]
		end += keySize + valueSize
	}
	return keys, end, nil
}

// free claims the freelist's pages and the pages in it.
func (w *pageWalk) free() error {
	b, err := w.page(w.meta.freelist)
	if err != nil {
		return err
	}
	at, count := boltPageHeader, uint64(binary.NativeEndian.Uint16(b[10:]))
	if count == 0xFFFF {
		count = binary.NativeEndian.Uint64(b[at:])
		at += 8
	}
	if binary.NativeEndian.Uint16(b[8:]) != boltFreePage || count > uint64(len(b)-at)/8 {
		return pageDamage(w.offset(w.meta.freelist), "the list of free pages is malformed")
	}
	for i := range int(count) {
		if err := w.claim(binary.NativeEndian.Uint64(b[at+8*i:])); err != nil {
			return err
		}
	}
	if !zeros(b[at+8*int(count):]) {
		return pageDamage(w.offset(w.meta.freelist), "there are bytes behind the list of free pages")
	}
	return nil
}
