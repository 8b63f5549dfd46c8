package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	hraft "github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lacre-metrology/lacre/core/reason"
)

// lastAppend is the newest segment of a log before and after one more append,
// which stands from begin to end.
func lastAppend(t *testing.T, first bool) (info types.SegmentInfo, after []byte, begin, end int) {
	t.Helper()
	dir := t.TempDir()
	log, err := openLog(dir, testLogger("torn"), tamperSegment)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(11) // no byte of an entry is a commit's type
	batch := func(sizes ...int) {
		var list []*hraft.Log
		for _, size := range sizes {
			list = append(list, &hraft.Log{Index: next, Term: 7, Data: bytes.Repeat([]byte{byte(next)}, size)})
			next++
		}
		if err := log.StoreLogs(list); err != nil {
			t.Fatal(err)
		}
	}
	read := func() []byte {
		files, err := filepath.Glob(filepath.Join(dir, segmentPattern))
		if err != nil || len(files) != 1 {
			t.Fatalf("segments %q, want one (%v)", files, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !first {
		batch(120, 40)
		begin = lastNonZero(read()) + 1
		begin = (begin + frameHeaderBytes - 1) &^ (frameHeaderBytes - 1)
	}
	batch(200, 8, 600) // heads within sectors, and an entry longer than one
	after = read()
	end = (lastNonZero(after) + frameHeaderBytes) &^ (frameHeaderBytes - 1)
	meta, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeMeta(meta)
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	return c.State.Segments[0], after, begin, end
}

// The write of an append may end at any byte, also where a sector does not:
// behind the head of a frame, or within it. Within the commit it does not: those
// are 8 bytes of one sector, and a checksum that does not hold is damage.
func TestR2_AnAppendWhoseWriteEndsAtAnyByteIsWiped(t *testing.T) {
	for name, first := range map[string]bool{"the first of the segment": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			info, after, begin, end := lastAppend(t, first)
			if from, err := readSegment(after, info).tail(); from >= 0 || err != nil {
				t.Fatalf("whole: to be wiped from %d (%v)", from, err)
			}
			for cut := begin + 1; cut <= end-frameHeaderBytes; cut++ {
				torn := bytes.Clone(after)
				clear(torn[cut:])
				if from, err := readSegment(torn, info).tail(); from != begin || err != nil {
					t.Errorf("cut at byte %d of %d to %d: to be wiped from %d (%v)", cut, begin, end, from, err)
				}
			}
			for cut := end - frameHeaderBytes + 1; cut <= lastNonZero(after); cut++ {
				torn := bytes.Clone(after)
				clear(torn[cut:])
				if from, err := readSegment(torn, info).tail(); reason.Of(err) != reason.DataLoss {
					t.Errorf("cut at byte %d, in the commit: to be wiped from %d (%v), want DATA_LOSS", cut, from, err)
				}
			}
		})
	}
}

// A commit of an acknowledged append whose damage makes it look like the head of
// an entry or of an index is damage still: its checksum tells, itself damaged too.
func TestR2_ADamagedCommitIsNoTornHead(t *testing.T) {
	info, b, begin, end := lastAppend(t, false)
	commit := end - frameHeaderBytes
	random := rand.New(rand.NewPCG(3, 0))
	// Checksums that are possible as the length of an entry; others fall out anyway.
	for tries, found := uint32(0), 0; found < 4; tries++ {
		binary.LittleEndian.PutUint32(b[commit-64:], tries)
		sum := crc32.Checksum(b[begin:commit], castagnoli)
		if sum > 1<<26 {
			continue
		}
		found++
		b[commit] = frameCommit
		binary.LittleEndian.PutUint32(b[commit+4:], sum)
		if from, err := readSegment(b, info).tail(); from >= 0 || err != nil {
			t.Fatalf("whole: to be wiped from %d (%v)", from, err)
		}
		for _, kind := range []byte{frameEntry, frameIndex} {
			b[commit] = kind
			for range 2000 {
				damaged := sum
				for range random.IntN(damagedBits + 1) {
					damaged ^= 1 << random.IntN(32)
				}
				binary.LittleEndian.PutUint32(b[commit+4:], damaged)
				if from, err := readSegment(b, info).tail(); reason.Of(err) != reason.DataLoss {
					t.Fatalf("type %d, checksum %08x for %08x: to be wiped from %d (%v), want DATA_LOSS", kind, damaged, sum, from, err)
				}
			}
		}
	}
}
