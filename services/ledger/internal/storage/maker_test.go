package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// maker builds a ledger of well-formed blocks; the same seed gives the same
// bytes. Signatures in them are noise: the store reads none.
type maker struct {
	random  *rand.Rand
	tree    *tlog.Range
	prev    *state.BlockRef
	applied uint64
	meters  int             // state keys that blocks write to
	before  []digest.Digest // leaf hashes before the newest block
	leaves  []digest.Digest // all leaf hashes
}

func newMaker(t testing.TB, seed uint64) *maker {
	t.Helper()
	t.Logf("seed %d", seed)
	return &maker{random: rand.New(rand.NewPCG(seed, 0)), tree: tlog.NewRange(), meters: 5}
}

func (m *maker) bytes(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], m.random.Uint64())
	}
	return b[:n]
}

// measurement is a leaf of roughly n bytes that names the raw vector.
func (m *maker) measurement(raw []byte, n int) []byte {
	header := wire.MustEncode(&recordv1.SampleHeader{
		MeterId: "meter", Counter: m.random.Uint64N(1e6) + 1, RawDigest: digest.Of(digest.RawVector, raw).Bytes(),
	})
	return wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
		Header: header, Signature: m.bytes(64), Claim: m.bytes(max(1, n-len(header)-80)),
	}}})
}

// block makes the next block: an endorsement set, count measurements of about
// leafBytes each with raw vectors of rawBytes, and the header. It is locked.
func (m *maker) block(count, leafBytes, rawBytes int) Block {
	var b Block
	if count > 0 {
		b.Leaves = append(b.Leaves, wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{
			EndorsementSet: &recordv1.EndorsementSet{Algorithm: m.bytes(32)},
		}}))
	}
	for range count {
		raw := m.bytes(rawBytes)
		b.RawVectors = append(b.RawVectors, RawVector{Leaf: len(b.Leaves), Bytes: raw})
		b.Leaves = append(b.Leaves, m.measurement(raw, leafBytes))
	}
	header := &recordv1.BlockHeader{
		Version: 1, FirstIndex: m.tree.Size(), RecordCount: uint32(len(b.Leaves)), BlockTimeUnixNano: 1e18,
		Config: m.bytes(32), Admin: m.bytes(32),
	}
	b.Ref = state.BlockRef{
		BlockTimeUnixNano: 1e18, FirstIndex: m.tree.Size(),
		Config: digest.Digest(header.GetConfig()), Admin: digest.Digest(header.GetAdmin()),
	}
	if m.prev != nil {
		header.Height, header.Previous = m.prev.Height+1, m.prev.Header.Bytes()
		b.Ref.Height = header.GetHeight()
	}
	b.Leaves = append(b.Leaves, wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: header}}))
	for _, leaf := range b.Leaves {
		b.LeafHashes = append(b.LeafHashes, tlog.LeafHash(leaf))
	}
	m.before = m.leaves
	m.leaves = append(m.leaves[:len(m.leaves):len(m.leaves)], b.LeafHashes...)
	b.Nodes = Extend(m.tree, b.LeafHashes)
	b.Ref.Header = record.HeaderDigest(b.Leaves[len(b.Leaves)-1])
	b.Ref.Size, b.Ref.Root = m.tree.Size(), m.tree.Root()
	b.Writes = m.writes(max(1, count/4))
	b.Lock = Lock{Height: b.Ref.Height, Size: b.Ref.Size, Root: b.Ref.Root}
	b.Cosignature = fmt.Appendf(nil, "cosignature on %d\n", b.Ref.Height)
	ref := b.Ref
	m.prev = &ref
	return b
}

// writes are of up to n meters: a value and a page of counters, which is another
// one in each second block.
func (m *maker) writes(n int) []state.Write {
	keys := make(map[string]bool)
	for range n {
		meter := fmt.Sprintf("meter/%04d", m.random.IntN(m.meters))
		keys[meter], keys[state.PageKey(meter, uint64(len(m.leaves))*state.CountersPerPage/8)] = true, true
	}
	var writes []state.Write
	for key := range keys {
		writes = append(writes, state.Write{Key: []byte(key)})
	}
	sort.Slice(writes, func(i, j int) bool { return bytes.Compare(writes[i].Key, writes[j].Key) < 0 })
	for i := range writes {
		writes[i].Value = m.bytes(100)
	}
	return writes
}

// batch is the next blocks, each the fruit of one entry.
func (m *maker) batch(blocks ...Block) Batch {
	b := Batch{Blocks: blocks}
	for range max(1, len(blocks)) {
		m.applied++
		b.Entries = append(b.Entries, Entry{Index: m.applied, Digest: digest.Of(digest.Entry, number(m.applied))})
	}
	b.AppliedIndex = m.applied
	return b
}

// small options make segments roll and leave next to nothing in memory; the
// disk breaks nothing and is quick.
func small() Options {
	return Options{SegmentBytes: 2000, CacheBytes: 1, MapBytes: 1 << 15, disk: newBreakingDisk(0, lost)}
}

func mustOpen(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill commits n blocks of various shapes, in batches of one to three.
func fill(t testing.TB, s *Store, m *maker, n int) {
	t.Helper()
	for n > 0 {
		var blocks []Block
		for range min(n, 1+m.random.IntN(3)) {
			blocks = append(blocks, m.block(m.random.IntN(5), 200, 1+m.random.IntN(400)))
		}
		n -= len(blocks)
		must(t, s.Commit(m.batch(blocks...)))
	}
}

// dump is everything that the store answers, as one text: two stores with the
// same dump are the same ledger. An error anywhere is the result.
func dump(s *Store) (string, error) {
	var out bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	sum := func(b []byte) string {
		d := sha256.Sum256(b)
		return hex.EncodeToString(d[:8])
	}
	head, _ := s.Head()
	line("head %+v lock %+v cosignature %q applied %d", head, s.Lock(), s.Cosignature(), s.AppliedIndex())
	for height := uint64(0); ; height++ {
		ref, ok, err := s.Block(height)
		if err != nil {
			return "", err
		}
		if !ok {
			break
		}
		stored, err := s.Load(height)
		if err != nil {
			return "", err
		}
		certificate, err1 := s.Certificate(height)
		cosignature, err2 := s.CosignatureAt(height)
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		line("block %d %+v certificate %q cosignature %q", height, ref, certificate, cosignature)
		for i, leaf := range stored.Leaves {
			index := ref.FirstIndex + uint64(i)
			again, err1 := s.Record(index)
			hash, err2 := s.LeafHash(index)
			of, err3 := s.HeightOf(index)
			raw, err4 := s.RawVector(index)
			if errors.Is(err4, ErrNoRawVector) {
				err4 = nil
			}
			if err := errors.Join(err1, err2, err3, err4); err != nil {
				return "", err
			}
			line("leaf %d %s %s %s of %d raw %d %s", index, sum(leaf), sum(again), hash, of, len(raw), sum(raw))
		}
		for _, v := range stored.RawVectors {
			line("raw %d %s", v.Leaf, sum(v.Bytes))
		}
	}
	for level := uint(1); head.Size>>level > 0; level++ {
		for index := range head.Size >> level {
			hash, err := s.Node(tlog.NodeID{Level: level, Index: index})
			if err != nil {
				return "", err
			}
			line("node %d/%d %s", level, index, hash)
		}
	}
	err := s.Scan(nil, nil, func(key, value []byte) bool {
		line("state %s %x", key, value)
		return true
	})
	if err != nil {
		return "", err
	}
	for index := range s.AppliedIndex() + 2 {
		d, ok, err := s.EntryDigest(index)
		if err != nil {
			return "", err
		}
		if ok {
			line("entry %d %s", index, d)
		}
	}
	newest, ok, err := s.NewestCertificate()
	line("newest certificate %v %+v", ok, newest)
	return out.String(), err
}

func mustDump(t testing.TB, s *Store) string {
	t.Helper()
	d, err := dump(s)
	must(t, err)
	return d
}

func mustVerify(t testing.TB, s *Store) *Report {
	t.Helper()
	r, err := s.Verify(t.Context(), nil)
	must(t, err)
	must(t, r.Err())
	return r
}
