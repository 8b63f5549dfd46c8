package storage

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lacre-metrology/lacre/platform/durable"
	"go.etcd.io/bbolt"
)

// Pack packs the oldest full segment that is not packed yet, if there is one,
// beside commits and reads; rest paces it, nil for no rest. It does nothing while
// a backup is read, and while the disk has no room for both forms.
//
// The packed files are durable, and were read again, before the one transaction
// that counts them; only then is the plain segment removed. So a crash leaves
// the segment whole in one form or the other, and opening removes the other.
// What fails before that transaction leaves the store as it was; when that fails
// the error is a *PoisonedError, and a *DataLossError if the segment is damaged.
func (s *Store) Pack(ctx context.Context, rest Rest) (done bool, err error) {
	if !s.packing.TryLock() {
		return false, nil
	}
	defer s.packing.Unlock()
	t := s.recent.Load().tip
	number := t.packed + 1
	if s.tail == nil || number >= t.end.segment {
		return false, nil
	}
	if free, _, err := durable.Space(s.dir); err != nil || free < 2*uint64(s.options.SegmentBytes) {
		return false, err
	}
	p, err := s.packFiles(ctx, number, newPacer(rest))
	if err != nil {
		return false, err
	}
	if err := s.commitPacked(number, &p); errors.Is(err, ErrClosed) {
		return false, err
	} else if err != nil {
		return false, &PoisonedError{Cause: err}
	}
	s.packed.count.Store(number)
	// A reader that has the plain file open goes on; the next opens the packed ones.
	return true, s.options.disk.Remove(segmentPath(s.dir, number))
}

// Full is told when a segment is full, or a decision lets raw vectors go; one that
// packs and drops listens.
func (s *Store) Full() <-chan struct{} { return s.full }

// Packed is how many segments are packed: the first ones.
func (s *Store) Packed() uint32 { return s.packed.count.Load() }

// Unpacked is how many full segments wait to be packed.
func (s *Store) Unpacked() uint32 {
	t := s.recent.Load().tip
	return max(t.end.segment, t.packed+1) - 1 - t.packed
}

// packFiles writes both files of a segment and reads them again.
func (s *Store) packFiles(ctx context.Context, number uint32, pace *pacer) (p packedSegment, err error) {
	var files [len(packedKinds)]segmentFile
	defer func() {
		for _, f := range files {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	packers := make(map[kind]*packer, len(packedKinds))
	for i, k := range packedKinds {
		path := packedPath(s.dir, number, k)
		// What an interrupted attempt left. Nobody counts on it.
		if err := s.options.disk.Remove(path); err != nil && !missing(err) {
			return p, err
		}
		if files[i], err = s.options.disk.Create(path); err != nil {
			return p, err
		}
		if packers[k], err = newPacker(files[i], number, k, pace); err != nil {
			return p, err
		}
	}
	p.plain, err = walkSegment(s.dir, number, func(k kind, leaf uint64, b []byte) error { return packers[k].add(ctx, leaf, b) })
	if err != nil {
		return p, err
	}
	for _, k := range packedKinds {
		sum, err := packers[k].finish(ctx)
		if err != nil {
			return p, err
		}
		again, err := sumFile(ctx, packedPath(s.dir, number, k), pace)
		if err != nil {
			return p, err
		}
		if again != sum {
			return p, fmt.Errorf("pack %s: %d bytes with digest %x were written, %d with %x are read", packedName(number, k), sum.bytes, sum.digest, again.bytes, again.digest)
		}
		if k == kindRawVector {
			p.raws, p.rawItems, p.rawBytes = sum, packers[k].items, packers[k].bytes
		} else {
			p.records = sum
		}
	}
	return p, s.options.disk.SyncDir(filepath.Join(s.dir, segmentsDir))
}

// commitPacked makes readers, and whoever opens, find a segment packed.
func (s *Store) commitPacked(number uint32, p *packedSegment) error {
	return s.write(func() error {
		next := s.tip
		next.packed = number
		err := s.update(func(tx *bbolt.Tx) error {
			b, err := tableSegments.in(tx)
			if err != nil {
				return err
			}
			return errors.Join(tableSegments.put(b, segmentKey(number), p.encode()), next.write(tx))
		})
		if err == nil {
			s.publish(next, nil)
		}
		return err
	})
}

// walkSegment reads the frames of a whole plain segment in order. The bytes are
// valid during the visit. The error is a *DataLossError unless visit made it.
func walkSegment(dir string, number uint32, visit func(k kind, leaf uint64, b []byte) error) (end int64, err error) {
	r := frames{dir: dir}
	defer r.close()
	if err := r.open(number); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r.file, segmentHeaderBytes, 1<<62), flushBytes)
	var header [frameHeaderBytes]byte
	var content []byte
	for end = segmentHeaderBytes; ; {
		lost := func(what string, cause error) error {
			return &DataLossError{Height: None, Index: None, File: segmentName(number), Offset: end, What: what, Cause: cause}
		}
		if _, err := io.ReadFull(in, header[:]); err == io.EOF { // at a frame's beginning
			return end, nil
		} else if err != nil {
			return end, lost("a frame's head cannot be read", err)
		}
		length := binary.BigEndian.Uint32(header[:])
		k, leaf := kind(header[8]), binary.BigEndian.Uint64(header[9:])
		if length == 0 || length > maxFrameBytes || (k != kindRecord && k != kindRawVector) {
			return end, lost(fmt.Sprintf("the frame says %s with %d bytes", k, length), nil)
		}
		if cap(content) < int(length) {
			content = make([]byte, length)
		}
		content = content[:length]
		if _, err := io.ReadFull(in, content); err != nil {
			return end, lost(fmt.Sprintf("the %s's frame of leaf %d cannot be read", k, leaf), err)
		}
		if want, got := binary.BigEndian.Uint32(header[4:]), frameCRC(header[:], content); want != got {
			return end, lost(fmt.Sprintf("the %s's frame of leaf %d has checksum %08x, its bytes give %08x", k, leaf, want, got), nil)
		}
		if err := visit(k, leaf, content); err != nil {
			return end, err
		}
		end += frameHeaderBytes + int64(length)
	}
}

// tidyPacked removes what an interrupted Pack, MoveCold or DropExpired left: plain segments that
// are packed, packed ones that were not committed, and raw vectors that are in
// cold storage or expired.
func (s *Store) tidyPacked() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, segmentsDir))
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	for _, e := range entries {
		n, suffix, ok := segmentFileName(e.Name())
		plain := suffix == segmentSuffix
		moved := n <= max(s.tip.cold, s.tip.dropped) && suffix == packedSuffix(kindRawVector)
		if !ok || (plain == (n > s.tip.packed) && !moved) {
			continue
		}
		if err := s.options.disk.Remove(filepath.Join(s.dir, segmentsDir, e.Name())); err != nil {
			return fmt.Errorf("remove what an interrupted packing left: %w", err)
		}
	}
	return nil
}

// segmentFileName takes the name of a segment's file apart.
func segmentFileName(name string) (number uint32, suffix string, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return 0, "", false
	}
	suffix = name[dot:]
	if _, err := fmt.Sscanf(name[:dot], "%d", &number); err != nil || number == 0 {
		return 0, "", false
	}
	for _, want := range []string{segmentName(number), packedName(number, kindRecord), packedName(number, kindRawVector)} {
		if segmentsDir+"/"+name == want {
			return number, suffix, true
		}
	}
	return 0, "", false
}
