package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// Segment files hold frames, one for each leaf and each raw vector, in the
// order of the leaves, a raw vector behind its leaf. All numbers are
// big-endian.
//
//	file  = "LACRESEG" version[4]=1 number[4] frame*
//	frame = length[4] crc[4] kind[1] leafIndex[8] bytes[length]
//
// crc is CRC-32C over length, kind, leafIndex and bytes. The leaf index makes a
// misplaced frame visible, and the files readable without bbolt.
const (
	segmentsDir        = "segments"
	segmentMagic       = "LACRESEG"
	segmentSuffix      = ".seg"
	segmentVersion     = 1
	segmentHeaderBytes = 16
	frameHeaderBytes   = 17

	// maxFrameBytes bounds what a damaged length can make a reader allocate.
	maxFrameBytes = 16 << 20
	// flushBytes is how much is gathered before it is handed to the kernel.
	flushBytes = 1 << 20
)

// kind says what a frame holds.
type kind byte

const (
	kindRecord    kind = 1
	kindRawVector kind = 2
)

func (k kind) String() string {
	switch k {
	case kindRecord:
		return "record"
	case kindRawVector:
		return "raw vector"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// position is a place between frames.
type position struct {
	segment uint32 // from 1
	offset  int64
}

// after reports whether p lies behind q.
func (p position) after(q position) bool {
	return p.segment > q.segment || (p.segment == q.segment && p.offset > q.offset)
}

// frame says where one frame lies.
type frame struct {
	at     position
	length uint32 // of its bytes, without the header
}

func (f frame) end() position {
	return position{segment: f.at.segment, offset: f.at.offset + frameHeaderBytes + int64(f.length)}
}

// segmentName is relative to the store's directory, with forward slashes.
func segmentName(number uint32) string {
	return path.Join(segmentsDir, fmt.Sprintf("%010d%s", number, segmentSuffix))
}

func segmentPath(dir string, number uint32) string {
	return filepath.Join(dir, filepath.FromSlash(segmentName(number)))
}

func segmentHeader(number uint32) []byte {
	b := append(make([]byte, 0, segmentHeaderBytes), segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, segmentVersion)
	return binary.BigEndian.AppendUint32(b, number)
}

func frameCRC(header, content []byte) uint32 {
	sum := crc32.Update(0, castagnoli, header[:4])
	sum = crc32.Update(sum, castagnoli, header[8:frameHeaderBytes])
	return crc32.Update(sum, castagnoli, content)
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, k kind, leaf uint64, content []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	b = append(b, 0, 0, 0, 0, byte(k))
	b = binary.BigEndian.AppendUint64(b, leaf)
	binary.BigEndian.PutUint32(b[start+4:], frameCRC(b[start:], content))
	return append(b, content...)
}

// tail is the end of the newest segment, where frames are appended. It is not
// safe for concurrent use. After an error it is of no further use.
type tail struct {
	dir     string
	disk    disk
	limit   int64       // a segment is full when the next frame would pass it
	file    segmentFile // nil before the first segment
	end     position    // where the next frame goes, buffered bytes included
	buffer  []byte      // not yet written
	written int64       // length of the file as written
}

// append adds a frame and says where it will lie, on disk after sync only. A
// frame that is larger than a whole segment gets one to itself.
func (t *tail) append(k kind, leaf uint64, content []byte) (frame, error) {
	size := frameHeaderBytes + int64(len(content))
	if t.file == nil || (t.end.offset+size > t.limit && t.end.offset > segmentHeaderBytes) {
		if err := t.roll(); err != nil {
			return frame{}, err
		}
	}
	f := frame{at: t.end, length: uint32(len(content))}
	t.buffer = appendFrame(t.buffer, k, leaf, content)
	t.end = f.end()
	if len(t.buffer) >= flushBytes {
		return f, t.flush()
	}
	return f, nil
}

// roll closes the segment for ever and starts the next.
func (t *tail) roll() error {
	if t.file != nil {
		if err := t.sync(); err != nil {
			return err
		}
		if err := t.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", segmentName(t.end.segment), err)
		}
		t.file = nil
	}
	number := t.end.segment + 1
	file, err := t.disk.Create(segmentPath(t.dir, number))
	if err != nil {
		return err
	}
	t.file = file
	// The new name must be durable before a transaction refers to it.
	if err := t.disk.SyncDir(filepath.Join(t.dir, segmentsDir)); err != nil {
		return err
	}
	t.buffer = append(t.buffer, segmentHeader(number)...)
	t.end, t.written = position{segment: number, offset: segmentHeaderBytes}, 0
	return nil
}

func (t *tail) flush() error {
	if len(t.buffer) == 0 {
		return nil
	}
	if _, err := t.file.WriteAt(t.buffer, t.written); err != nil {
		return fmt.Errorf("append to %s at byte %d: %w", segmentName(t.end.segment), t.written, err)
	}
	t.written += int64(len(t.buffer))
	t.buffer = t.buffer[:0]
	return nil
}

// sync makes everything appended durable.
func (t *tail) sync() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.file.Sync()
}

// frames reads frames during one call; it keeps the last file open, because
// neighbours are asked for together. It is not safe for concurrent use.
type frames struct {
	dir    string
	packed *packed // nil: every segment is plain
	fresh  bool    // never use what was read before: for verifying
	shared bool    // use and fill the memory that readers of packed segments share
	number uint32  // of file
	file   *os.File
	packs  map[kind]*packedFile // of packed segments, the last opened of each kind
}

func (r *frames) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
		r.file = nil
	}
	for k, f := range r.packs {
		f.close()
		delete(r.packs, k)
	}
}

// scarce says whether a file was not opened for want of something that others
// use up: descriptors or memory.
func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// open makes number the open segment and checks its header.
func (r *frames) open(number uint32) error {
	if r.file != nil && r.number == number {
		return nil
	}
	if r.file != nil {
		_ = r.file.Close() // only read from
		r.file = nil
	}
	lost := &DataLossError{Height: None, Index: None, File: segmentName(number), Offset: 0}
	file, err := os.Open(segmentPath(r.dir, number))
	if scarce(err) {
		return fmt.Errorf("%s: %w: %w", segmentName(number), ErrScarce, err)
	}
	if err != nil {
		lost.What, lost.Cause = "the segment cannot be opened", err
		return lost
	}
	header := make([]byte, segmentHeaderBytes)
	if _, err := file.ReadAt(header, 0); err != nil {
		_ = file.Close()
		lost.What, lost.Cause = "the segment's header cannot be read", err
		return lost
	}
	if want := segmentHeader(number); !bytes.Equal(header, want) {
		_ = file.Close()
		lost.What = fmt.Sprintf("the segment's header is %x, want %x", header, want)
		return lost
	}
	r.file, r.number = file, number
	return nil
}

// read returns a frame's bytes. When the frame is damaged it also returns
// whatever bytes are there, so that their digest can be shown; the error is a
// *DataLossError without a height.
func (r *frames) read(f frame, k kind, leaf uint64) ([]byte, error) {
	if r.isPacked(f.at.segment) {
		return r.readPacked(f, k, leaf)
	}
	lost := &DataLossError{
		Height: None, Index: int64(leaf),
		File: segmentName(f.at.segment), Offset: f.at.offset,
	}
	if err := r.open(f.at.segment); err != nil {
		if missing(err) && r.isPacked(f.at.segment) { // it was packed meanwhile
			return r.readPacked(f, k, leaf)
		}
		var segment *DataLossError
		if errors.As(err, &segment) {
			lost.What, lost.Cause, lost.Offset = segment.What, segment.Cause, segment.Offset
			return nil, lost
		}
		return nil, err
	}
	b := make([]byte, frameHeaderBytes+int(f.length))
	if n, err := r.file.ReadAt(b, f.at.offset); err != nil {
		lost.What = fmt.Sprintf("the %s's frame has %d bytes, %d can be read", k, len(b), n)
		if !errors.Is(err, io.EOF) {
			lost.Cause = err
		}
		return nil, lost
	}
	header, content := b[:frameHeaderBytes], b[frameHeaderBytes:]
	length, sum := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[4:])
	gotKind, gotLeaf := kind(header[8]), binary.BigEndian.Uint64(header[9:])
	switch got := frameCRC(header, content); {
	case length != f.length || gotKind != k || gotLeaf != leaf:
		lost.What = fmt.Sprintf("want a %s of leaf %d with %d bytes, the frame says %s of leaf %d with %d bytes",
			k, leaf, f.length, gotKind, gotLeaf, length)
	case sum != got:
		lost.What = fmt.Sprintf("the %s's frame has checksum %08x, its bytes give %08x", k, sum, got)
	default:
		return content, nil
	}
	return content, lost
}

func (r *frames) isPacked(number uint32) bool {
	return r.packed != nil && number <= r.packed.count.Load()
}

// readPacked is read of a segment that is packed.
func (r *frames) readPacked(f frame, k kind, leaf uint64) ([]byte, error) {
	b, err := r.readItem(f, k, leaf)
	var lost *DataLossError
	if errors.As(err, &lost) && lost.Index == None {
		lost.Index = int64(leaf)
	}
	return b, err
}

func (r *frames) readItem(f frame, k kind, leaf uint64) ([]byte, error) {
	shared := r.shared || (!r.fresh && r.packed.isCold(f.at.segment, k)) // asking is dear
	file := r.packs[k]
	if file == nil || file.index.number != f.at.segment {
		if file != nil {
			file.close()
			delete(r.packs, k)
		}
		var err error
		if file, err = r.packed.open(f.at.segment, k, shared); err != nil {
			return nil, err
		}
		if r.packs == nil {
			r.packs = make(map[kind]*packedFile, len(packedKinds))
		}
		r.packs[k] = file
	}
	return file.read(r.packed, leaf, f.length, shared)
}
