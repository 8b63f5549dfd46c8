package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"path/filepath"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A full segment is packed: its records and its raw vectors move into a file of
// each kind, in groups that are read alone. Numbers are big-endian.
//
//	file    = header group* index trailer
//	header  = "LACREPAK" version[4]=1 segment[4] kind[1] compression[1]
//	index   = for each group: firstLeaf[8] stored[4] length[4] crc[4]
//	trailer = groups[4] crc[4]
//
// A group takes stored bytes, and holds length bytes of content: the same with
// compression 0 (raw vectors, which their meters compressed), one zstd frame
// (RFC 8878) without a dictionary with compression 1 (records). Content is
//
//	content = for each item: step uvarint, length uvarint, bytes[length]
//
// step is the item's leaf index less the one before, and 0 for the first, whose
// leaf is the group's firstLeaf. A group's crc is CRC-32C over segment, kind,
// firstLeaf and the stored bytes; the trailer's over header, index and groups.
// Groups lie back to back, so the index says where each begins.
const (
	packedMagic        = "LACREPAK"
	packedVersion      = 1
	packedHeaderBytes  = 18
	packedEntryBytes   = 20
	packedTrailerBytes = 8

	// packedGroupBytes ends a group: what one read at random unpacks.
	packedGroupBytes = 16 << 10
	// maxGroupBytes bounds what a damaged index can make a reader allocate: an
	// item of the greatest size gets a group to itself.
	maxGroupBytes = maxFrameBytes + 32
)

// compression says how the groups of a packed file are stored.
type compression byte

const (
	compressionNone compression = 0
	compressionZstd compression = 1
)

// compressionOf is what this program packs a kind with.
func compressionOf(k kind) compression {
	if k == kindRecord {
		return compressionZstd
	}
	return compressionNone
}

// packedKinds are the files of a packed segment.
var packedKinds = [...]kind{kindRecord, kindRawVector}

// packedName is relative to the store's directory, with forward slashes.
func packedName(number uint32, k kind) string {
	return path.Join(segmentsDir, fmt.Sprintf("%010d%s", number, packedSuffix(k)))
}

func packedSuffix(k kind) string {
	if k == kindRawVector {
		return ".raw"
	}
	return ".rec"
}

func packedPath(dir string, number uint32, k kind) string {
	return filepath.Join(dir, filepath.FromSlash(packedName(number, k)))
}

func packedHeader(number uint32, k kind, c compression) []byte {
	b := append(make([]byte, 0, packedHeaderBytes), packedMagic...)
	b = binary.BigEndian.AppendUint32(b, packedVersion)
	b = binary.BigEndian.AppendUint32(b, number)
	return append(b, byte(k), byte(c))
}

// packedGroup is one entry of the index, and where its group begins.
type packedGroup struct {
	first  uint64 // leaf of its first item
	stored uint32 // bytes in the file
	length uint32 // bytes of its content
	crc    uint32
	at     int64 // in the file
}

// packedIndex says what lies where in a packed file.
type packedIndex struct {
	number      uint32
	kind        kind
	compression compression
	groups      []packedGroup // ascending by first
}

func (x *packedIndex) groupCRC(first uint64, stored []byte) uint32 {
	b := binary.BigEndian.AppendUint32(nil, x.number)
	b = binary.BigEndian.AppendUint64(append(b, byte(x.kind)), first)
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, stored)
}

// end is where the last group ends and the index begins.
func (x *packedIndex) end() int64 {
	if n := len(x.groups); n > 0 {
		return x.groups[n-1].at + int64(x.groups[n-1].stored)
	}
	return packedHeaderBytes
}

// size is the length of the whole file.
func (x *packedIndex) size() int64 {
	return x.end() + int64(len(x.groups))*packedEntryBytes + packedTrailerBytes
}

// encode is what stands behind the groups.
func (x *packedIndex) encode() []byte {
	b := make([]byte, 0, len(x.groups)*packedEntryBytes+packedTrailerBytes)
	for _, g := range x.groups {
		b = binary.BigEndian.AppendUint64(b, g.first)
		b = binary.BigEndian.AppendUint32(b, g.stored)
		b = binary.BigEndian.AppendUint32(b, g.length)
		b = binary.BigEndian.AppendUint32(b, g.crc)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(x.groups)))
	sum := crc32.Checksum(packedHeader(x.number, x.kind, x.compression), castagnoli)
	return binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, b))
}

// packedTrailer reads the number of groups from a file's last bytes; entries
// says how many bytes of index stand before them in a file of size bytes.
func packedTrailer(b []byte, size int64) (entries int64, err error) {
	groups := int64(binary.BigEndian.Uint32(b))
	entries = groups * packedEntryBytes
	if size < packedHeaderBytes+entries+packedTrailerBytes {
		return 0, fmt.Errorf("%d groups are announced in %d bytes", groups, size)
	}
	return entries, nil
}

// decodePackedIndex reads what encode wrote, of a file of size bytes that
// begins with header. Only what this program writes for the kind is accepted.
func decodePackedIndex(number uint32, k kind, header, tail []byte, size int64) (*packedIndex, error) {
	x := &packedIndex{number: number, kind: k, compression: compressionOf(k)}
	if want := packedHeader(number, k, x.compression); !bytes.Equal(header, want) {
		return nil, fmt.Errorf("the header is %x, want %x", header, want)
	}
	x.groups = make([]packedGroup, 0, len(tail)/packedEntryBytes)
	at := int64(packedHeaderBytes)
	for r := tail; len(r) > packedTrailerBytes; r = r[packedEntryBytes:] {
		g := packedGroup{
			first: binary.BigEndian.Uint64(r), stored: binary.BigEndian.Uint32(r[8:]),
			length: binary.BigEndian.Uint32(r[12:]), crc: binary.BigEndian.Uint32(r[16:]), at: at,
		}
		n := len(x.groups)
		if g.stored == 0 || g.length == 0 || g.length > maxGroupBytes || (n > 0 && g.first <= x.groups[n-1].first) {
			return nil, fmt.Errorf("group %d of the index is malformed: leaf %d, %d bytes of %d", n, g.first, g.stored, g.length)
		}
		x.groups = append(x.groups, g)
		at += int64(g.stored)
	}
	if x.size() != size {
		return nil, fmt.Errorf("the groups of the index end at byte %d, the file has %d bytes, want %d", at, size, x.size())
	}
	if want := x.encode(); !bytes.Equal(tail, want) {
		return nil, errors.New("the index does not have its checksum")
	}
	return x, nil
}

// find returns the group that would hold a leaf's item.
func (x *packedIndex) find(leaf uint64) (int, bool) {
	n := sort.Search(len(x.groups), func(i int) bool { return x.groups[i].first > leaf })
	return n - 1, n > 0
}

// unpackGroup checks a group's stored bytes and returns its content.
func (x *packedIndex) unpackGroup(n int, stored []byte) ([]byte, error) {
	g := x.groups[n]
	if got := x.groupCRC(g.first, stored); got != g.crc {
		return nil, fmt.Errorf("the group has checksum %08x, its bytes give %08x", g.crc, got)
	}
	content := stored
	if x.compression == compressionZstd {
		var err error
		// The capacity bounds what is written, whatever the frame says.
		if content, err = unzstd().DecodeAll(stored, make([]byte, 0, g.length)); err != nil {
			return nil, fmt.Errorf("the group cannot be decompressed: %w", err)
		}
	}
	if len(content) != int(g.length) {
		return nil, fmt.Errorf("the group has %d bytes, the index says %d", len(content), g.length)
	}
	return content, nil
}

// items calls yield for each item of a group's content, in order, until it
// returns false. The bytes are of the content.
func items(first uint64, content []byte, yield func(leaf uint64, b []byte) bool) error {
	leaf := first
	for r, n := content, 0; len(r) > 0; n++ {
		step, a := binary.Uvarint(r)
		if a <= 0 || (n == 0) != (step == 0) || leaf+step < leaf {
			return fmt.Errorf("item %d of the group is malformed", n)
		}
		r = r[a:]
		length, a := binary.Uvarint(r)
		if a <= 0 || length == 0 || length > uint64(len(r)-a) {
			return fmt.Errorf("item %d of the group is malformed", n)
		}
		leaf += step
		if !yield(leaf, r[a:][:length:length]) {
			return nil
		}
		r = r[a+int(length):]
	}
	return nil
}

// appendItem appends what items reads.
func appendItem(content []byte, step uint64, b []byte) []byte {
	content = binary.AppendUvarint(content, step)
	content = binary.AppendUvarint(content, uint64(len(b)))
	return append(content, b...)
}

// unzstd is the decoder of all stores; DecodeAll may be called concurrently.
var unzstd = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxGroupBytes))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})
