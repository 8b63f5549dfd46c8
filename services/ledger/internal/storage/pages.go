package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"

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

// readMeta reads both meta pages and returns the newer. Both must be sound and
// of consecutive transactions: bbolt writes one sector of one of them as the
// last step of each commit, so not even a crash leaves one of them damaged.
func readMeta(path string) (boltMeta, error) {
	f, err := os.Open(path)
	if err != nil {
		return boltMeta{}, &DataLossError{Height: None, Index: None, File: dbName, Offset: None, What: "the database cannot be opened", Cause: err}
	}
	defer f.Close() //nolint:errcheck // only read from.
	return readMetaFrom(f)
}

func readMetaFrom(f io.ReaderAt) (boltMeta, error) {
	first, err := readMetaPage(f, 0, 0)
	if err != nil {
		return boltMeta{}, err
	}
	second, err := readMetaPage(f, 1, int64(first.pageSize))
	if err != nil {
		return boltMeta{}, err
	}
	older, newer := first, second
	if older.txid > newer.txid {
		older, newer = newer, older
	}
	if newer.txid != older.txid+1 || newer.pageSize != older.pageSize {
		return boltMeta{}, pageDamage(0, "the meta pages are of transactions %d and %d, want two in a row", first.txid, second.txid)
	}
	return newer, nil
}

func readMetaPage(f io.ReaderAt, id uint64, offset int64) (boltMeta, error) {
	b := make([]byte, boltPageHeader+boltMetaBytes)
	if _, err := f.ReadAt(b, offset); err != nil {
		lost := pageDamage(offset, "meta page %d cannot be read", id)
		lost.Cause = err
		return boltMeta{}, lost
	}
	body := b[boltPageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(body[:boltMetaBytes-8]) // a hash never fails
	switch want := binary.NativeEndian.Uint64(body[boltMetaBytes-8:]); {
	case binary.NativeEndian.Uint32(body) != boltMagic:
		return boltMeta{}, pageDamage(offset, "meta page %d does not begin as a bbolt file", id)
	case want != sum.Sum64():
		return boltMeta{}, pageDamage(offset, "meta page %d has checksum %016x, its bytes give %016x", id, want, sum.Sum64())
	case binary.NativeEndian.Uint64(b) != id || binary.NativeEndian.Uint16(b[8:]) != boltMetaPage:
		return boltMeta{}, pageDamage(offset, "meta page %d says that it is page %d", id, binary.NativeEndian.Uint64(b))
	}
	m := boltMeta{
		pageSize:  uint64(binary.NativeEndian.Uint32(body[8:])),
		root:      binary.NativeEndian.Uint64(body[16:]),
		freelist:  binary.NativeEndian.Uint64(body[32:]),
		highWater: binary.NativeEndian.Uint64(body[40:]),
		txid:      binary.NativeEndian.Uint64(body[48:]),
	}
	if m.pageSize < 512 || m.pageSize > 1<<20 || m.pageSize&(m.pageSize-1) != 0 {
		return boltMeta{}, pageDamage(offset, "meta page %d gives a page size of %d", id, m.pageSize)
	}
	return m, nil
}

// checkPages checks the structure of the whole file at rest: each page is
// either used once or free, lies in the file, and holds its keys in order.
// Values are not looked at: their seals are checked by Verify.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return &DataLossError{Height: None, Index: None, File: dbName, Offset: None, What: "the database cannot be opened", Cause: err}
	}
	defer f.Close() //nolint:errcheck // only read from.
	meta, err := readMetaFrom(f)
	if err != nil {
		return err
	}
	return walkPages(f, meta)
}

// checkLivePages is checkPages while commits go on: a read transaction keeps
// the pages of one state from being reused.
func (s *Store) checkLivePages() error {
	f, err := os.Open(s.db.Path())
	if err != nil {
		return fmt.Errorf("check pages: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from.
	meta, tx, err := s.pin(f)
	if err != nil {
		return err
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

// pageWalk visits each page of one state of the file.
type pageWalk struct {
	file io.ReaderAt
	meta boltMeta
	used []uint64 // bit set of page ids
}

func walkPages(f io.ReaderAt, meta boltMeta) error {
	if end, err := f.ReadAt(make([]byte, 1), int64(meta.highWater*meta.pageSize)-1); meta.highWater > 1<<40 || end != 1 {
		lost := pageDamage(0, "the file ends before page %d", meta.highWater)
		lost.Cause = err
		return lost
	}
	w := &pageWalk{file: f, meta: meta, used: make([]uint64, meta.highWater/64+1)}
	w.used[0] = 0b11 // the meta pages
	if err := w.tree(meta.root, nil, nil, true, 0); err != nil {
		return err
	}
	if err := w.free(); err != nil {
		return err
	}
	for id := range meta.highWater {
		if w.used[id/64]>>(id%64)&1 == 0 {
			return pageDamage(w.offset(id), "page %d is neither used nor free", id)
		}
	}
	return nil
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

// tree walks the tree under a page; all its keys must lie in [low, high), nil
// being open.
func (w *pageWalk) tree(id uint64, low, high []byte, root bool, depth int) error {
	b, err := w.page(id)
	if err != nil {
		return err
	}
	return w.elements(id, b, low, high, root, depth)
}

func (w *pageWalk) elements(id uint64, b, low, high []byte, root bool, depth int) error {
	fail := func(format string, args ...any) error {
		return pageDamage(w.offset(id), "page %d: %s", id, fmt.Sprintf(format, args...))
	}
	flags, count := binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	if flags != boltBranchPage && flags != boltLeafPage {
		return fail("its type is %#x, want a branch or a leaf", flags)
	}
	if depth > boltMaxDepth || boltPageHeader+count*boltElement > len(b) || (flags == boltBranchPage && count == 0) {
		return fail("it has %d elements at depth %d", count, depth)
	}
	keys, err := w.keys(b, flags, count)
	if err != nil {
		return fail("%v", err)
	}
	for i, key := range keys {
		if (i > 0 && bytes.Compare(keys[i-1], key) >= 0) || (low != nil && bytes.Compare(key, low) < 0) || (high != nil && bytes.Compare(key, high) >= 0) {
			return fail("key %q is out of order", key)
		}
	}
	for i, key := range keys {
		at := boltPageHeader + i*boltElement
		if flags == boltBranchPage {
			next := high
			if i+1 < count {
				next = keys[i+1]
			}
			if err := w.tree(binary.NativeEndian.Uint64(b[at+8:]), key, next, root, depth+1); err != nil {
				return err
			}
			continue
		}
		switch entry := binary.NativeEndian.Uint32(b[at:]); {
		case root && entry == boltBucketEntry:
			pos, keySize := binary.NativeEndian.Uint32(b[at+4:]), binary.NativeEndian.Uint32(b[at+8:])
			value := b[at+int(pos)+int(keySize):][:binary.NativeEndian.Uint32(b[at+12:])]
			if err := w.bucket(id, value, depth); err != nil {
				return err
			}
		case root || entry != 0:
			return fail("key %q has flags %#x", key, entry)
		}
	}
	return nil
}

// bucket walks a table, which may be inline in the page that names it.
func (w *pageWalk) bucket(id uint64, value []byte, depth int) error {
	if len(value) < 16 {
		return pageDamage(w.offset(id), "page %d: a table's root has %d bytes", id, len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.tree(root, nil, nil, false, depth+1)
	}
	inline := value[16:]
	if len(inline) < boltPageHeader || binary.NativeEndian.Uint16(inline[8:]) != boltLeafPage {
		return pageDamage(w.offset(id), "page %d: an inline table is malformed", id)
	}
	return w.elements(id, inline, nil, nil, false, depth+1)
}

// keys returns the keys of a page after checking that every key and value lies
// in it, behind the elements.
func (w *pageWalk) keys(b []byte, flags uint16, count int) ([][]byte, error) {
	keys := make([][]byte, count)
	behind := boltPageHeader + count*boltElement
	for i := range keys {
		at := boltPageHeader + i*boltElement
		var pos, keySize, valueSize int
		if flags == boltBranchPage {
			pos, keySize = int(binary.NativeEndian.Uint32(b[at:])), int(binary.NativeEndian.Uint32(b[at+4:]))
		} else {
			pos, keySize = int(binary.NativeEndian.Uint32(b[at+4:])), int(binary.NativeEndian.Uint32(b[at+8:]))
			valueSize = int(binary.NativeEndian.Uint32(b[at+12:]))
		}
		if at+pos < behind || at+pos+keySize+valueSize > len(b) {
			return nil, fmt.Errorf("element %d spans bytes %d to %d of %d", i, at+pos, at+pos+keySize+valueSize, len(b))
		}
		keys[i] = b[at+pos:][:keySize]
	}
	return keys, nil
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
	return nil
}
