package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lacre-metrology/lacre/core/tlog"
	"go.etcd.io/bbolt"
)

// recoverBlocks is how many of the newest blocks opening re-hashes: the ones
// that a crash can have touched, and those that readers want first.
const recoverBlocks = 8

// recover loads the store for writing and cuts off what was never committed.
func (s *Store) recover() error {
	if err := s.load(); err != nil {
		return err
	}
	s.tail = &tail{dir: s.dir, disk: s.options.disk, limit: s.options.SegmentBytes, end: s.tip.end, written: s.tip.end.offset}
	if err := s.upgrade(); err != nil {
		return err
	}
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= s.tip.end.segment {
			continue
		}
		if err := os.Remove(segmentPath(s.dir, n)); err != nil {
			return fmt.Errorf("remove a segment that was never committed: %w", err)
		}
	}
	if err := s.tidyPacked(); err != nil {
		return err
	}
	if err := s.options.disk.SyncDir(filepath.Join(s.dir, segmentsDir)); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if s.tip.end.segment == 0 {
		return nil
	}
	file, err := s.options.disk.Open(segmentPath(s.dir, s.tip.end.segment))
	if err != nil {
		return err
	}
	s.tail.file = file
	if err := file.Truncate(s.tip.end.offset); err != nil {
		return fmt.Errorf("cut %s off at byte %d: %w", segmentName(s.tip.end.segment), s.tip.end.offset, err)
	}
	return file.Sync()
}

// upgrade makes a store of an earlier version one of this version, before anything
// in it is packed or moved: a program that does not know that then refuses it.
func (s *Store) upgrade() error {
	older := false
	err := view(s.db, func(tx *bbolt.Tx) error {
		b, err := tableMeta.get(tx, keyTip)
		older = err == nil && b[0] < tipVersion
		return err
	})
	if err != nil || !older {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		for _, t := range []table{tableSegments, tablePages} {
			if _, err := tx.CreateBucketIfNotExists([]byte(t)); err != nil {
				return fmt.Errorf("create table %s: %w", t, err)
			}
		}
		return s.tip.write(tx)
	})
}

// load reads the tip, checks that the segments are there, re-hashes the newest
// blocks and puts them into memory.
func (s *Store) load() error {
	var t tip
	err := view(s.db, func(tx *bbolt.Tx) (err error) {
		t, err = readTip(tx)
		return err
	})
	if err != nil {
		return err
	}
	s.packed.count.Store(t.packed)
	s.packed.cold.Store(t.cold)
	s.packed.dropped.Store(t.dropped)
	if err := s.checkSegments(&t); err != nil {
		return err
	}
	s.tip = t
	first := t.blocks - min(t.blocks, recoverBlocks)
	r := &recent{tip: tip{blocks: first}}
	var prev *blockValue
	if first > 0 {
		s.recent.Store(r)
		value, _, err := s.copyBlock(first - 1)
		if err != nil {
			return err
		}
		prev, r = &value, &recent{tip: tip{blocks: first, size: value.ref.Size}}
	}
	// Nothing is in memory yet, so these nodes come from the disk.
	s.recent.Store(r)
	tree, err := s.Range()
	if err != nil {
		return err
	}
	loaded := &recent{first: r.tip.size}
	for level := range uint(len(loaded.frontier)) {
		if r.tip.size>>level&1 == 0 {
			continue
		}
		if loaded.frontier[level], err = s.Node(tlog.NodeID{Level: level, Index: r.tip.size>>level - 1}); err != nil {
			return err
		}
	}
	s.recent.Store(&recent{tip: t})
	check, err := newBlockCheck(s, tree, prev)
	if err != nil {
		return err
	}
	defer check.frames.close()
	var added []*recentBlock
	for height := first; height < t.blocks; height++ {
		value, _, err := s.copyBlock(height)
		if err != nil {
			return err
		}
		leaves, problems := check.block(&value)
		if len(problems) > 0 {
			return problems[0]
		}
		if t.lock.Height == height && !t.lock.IsZero() {
			if problem := lockedBlock(t.lock, &value); problem != nil {
				return problem
			}
		}
		added = append(added, &recentBlock{value: value, leaves: leaves})
	}
	if problem := check.tip(&t); problem != nil {
		return problem
	}
	s.recent.Store(loaded.with(t, added, s.options.CacheBytes))
	return nil
}

// loadUnchecked reads the tip and the newest block's place, and nothing more.
func (s *Store) loadUnchecked() error {
	return view(s.db, func(tx *bbolt.Tx) error {
		t, err := readTip(tx)
		if err != nil {
			return err
		}
		r := &recent{tip: t}
		if t.blocks > 0 {
			newest, err := readBlock(tx, t.blocks-1)
			if err != nil {
				return err
			}
			r.head = newest.ref
		}
		s.tip = t
		s.packed.count.Store(t.packed)
		s.packed.cold.Store(t.cold)
		s.packed.dropped.Store(t.dropped)
		s.recent.Store(r)
		return nil
	})
}

// segments lists the numbers of the plain segment files, in order.
func (s *Store) segments() ([]uint32, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, segmentsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var numbers []uint32
	for _, e := range entries {
		// What is not ours is passed over: a note that somebody left stops no replica.
		if n, suffix, ok := segmentFileName(e.Name()); ok && suffix == segmentSuffix {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// checkSegments checks that each committed segment is there and that the last
// one reaches the committed tail.
func (s *Store) checkSegments(t *tip) error {
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	present := make(map[uint32]bool, len(numbers))
	for _, n := range numbers {
		present[n] = true
	}
	if t.packed > 0 && t.packed >= t.end.segment {
		return tableMeta.damage(keyTip, fmt.Sprintf("segments up to %d are packed, the newest is %d", t.packed, t.end.segment))
	}
	if t.cold > t.packed {
		return tableMeta.damage(keyTip, fmt.Sprintf("raw vectors of segments up to %d are in cold storage, %d are packed", t.cold, t.packed))
	}
	if t.dropped > t.packed || t.erased > t.dropped {
		return tableMeta.damage(keyTip, fmt.Sprintf("raw vectors of segments up to %d are dropped, objects of those up to %d deleted, %d are packed", t.dropped, t.erased, t.packed))
	}
	if err := s.checkPackedFiles(t); err != nil {
		return err
	}
	for n := t.packed + 1; n <= t.end.segment; n++ {
		if !present[n] {
			return s.firstLost(t, position{segment: n}, fmt.Sprintf("the segment is missing, %d are committed", t.end.segment))
		}
	}
	if t.end.segment == 0 {
		return nil
	}
	info, err := os.Stat(segmentPath(s.dir, t.end.segment))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if size := info.Size(); size < t.end.offset {
		return s.firstLost(t, position{segment: t.end.segment, offset: size},
			fmt.Sprintf("the segment ends at byte %d, bytes up to %d are committed", size, t.end.offset))
	}
	return nil
}

// checkPackedFiles checks that the files of packed segments are there and have
// their length; reads and Verify look inside.
func (s *Store) checkPackedFiles(t *tip) error {
	for n := uint32(1); n <= t.packed; n++ {
		committed, err := s.packedSegment(n)
		if err != nil {
			return err
		}
		for _, k := range packedKinds {
			if s.packed.isDropped(n, k) {
				continue
			}
			if s.packed.isCold(n, k) {
				s.packed.coldBytes.Add(committed.raws.bytes)
				continue
			}
			info, err := os.Stat(packedPath(s.dir, n, k))
			want := committed.file(k).bytes
			var what string
			switch {
			case missing(err):
				what = fmt.Sprintf("the packed segment is missing, %d bytes are committed", want)
			case err != nil:
				return fmt.Errorf("open store: %w", err)
			case info.Size() != want:
				what = fmt.Sprintf("the packed segment has %d bytes, %d are committed", info.Size(), want)
			default:
				continue
			}
			lost := s.firstLost(t, position{segment: n}, what)
			var named *DataLossError
			if errors.As(lost, &named) {
				named.File, named.Offset = packedName(n, k), None
			}
			return lost
		}
	}
	return nil
}

// firstLost names the first committed frame that reaches beyond a position,
// where bytes are known to be gone.
func (s *Store) firstLost(t *tip, at position, what string) error {
	lost := &DataLossError{Height: None, Index: None, File: segmentName(at.segment), Offset: at.offset, What: what}
	err := view(s.db, func(tx *bbolt.Tx) error {
		// The last block that begins at or before the position, else the first.
		low, high := uint64(0), t.blocks
		for low+1 < high {
			middle := (low + high) / 2
			b, err := readBlock(tx, middle)
			if err != nil {
				return err
			}
			if b.start.after(at) {
				high = middle
			} else {
				low = middle
			}
		}
		for ; low < t.blocks; low++ {
			b, err := readBlock(tx, low)
			if err != nil {
				return err
			}
			found := false
			err = b.place(func(i int, p placed) bool {
				if found = p.end().after(at); !found {
					return true
				}
				lost.Height, lost.Index = int64(low), int64(b.ref.FirstIndex)+int64(i)
				lost.Want = b.leafHash(i)
				return false
			})
			if found || err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(lost, err)
}
