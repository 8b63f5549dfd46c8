package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lacre-metrology/lacre/core/reason"
)

// raft-wal's segment file, as this file reads it (raft-wal v0.4.2, segment;
// numbers little-endian, every frame padded with zeros to 8 bytes):
//
//	file   = magic[4] 0[3] version[1] baseIndex[8] id[8] codec[8] frame* zeros
//	frame  = type[1] 0[3] length[4] bytes[length]   entry 1, index 2 (the offsets of all entries, 4 bytes each)
//	       | 3 0[3] crc[4]                           commit: CRC-32C of all since the commit before, or the beginning
//
// A batch is the frames up to a commit; an append writes one, and acknowledges
// it after fsync. raft-wal takes the first frame that does not fit, and a last
// batch whose checksum is wrong, for an append that a crash interrupted: it goes
// on behind the last good batch and writes over the rest. A flipped bit in an
// early entry would so take all later ones away, acknowledged or not.
const (
	segmentHeaderBytes = 32
	frameHeaderBytes   = 8
	frameEntry         = 1
	frameIndex         = 2
	frameCommit        = 3
	segmentMagic       = 0x58eb6b0d
	sectorBytes        = 512 // a disk writes a sector whole or not at all; a write may end anywhere
)

// checkLog reads every byte of the log's segments before raft-wal does, and
// tells what a crash leaves from what it cannot. An interrupted append is wiped,
// so that behind the last batch there are only zeros; all else that does not
// fit is reason.DataLoss.
//
// Known hole: damage in the last batch looks like an interrupted append when a
// whole sector of that batch is zeros by itself, or when its commit has become
// the head of an entry (tornHead). The batch is then dropped as raft-wal would,
// which rule R2 notices if any of it was applied; otherwise the leader sends it
// again.
func checkLog(dir string, state types.PersistentState, log *slog.Logger) error {
	for i, info := range state.Segments {
		path := filepath.Join(dir, segment.FileName(info))
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && info.SealTime.IsZero() && i == len(state.Segments)-1 {
			continue // a crash came before the file was made; no entry of it was acknowledged
		}
		if err != nil {
			return reason.New(reason.DataLoss, "log segment %s cannot be read: %v", filepath.Base(path), err)
		}
		s := readSegment(b, info)
		if !info.SealTime.IsZero() {
			if err := s.sealed(); err != nil {
				return err
			}
			continue
		}
		if i != len(state.Segments)-1 {
			return s.damage(0, "it is not sealed, and others follow")
		}
		from, err := s.tail()
		if err != nil || from < 0 {
			return err
		}
		log.Warn("raft: wiping what an interrupted append left", "segment", filepath.Base(path), "byte", from)
		if err := wipe(path, int64(from), len(b)-from); err != nil {
			return err
		}
	}
	return nil
}

// wipe writes zeros and makes them durable.
func wipe(path string, from int64, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, n), from)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// logSegment is a segment as far as its batches hold.
type logSegment struct {
	bytes   []byte
	info    types.SegmentInfo
	offsets []uint32 // of the entries in good batches
	index   int      // where the offsets of a sealed segment begin; 0 without
	end     int      // behind the last good batch
	stop    int      // where the frames after it stop making sense
	frame   int      // where the last of them begins
	problem string   // there
}

func readSegment(b []byte, info types.SegmentInfo) *logSegment {
	s := &logSegment{bytes: b, info: info}
	for start := 0; ; start = s.end {
		batch := walkBatch(b, start)
		if batch.problem != "" {
			s.stop, s.frame, s.problem = batch.at, batch.frame, batch.problem
			return s
		}
		s.offsets, s.end = append(s.offsets, batch.offsets...), batch.at
		if batch.index > 0 {
			s.index = batch.index
		}
	}
}

// logBatch is what stands in a segment from one place to the next commit.
type logBatch struct {
	at      int // behind the commit, or the place of what does not fit
	frame   int // where the last frame begins
	offsets []uint32
	index   int    // where the offsets in an index frame begin; 0 without
	problem string // empty if all fits
}

// walkBatch follows the frames from start to a commit.
func walkBatch(b []byte, start int) (w logBatch) {
	w.at = start
	if start == 0 {
		w.at = segmentHeaderBytes
	}
	fail := func(format string, args ...any) logBatch {
		w.problem = fmt.Sprintf(format, args...)
		return w
	}
	for {
		if w.at+frameHeaderBytes > len(b) {
			return fail("the file ends")
		}
		head := b[w.at : w.at+frameHeaderBytes]
		n := int(binary.LittleEndian.Uint32(head[4:]))
		if head[0] < frameEntry || head[0] > frameCommit || head[1]|head[2]|head[3] != 0 {
			return fail("a frame begins with %x", head)
		}
		w.frame = w.at
		switch head[0] {
		case frameCommit:
			if got := crc32.Checksum(b[start:w.at], castagnoli); got != uint32(n) {
				return fail("the batch from byte %d has checksum %08x, its bytes give %08x", start, uint32(n), got)
			}
			w.at += frameHeaderBytes
			return w
		case frameEntry:
			w.offsets = append(w.offsets, uint32(w.at))
		case frameIndex:
			w.index = w.at + frameHeaderBytes
		}
		next := w.at + frameHeaderBytes + (n+7)&^7
		if n > segment.MaxEntrySize || next > len(b) {
			return fail("a frame of %d bytes, the file has %d after it", n, len(b)-w.at-frameHeaderBytes)
		}
		w.at = next
	}
}

// header is the header that the segment must have.
func (s *logSegment) header() []byte {
	b := binary.LittleEndian.AppendUint64(nil, segmentMagic) // version 0
	for _, n := range []uint64{s.info.BaseIndex, s.info.ID, s.info.Codec} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// damage names the place and the first entry that is not known to be good.
func (s *logSegment) damage(at int, what string) error {
	return reason.New(reason.DataLoss, "log segment %s, byte %d, entries from %d on: %s",
		segment.FileName(s.info), at, s.info.BaseIndex+uint64(len(s.offsets)), what)
}

// sealed checks a full segment: all of it holds, with the index at its end.
func (s *logSegment) sealed() error {
	if len(s.bytes) < segmentHeaderBytes || !bytes.Equal(s.bytes[:segmentHeaderBytes], s.header()) {
		return s.damage(0, fmt.Sprintf("its header is %x, want %x", s.bytes[:min(segmentHeaderBytes, len(s.bytes))], s.header()))
	}
	if last := lastNonZero(s.bytes); last >= s.end {
		return s.damage(s.stop, s.problem)
	}
	if s.index == 0 || uint64(s.index) != s.info.IndexStart || s.info.MaxIndex-s.info.BaseIndex >= uint64(len(s.offsets)) {
		return s.damage(s.end, fmt.Sprintf("it has %d entries and its index at byte %d, want one up to entry %d, at byte %d",
			len(s.offsets), s.index, s.info.MaxIndex, s.info.IndexStart))
	}
	return nil
}

// tail checks the newest segment; from is where an interrupted append is to be
// wiped, or -1.
func (s *logSegment) tail() (from int, err error) {
	if s.end > 0 && !bytes.Equal(s.bytes[:segmentHeaderBytes], s.header()) {
		return -1, s.damage(0, fmt.Sprintf("its header is %x, want %x", s.bytes[:segmentHeaderBytes], s.header()))
	}
	last := lastNonZero(s.bytes)
	if last < s.end {
		return -1, nil
	}
	if s.interrupted(last) {
		return s.end, nil
	}
	return -1, s.damage(s.stop, s.problem)
}

// interrupted reports whether the bytes behind the last good batch can be what
// a crash leaves of one append into zeros: some of its sectors are missing, or
// the end of the write.
func (s *logSegment) interrupted(last int) bool {
	// A whole batch behind it was acknowledged.
	for at := s.end; at+frameHeaderBytes <= last; at += frameHeaderBytes {
		if !looksLikeCommit(s.bytes[at:]) {
			continue
		}
		if walkBatch(s.bytes, at+frameHeaderBytes).problem == "" {
			return false
		}
	}
	for at := s.end; at <= last; {
		next := (at/sectorBytes + 1) * sectorBytes
		if lastNonZero(s.bytes[at:min(next, len(s.bytes))]) < 0 {
			return true // a sector in the middle is missing
		}
		at = next
	}
	// Or those at the end: then it has no commit, and the frames reach beyond
	// what is there. A frame's bytes never begin with a zero, so the head of one
	// is the last thing that is there only if a sector ends with it, or the write.
	word := last &^ (frameHeaderBytes - 1)
	if looksLikeCommit(s.bytes[word:]) {
		return false
	}
	return s.stop != word && s.frame != word || (word+frameHeaderBytes)%sectorBytes == 0 || s.tornHead(word)
}

// damagedBits is how many bits of a commit's checksum may be damaged, with its
// type, before it passes for a head. A head's length comes as near to the
// checksum by chance once in 100,000; it is then taken for damage.
const damagedBits = 4

// tornHead tells the head of an entry or index, behind which a write ended
// within a sector (the process died in it, not the machine), from a commit whose
// type is damaged: what stands in a commit is the checksum of the frames before it.
func (s *logSegment) tornHead(word int) bool {
	if s.frame != word {
		return false // no such frame can be there
	}
	if word <= max(s.end, segmentHeaderBytes) {
		return true // there is no batch without a frame before its commit
	}
	n := binary.LittleEndian.Uint32(s.bytes[word+4:])
	return n <= segment.MaxEntrySize && bits.OnesCount32(n^crc32.Checksum(s.bytes[s.end:word], castagnoli)) > damagedBits
}

func looksLikeCommit(b []byte) bool {
	return len(b) >= frameHeaderBytes && b[0] == frameCommit && b[1]|b[2]|b[3] == 0
}

// lastNonZero is the place of the last byte that is not zero, or -1.
func lastNonZero(b []byte) int { return len(bytes.TrimRight(b, "\x00")) - 1 }
