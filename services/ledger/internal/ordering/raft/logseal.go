package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/lacre-metrology/lacre/core/reason"
)

// sealedLog is raft-wal with what it lacks: it has a checksum for each batch,
// looks at it only when it recovers from a crash, and never when it reads.
//
// Invariants:
//   - Every entry is stored with a CRC-32C over index, term, type, data,
//     extensions and time, in its extensions; nobody above sees it. Every read
//     checks it, and that the entry is the one asked for. So an entry is served
//     as it was stored or not at all (reason.DataLoss, which names the file).
//   - What is on disk was checked as a whole before (checkLog).
type sealedLog struct {
	*wal.WAL
	dir string // of its segments
}

const entrySealBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entrySeal covers everything in an entry; the lengths keep the parts apart.
func entrySeal(l *hraft.Log, extensions []byte) (uint32, error) {
	at, err := l.AppendedAt.MarshalBinary()
	if err != nil {
		return 0, err
	}
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = binary.BigEndian.AppendUint64(head, l.Term)
	head = append(head, byte(l.Type))
	head = binary.BigEndian.AppendUint64(head, uint64(len(l.Data)))
	head = binary.BigEndian.AppendUint64(head, uint64(len(extensions)))
	head = append(head, at...)
	sum := crc32.Checksum(head, castagnoli)
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, extensions), nil
}

func (s sealedLog) StoreLog(log *hraft.Log) error { return s.StoreLogs([]*hraft.Log{log}) }

// StoreLogs leaves the caller's entries as they are.
func (s sealedLog) StoreLogs(logs []*hraft.Log) error {
	stored := make([]*hraft.Log, len(logs))
	for i, l := range logs {
		sum, err := entrySeal(l, l.Extensions)
		if err != nil {
			return fmt.Errorf("seal entry %d: %w", l.Index, err)
		}
		sealed := *l
		sealed.Extensions = append(binary.BigEndian.AppendUint32(nil, sum), l.Extensions...)
		stored[i] = &sealed
	}
	return s.WAL.StoreLogs(stored)
}

// GetLog gives the entry that was stored, or reason.DataLoss.
func (s sealedLog) GetLog(index uint64, log *hraft.Log) (err error) {
	defer func() {
		if r := recover(); r != nil { // raft-wal's decoder does on bytes that nobody encoded
			err = s.damage(index, "cannot be decoded: %v", r)
		}
	}()
	var stored hraft.Log
	if err := s.WAL.GetLog(index, &stored); err != nil {
		if errors.Is(err, hraft.ErrLogNotFound) || errors.Is(err, wal.ErrClosed) {
			return err
		}
		return s.damage(index, "cannot be read: %v", err)
	}
	if len(stored.Extensions) < entrySealBytes {
		return s.damage(index, "has no checksum")
	}
	want, extensions := binary.BigEndian.Uint32(stored.Extensions), stored.Extensions[entrySealBytes:]
	got, err := entrySeal(&stored, extensions)
	if err != nil || got != want || stored.Index != index {
		return s.damage(index, "says it is entry %d, with checksum %08x; its bytes give %08x", stored.Index, want, got)
	}
	if stored.Extensions = extensions; len(extensions) == 0 {
		stored.Extensions = nil
	}
	*log = stored
	return nil
}

// damage says what is wrong with an entry, and in which file.
func (s sealedLog) damage(index uint64, format string, args ...any) error {
	return reason.New(reason.DataLoss, "%s: entry %d of the log %s", s.fileOf(index), index, fmt.Sprintf(format, args...))
}

// fileOf is the segment in which an entry should be: the last that begins at it or
// before it. Names begin with the index of the first entry, in 20 digits.
func (s sealedLog) fileOf(index uint64) string {
	files, _ := filepath.Glob(filepath.Join(s.dir, segmentPattern)) // sorted; the pattern is ours
	for _, f := range slices.Backward(files) {
		if first, _, ok := strings.Cut(filepath.Base(f), "-"); ok && first <= fmt.Sprintf("%020d", index) {
			return f
		}
	}
	return s.dir
}
