package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// blockCheck re-hashes blocks in order: every byte of every frame, the tree and
// the chain of headers. Opening runs it over the newest blocks, Verify over all.
type blockCheck struct {
	store  *Store
	frames frames          // nothing from the memory that readers share
	tree   *tlog.Range     // over the stored leaf hashes of the blocks so far
	prev   *state.BlockRef // nil before the first block
	end    position        // behind the last frame so far; segment 0 before the first
	bytes  int64           // frames read
	raws   uint64          // raw vectors read

	cold, skipped uint64 // raw vectors in cold storage, and those of them that were not read
	unreachable   error  // cold storage did not answer: nothing more can be said

	decided uint64  // the state lets raw vectors of lower blocks go, as it was last read
	expired Expired // those that are gone
	owed    Expired // those that never came, and whose decision has not come yet either
}

// newBlockCheck begins behind a block, given the tree up to it; prev is nil at
// the beginning of the ledger.
func newBlockCheck(s *Store, tree *tlog.Range, prev *blockValue) (*blockCheck, error) {
	c := &blockCheck{store: s, frames: s.frames(false), tree: tree}
	c.frames.fresh = true
	if prev == nil {
		return c, nil
	}
	ref := prev.ref
	c.prev = &ref
	return c, prev.place(func(_ int, p placed) bool {
		c.end = p.end()
		return true
	})
}

// end is behind the leaf and its raw vector.
func (p placed) end() position {
	if p.raw.length > 0 {
		return p.raw.end()
	}
	return p.leaf.end()
}

// block checks the next block and returns its leaves with all problems found.
func (c *blockCheck) block(b *blockValue) (leaves [][]byte, problems []*DataLossError) {
	height := int64(b.ref.Height)
	add := func(p *DataLossError) {
		if p != nil {
			p.Height = height
			problems = append(problems, p)
		}
	}
	if size := c.tree.Size(); b.ref.FirstIndex != size {
		add(tableBlocks.damage(number(b.ref.Height), fmt.Sprintf("the first index is %d, the blocks before have %d leaves", b.ref.FirstIndex, size)))
		return nil, problems // nothing after this would be in place
	}
	err := b.place(func(i int, p placed) bool {
		index := b.ref.FirstIndex + uint64(i)
		add(c.follows(p.leaf, index))
		leaf, lost := c.leaf(p.leaf, index, b.leafHash(i))
		add(lost)
		leaves = append(leaves, leaf)
		var raw []byte
		if p.raw.length > 0 {
			add(c.follows(p.raw, index))
			if c.store.packed.isCold(p.raw.at.segment, kindRawVector) {
				if c.cold++; c.store.options.SkipCold {
					c.skipped++
					return true
				}
			}
			if raw, lost = c.read(p.raw, kindRawVector, index); lost != nil {
				if isAway(lost) && c.lets(b.ref.Height) {
					c.expired.add(b.ref.Height)
					return true
				}
				lost.Want, _ = rawDigest(leaf)
				if raw != nil {
					lost.Got = digest.Of(digest.RawVector, raw)
				}
				add(lost)
				return true
			}
			c.raws++
		}
		switch {
		case leaf == nil:
		case p.raw.length == 0 && c.lacks(b.ref.Height, leaf):
			if c.lets(b.ref.Height) {
				c.expired.add(b.ref.Height)
			} else {
				c.owed.add(b.ref.Height)
			}
		default:
			add(c.content(p, index, leaf, raw))
		}
		return true
	})
	if err != nil {
		add(asDataLoss(err))
	}
	for _, p := range c.nodes(b) {
		add(p)
	}
	if len(leaves) == b.leaves() {
		for _, p := range c.header(b, leaves[len(leaves)-1]) {
			add(p)
		}
	}
	ref := b.ref
	c.prev = &ref
	return leaves, problems
}

// lacks tells whether a leaf is a measurement that was committed without its raw
// vector, because it had expired.
func (c *blockCheck) lacks(height uint64, leaf []byte) bool {
	t := c.store.recent.Load().tip
	return t.lacks(height, leaf)
}

// lets tells whether the state lets the raw vectors of a block go. It is asked
// again where it did not before: decisions come while a verification runs.
func (c *blockCheck) lets(height uint64) bool {
	if height >= c.decided {
		// A value that cannot be read is named by whoever checks the state: then nothing is decided.
		if decision, err := state.NewestExpiry(c.store); err == nil {
			c.decided = decision.GetBelowHeight()
		}
	}
	return height < c.decided
}

// follows checks that a frame lies right behind the one before, and that
// nothing lies between.
func (c *blockCheck) follows(f frame, index uint64) *DataLossError {
	before := c.end
	c.end = f.end()
	if f.at == before {
		return nil
	}
	lost := &DataLossError{
		Height: None, Index: int64(index),
		File: segmentName(f.at.segment), Offset: f.at.offset,
	}
	if f.at != (position{segment: before.segment + 1, offset: segmentHeaderBytes}) {
		lost.What = fmt.Sprintf("the frame does not follow the one before, which ends in %s at byte %d", segmentName(before.segment), before.offset)
		return lost
	}
	if before.segment == 0 {
		return nil
	}
	lost.Index, lost.File, lost.Offset = None, segmentName(before.segment), before.offset
	if c.frames.isPacked(before.segment) {
		return c.packedEnds(before)
	}
	info, err := os.Stat(segmentPath(c.store.dir, before.segment))
	if missing(err) && c.frames.isPacked(before.segment) { // it was packed meanwhile
		return c.packedEnds(before)
	}
	if err != nil {
		lost.What, lost.Cause = "the full segment cannot be looked at", err
		return lost
	}
	if info.Size() != before.offset {
		lost.What = fmt.Sprintf("the full segment has %d bytes, its frames end at byte %d", info.Size(), before.offset)
		return lost
	}
	return nil
}

// packedEnds checks that a segment, when it was packed, held what is committed
// and no more.
func (c *blockCheck) packedEnds(end position) *DataLossError {
	p, err := c.store.packedSegment(end.segment)
	if err != nil {
		return asDataLoss(err)
	}
	if p.plain == end.offset {
		return nil
	}
	return lostIn(packedName(end.segment, kindRecord), None,
		fmt.Sprintf("the segment had %d bytes when it was packed, its frames end at byte %d", p.plain, end.offset), nil)
}

// read counts what it reads; bytes may be there although they are damaged.
func (c *blockCheck) read(f frame, k kind, index uint64) ([]byte, *DataLossError) {
	b, err := c.frames.read(f, k, index)
	c.bytes += int64(len(b))
	if reason.Of(err) == reason.NotReady {
		c.unreachable = err
	}
	if errors.Is(err, errDropped) {
		return nil, &DataLossError{Height: None, Index: int64(index), File: packedName(f.at.segment, k), Offset: None,
			What: "the raw vector is counted as expired, and no decision in the state here lets it go", Cause: err}
	}
	if err != nil {
		return b, asDataLoss(err)
	}
	return b, nil
}

// leaf reads a leaf and checks its hash; the bytes are nil unless they are sound.
func (c *blockCheck) leaf(f frame, index uint64, want digest.Digest) ([]byte, *DataLossError) {
	leaf, lost := c.read(f, kindRecord, index)
	if lost == nil && tlog.LeafHash(leaf) == want {
		return leaf, nil
	}
	if lost == nil {
		lost = &DataLossError{
			Height: None, Index: int64(index),
			File: segmentName(f.at.segment), Offset: f.at.offset, What: "the record's leaf hash differs",
		}
	}
	lost.Want = want
	if leaf != nil {
		lost.Got = tlog.LeafHash(leaf)
	}
	return nil, lost
}

// rawDigest is the digest of the raw vector that a leaf names; ok is false if
// the leaf is no measurement.
func rawDigest(leaf []byte) (d digest.Digest, ok bool) {
	r, err := record.Parse(leaf)
	if err != nil || r.GetMeasurement() == nil {
		return digest.Zero, false
	}
	var h recordv1.SampleHeader
	if err := wire.Decode(r.GetMeasurement().GetHeader(), &h); err != nil {
		return digest.Zero, false
	}
	d, err = digest.FromBytes(h.GetRawDigest())
	return d, err == nil
}

// content checks that a leaf has a raw vector exactly if it is a measurement,
// and the one that the meter signed.
func (c *blockCheck) content(p placed, index uint64, leaf, raw []byte) *DataLossError {
	f, lost := p.leaf, &DataLossError{Height: None, Index: int64(index)}
	if raw != nil {
		f = p.raw
	}
	lost.File, lost.Offset = segmentName(f.at.segment), f.at.offset
	want, measurement := rawDigest(leaf)
	switch {
	case measurement && raw == nil:
		lost.What, lost.Want = "the measurement's raw vector is absent", want
	case !measurement && raw != nil:
		lost.What, lost.Got = "a leaf that is no measurement has a raw vector", digest.Of(digest.RawVector, raw)
	case measurement:
		if got := digest.Of(digest.RawVector, raw); got != want {
			lost.What, lost.Want, lost.Got = "the raw vector is not the one that the measurement names", want, got
			return lost
		}
		return nil
	default:
		return nil
	}
	return lost
}

// nodes checks the stored tree nodes and the root against the leaf hashes.
func (c *blockCheck) nodes(b *blockValue) (problems []*DataLossError) {
	hashes := make([]digest.Digest, b.leaves())
	for i := range hashes {
		hashes[i] = b.leafHash(i)
	}
	add := func(what string, want, got digest.Digest) {
		if want != got {
			p := tableBlocks.damage(number(b.ref.Height), what)
			p.Want, p.Got = want, got
			problems = append(problems, p)
		}
	}
	c.tree.AppendVisit(hashes, func(id tlog.NodeID, hash digest.Digest) {
		if id.Level > 0 {
			add(fmt.Sprintf("tree node %d/%d differs", id.Level, id.Index), hash, b.node(id))
		}
	})
	add("the root differs from the tree's", c.tree.Root(), b.ref.Root)
	return problems
}

// header checks the header record, which is a block's last leaf, against the
// stored reference and the block before. leaf is nil if it was damaged.
func (c *blockCheck) header(b *blockValue, leaf []byte) (problems []*DataLossError) {
	if leaf == nil {
		return nil
	}
	index := b.ref.Size - 1
	add := func(what string, want, got digest.Digest) {
		problems = append(problems, &DataLossError{
			Height: None, Index: int64(index),
			File: dbName, Offset: None, What: what, Want: want, Got: got,
		})
	}
	if got := record.HeaderDigest(leaf); got != b.ref.Header {
		add("the header record's digest differs", b.ref.Header, got)
	}
	r, err := record.Parse(leaf)
	h := r.GetBlockHeader()
	if err != nil || h == nil {
		add(fmt.Sprintf("the last leaf is no block header (%v)", err), digest.Zero, digest.Zero)
		return problems
	}
	var previous digest.Digest
	if c.prev != nil {
		previous = c.prev.Header
	}
	if !names(h.GetPrevious(), previous) {
		got, _ := digest.FromBytes(h.GetPrevious())
		add("the header links to another block than the one before", previous, got)
	}
	for _, n := range []struct {
		name      string
		want, got uint64
	}{
		{"height", b.ref.Height, h.GetHeight()},
		{"first index", b.ref.FirstIndex, h.GetFirstIndex()},
		{"record count", b.ref.Size - b.ref.FirstIndex - 1, uint64(h.GetRecordCount())},
		{"block time", uint64(b.ref.BlockTimeUnixNano), uint64(h.GetBlockTimeUnixNano())},
		{"certified height", b.ref.CertifiedHeight, h.GetCertifiedHeight()},
	} {
		if n.want != n.got {
			add(fmt.Sprintf("the header says %s %d, the store %d", n.name, n.got, n.want), digest.Zero, digest.Zero)
		}
	}
	for _, d := range []struct {
		name string
		want digest.Digest
		got  []byte
	}{{"configuration", b.ref.Config, h.GetConfig()}, {"administrative", b.ref.Admin, h.GetAdmin()}} {
		if !names(d.got, d.want) {
			got, _ := digest.FromBytes(d.got)
			add("the header has another "+d.name+" digest than the store", d.want, got)
		}
	}
	return problems
}

// names reports whether a header's field holds a digest; the absent one is
// written as no bytes.
func names(field []byte, d digest.Digest) bool {
	if d.IsZero() {
		return len(field) == 0
	}
	return bytes.Equal(field, d[:])
}

// tip checks what is one per ledger against the blocks, after the newest.
func (c *blockCheck) tip(t *tip) *DataLossError {
	switch {
	case t.size != c.tree.Size():
		return tableMeta.damage(keyTip, fmt.Sprintf("it counts %d leaves, the blocks have %d", t.size, c.tree.Size()))
	case t.end != c.end:
		return tableMeta.damage(keyTip, fmt.Sprintf("the tail is segment %d, byte %d, the last frame ends in segment %d at byte %d",
			t.end.segment, t.end.offset, c.end.segment, c.end.offset))
	}
	return nil
}

// lockedBlock checks the lock against the block that it locks (rule C1).
func lockedBlock(l Lock, b *blockValue) *DataLossError {
	if own := (Lock{Height: b.ref.Height, Size: b.ref.Size, Root: b.ref.Root}); l != own {
		lost := tableMeta.damage(keyTip, fmt.Sprintf("the lock on height %d is of size %d, the block's size is %d", l.Height, l.Size, own.Size))
		lost.Height, lost.Want, lost.Got = int64(l.Height), own.Root, l.Root
		return lost
	}
	return nil
}
