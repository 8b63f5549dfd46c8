package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/tlog"
	"go.etcd.io/bbolt"
)

// A block value, whatever its bytes, is refused or can be read to the end.
func FuzzDecodeBlock(f *testing.F) {
	m := newMaker(f, 40)
	for i := range 4 {
		b := m.block(i, 100, 50)
		at := position{segment: 1, offset: segmentHeaderBytes}
		leaf, raw := make([]frame, len(b.Leaves)), make([]frame, len(b.Leaves))
		for j := range b.Leaves {
			leaf[j] = frame{at: at, length: uint32(len(b.Leaves[j]))}
			at = position{segment: at.segment + 1, offset: segmentHeaderBytes}
		}
		value, _, err := encodeBlock(&b, leaf, raw)
		must(f, err)
		f.Add(value[sealBytes:])
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		b, err := decodeBlock(7, v)
		if err != nil {
			var lost *DataLossError
			if !errors.As(err, &lost) {
				t.Fatal(err)
			}
			return
		}
		n := 0
		if b.place(func(int, placed) bool { n++; return true }) == nil && n != b.leaves() {
			t.Fatalf("%d of %d leaves are placed", n, b.leaves())
		}
		for level := uint(0); level < 63; level++ {
			for index := b.ref.FirstIndex >> level; index < b.ref.Size>>level; index++ {
				if id := (tlog.NodeID{Level: level, Index: index}); lastLeaf(id) >= b.ref.FirstIndex {
					_ = b.node(id)
				}
			}
		}
	})
}

func FuzzDecodeTip(f *testing.F) {
	t := tip{blocks: 3, size: 9, end: position{1, 40}, applied: 4, lock: Lock{Height: 2, Size: 9}, cosignature: []byte("line\n")}
	f.Add(t.encode()[sealBytes:])
	for version := byte(1); version < tipVersion; version++ {
		f.Add(append([]byte{version}, t.encode()[sealBytes+1:]...))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		decoded, err := decodeTip(append([]byte{}, v...))
		if err != nil {
			return
		}
		again := decoded.encode()[sealBytes:]
		if n := tipFixedBytes + laterFields(v[0]); v[0] < tipVersion { // it has fewer numbers
			again = append([]byte{v[0]}, append(again[1:n:n], again[tipFixedBytes+laterFields(tipVersion):]...)...)
		}
		if !bytes.Equal(again, v) {
			t.Fatalf("%x encodes as %x", v, again)
		}
	})
}

// A segment, whatever its bytes, gives a frame as it was written or an error.
func FuzzReadFrame(f *testing.F) {
	good := appendFrame(segmentHeader(1), kindRecord, 7, []byte("the record's bytes"))
	f.Add(good)
	f.Add(good[:20])
	dir := f.TempDir()
	must(f, os.MkdirAll(filepath.Join(dir, segmentsDir), 0o700))
	f.Fuzz(func(t *testing.T, content []byte) {
		must(t, os.WriteFile(segmentPath(dir, 1), content, 0o600))
		r := frames{dir: dir}
		defer r.close()
		b, err := r.read(frame{at: position{1, segmentHeaderBytes}, length: 18}, kindRecord, 7)
		if err == nil && !bytes.HasPrefix(content, appendFrame(segmentHeader(1), kindRecord, 7, b)) {
			t.Fatalf("read %q", b)
		}
	})
}

// Pages, whatever their bytes, are walked to an end without a panic. The input
// is laid over a sound file at an offset.
func FuzzWalkPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	must(f, err)
	must(f, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(tableState))
		for i := range uint64(500) {
			err = errors.Join(err, tableState.put(b, number(i), sealable(bytes.Repeat([]byte{byte(i)}, 20))))
		}
		_, inline := tx.CreateBucket([]byte(tableEntries))
		_, meta := tx.CreateBucket([]byte(tableMeta))
		return errors.Join(err, inline, meta, (&tip{stateKeys: 500}).write(tx), certificateTip{}.write(tx))
	}))
	must(f, db.Close())
	must(f, checkPages(path, false))
	sound, err := os.ReadFile(path)
	must(f, err)
	for page := range uint16(len(sound) / os.Getpagesize()) {
		at := int(page) * os.Getpagesize()
		f.Add(uint32(at), sound[at:at+64])
	}
	f.Add(uint32(3*os.Getpagesize()+boltPageHeader+8), number(3))
	f.Fuzz(func(t *testing.T, at uint32, over []byte) {
		content := bytes.Clone(sound)
		copy(content[int(at)%len(content):], over)
		meta, err := readMetaFrom(bytes.NewReader(content))
		if err != nil {
			// Let the walk see it all the same, with what the sound file says.
			meta, err = readMetaFrom(bytes.NewReader(sound))
			must(t, err)
		}
		var lost *DataLossError
		if _, err := walkPages(bytes.NewReader(content), meta); err != nil && !errors.As(err, &lost) {
			t.Fatal(err)
		}
	})
}

// A page that names itself as its child sends bbolt in circles for ever; the
// walk says so.
func TestPageThatIsItsOwnChildIsFound(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	m := newMaker(t, 41)
	m.meters = 300
	for range 30 {
		must(t, s.Commit(m.batch(m.block(40, 60, 8))))
	}
	must(t, s.Close())
	path := filepath.Join(dir, dbName)
	content, err := os.ReadFile(path)
	must(t, err)
	found := 0
	for at := 0; at < len(content); at += os.Getpagesize() {
		if binary.NativeEndian.Uint16(content[at+8:]) != boltBranchPage {
			continue
		}
		undo := patch(t, path, int64(at+boltPageHeader+8), binary.NativeEndian.AppendUint64(nil, uint64(at/os.Getpagesize())))
		if err := checkPages(path, false); err != nil {
			found++
		}
		undo()
	}
	must(t, checkPages(path, false))
	if found == 0 {
		t.Fatal("no branch page was in use")
	}
}

// A packed file, whatever its bytes, is refused or read to the end; what is read
// is what would be packed so.
func FuzzReadPacked(f *testing.F) {
	dir := f.TempDir()
	s := mustOpen(f, dir, small())
	fill(f, s, newMaker(f, 42), 10)
	packAll(f, s)
	for _, k := range packedKinds {
		b, err := os.ReadFile(packedPath(dir, 1, k))
		must(f, err)
		f.Add(b, k == kindRecord)
	}
	f.Fuzz(func(t *testing.T, content []byte, records bool) {
		k := kindRawVector
		if records {
			k = kindRecord
		}
		rightChecksums(content, k)
		x, err := readPackedIndex(bytes.NewReader(content), 1, k, int64(len(content)))
		if err != nil {
			return
		}
		if again := x.encode(); !bytes.HasSuffix(content, again) || x.end()+int64(len(again)) != int64(len(content)) {
			t.Fatal("the index is read otherwise than it is written")
		}
		for n, g := range x.groups {
			inside, err := x.unpackGroup(n, content[g.at:][:g.stored])
			if err != nil {
				continue
			}
			var again []byte
			last := g.first
			if items(g.first, inside, func(leaf uint64, b []byte) bool {
				again = appendItem(again, leaf-last, b)
				last = leaf
				return true
			}) == nil && len(again) > len(inside) {
				t.Fatalf("group %d: items of %d bytes in %d", n, len(again), len(inside))
			}
		}
	})
}

// rightChecksums makes a packed file's header and checksums right, so that the
// engine comes behind them.
func rightChecksums(content []byte, k kind) {
	if len(content) < packedHeaderBytes+packedTrailerBytes {
		return
	}
	x := &packedIndex{number: 1, kind: k, compression: compressionOf(k)}
	copy(content, packedHeader(1, k, x.compression))
	entries, err := packedTrailer(content[len(content)-packedTrailerBytes:], int64(len(content)))
	if err != nil {
		return
	}
	tail := content[int64(len(content))-entries-packedTrailerBytes:]
	at := uint64(packedHeaderBytes)
	for e := tail; len(e) > packedTrailerBytes; e = e[packedEntryBytes:] {
		first, stored := binary.BigEndian.Uint64(e), uint64(binary.BigEndian.Uint32(e[8:]))
		if at+stored > uint64(len(content)-len(tail)) {
			return
		}
		binary.BigEndian.PutUint32(e[16:], x.groupCRC(first, content[at:][:stored]))
		at += stored
	}
	sum := crc32.Checksum(content[:packedHeaderBytes], castagnoli)
	binary.BigEndian.PutUint32(tail[len(tail)-4:], crc32.Update(sum, castagnoli, tail[:len(tail)-4]))
}
