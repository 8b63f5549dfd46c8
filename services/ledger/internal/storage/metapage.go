package storage

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
)

// readMetaFrom reads both meta pages and returns the newer. Both must be sound and
// of consecutive transactions: bbolt writes one sector of one of them as the
// last step of each commit, so not even a crash leaves one of them damaged.
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
	cannot := func(err error) (boltMeta, error) {
		lost := pageDamage(offset, "meta page %d cannot be read", id)
		lost.Cause = err
		return boltMeta{}, lost
	}
	b := make([]byte, boltPageHeader+boltMetaBytes)
	if _, err := f.ReadAt(b, offset); err != nil {
		return cannot(err)
	}
	body := b[boltPageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(body[:boltMetaBytes-8]) // a hash never fails
	switch want := binary.NativeEndian.Uint64(body[boltMetaBytes-8:]); {
	case binary.NativeEndian.Uint32(body) != boltMagic:
		return boltMeta{}, pageDamage(offset, "meta page %d does not begin as a bbolt file", id)
	case want != sum.Sum64():
		return boltMeta{}, pageDamage(offset, "meta page %d has checksum %016x, its bytes give %016x", id, want, sum.Sum64())
	case binary.NativeEndian.Uint64(b) != id || binary.NativeEndian.Uint16(b[8:]) != boltMetaPage || !zeros(b[10:boltPageHeader]):
		return boltMeta{}, pageDamage(offset, "meta page %d says that it is page %d, its head is %x", id, binary.NativeEndian.Uint64(b), b[:boltPageHeader])
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
	rest := make([]byte, m.pageSize-uint64(len(b)))
	if _, err := f.ReadAt(rest, offset+int64(len(b))); err != nil {
		return cannot(err)
	}
	if !zeros(rest) {
		return boltMeta{}, pageDamage(offset, "meta page %d has bytes behind its content", id)
	}
	return m, nil
}

func zeros(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
