package tlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
	sumdb "golang.org/x/mod/sumdb/tlog"
)

// definition is MTH of RFC 6962 section 2.1, word for word, over leaf hashes.
func definition(leaves []digest.Digest) digest.Digest {
	switch n := len(leaves); n {
	case 0:
		return digest.Plain(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		return tlog.NodeHash(definition(leaves[:k]), definition(leaves[k:]))
	}
}

func leavesOf(n int) []digest.Digest {
	leaves := make([]digest.Digest, n)
	for i := range leaves {
		leaves[i] = tlog.LeafHash(fmt.Appendf(nil, "leaf %d", i))
	}
	return leaves
}

// store builds the nodes of a tree and says whether any was reported twice.
func store(t testing.TB, leaves []digest.Digest) nodeMap {
	t.Helper()
	nodes := nodeMap{}
	tlog.NewRange().AppendVisit(leaves, func(id tlog.NodeID, h digest.Digest) {
		if _, ok := nodes[id]; ok {
			t.Errorf("node %v reported twice", id)
		}
		nodes[id] = h
	})
	return nodes
}

func TestHashesAreRFC6962(t *testing.T) {
	if got := tlog.LeafHash([]byte("abc")); got != digest.Plain([]byte("\x00abc")) || got != digest.Digest(sumdb.RecordHash([]byte("abc"))) {
		t.Errorf("leaf hash %v", got)
	}
	a, b := tlog.LeafHash([]byte("a")), tlog.LeafHash([]byte("b"))
	if got := tlog.NodeHash(a, b); got != digest.Plain(slices.Concat([]byte{1}, a[:], b[:])) || got != digest.Digest(sumdb.NodeHash(sumdb.Hash(a), sumdb.Hash(b))) {
		t.Errorf("node hash %v", got)
	}
	if tlog.EmptyRoot() != digest.Plain(nil) || tlog.NewRange().Root() != tlog.EmptyRoot() || tlog.RootOf(nil) != tlog.EmptyRoot() {
		t.Error("root of no leaves")
	}
}

func TestRangeGivesTheDefinedRoot(t *testing.T) {
	const most = 70
	leaves := leavesOf(most)
	nodes := store(t, leaves)
	r := tlog.NewRange()
	for n := range most + 1 {
		want := definition(leaves[:n])
		if r.Size() != uint64(n) || r.Root() != want || tlog.RootOf(leaves[:n]) != want {
			t.Errorf("size %d: root %v, want %v", r.Size(), r.Root(), want)
		}
		back, err := tlog.ParseRange(r.Bytes())
		if err != nil || back.Root() != want || !bytes.Equal(back.Bytes(), r.Bytes()) {
			t.Errorf("size %d: stored and read: %v", n, err)
		}
		at, err := tlog.RangeAt(nodes, uint64(n))
		if err != nil || !bytes.Equal(at.Bytes(), r.Bytes()) {
			t.Errorf("size %d: from the nodes: %v", n, err)
		}
		for _, copied := range []*tlog.Range{back, at, r.Clone()} { // copies grow apart from r
			copied.Append(leaves[:3]...)
			if want := definition(append(leaves[:n:n], leaves[:3]...)); copied.Root() != want || r.Root() != definition(leaves[:n]) {
				t.Errorf("size %d: a copy grown by three gives %v, want %v", n, copied.Root(), want)
			}
		}
		if n < most {
			r.Append(leaves[n])
		}
	}
	if _, err := tlog.RangeAt(nodes, most+1); err == nil {
		t.Error("a range beyond the stored tree")
	}
}

func TestNextPathProvesTheLastLeaf(t *testing.T) {
	const most = 70
	leaves := leavesOf(most)
	nodes := store(t, leaves)
	r := tlog.NewRange()
	for index := range uint64(most) {
		path := r.NextPath()
		r.Append(leaves[index])
		want, err := tlog.InclusionProof(nodes, index, index+1)
		if err != nil || !slices.Equal(path, want) {
			t.Errorf("record %d as the last: %v, want %v, %v", index, path, want, err)
		}
		if err := tlog.VerifyInclusion(leaves[index], index, index+1, path, r.Root()); err != nil {
			t.Error(err)
		}
	}
}

func TestParseRangeRefuses(t *testing.T) {
	r := tlog.NewRange()
	r.Append(leavesOf(5)...)
	good := r.Bytes()
	huge := bytes.Clone(good)
	huge[0] = 0x80
	six := bytes.Clone(good)
	six[7] = 7 // three hashes
	for name, bad := range map[string][]byte{"empty": nil, "short": good[:7], "cut": good[:len(good)-1], "long": append(bytes.Clone(good), 0), "size 7": six, "size above 2^63-1": huge} {
		if _, err := tlog.ParseRange(bad); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reader lets the Go checksum database's implementation prove over our nodes.
type reader struct{ nodes nodeMap }

func (r reader) ReadHashes(indexes []int64) ([]sumdb.Hash, error) {
	out := make([]sumdb.Hash, len(indexes))
	for i, index := range indexes {
		level, n := sumdb.SplitStoredHashIndex(index)
		h, err := r.nodes.Node(tlog.NodeID{Level: uint(level), Index: uint64(n)})
		if err != nil {
			return nil, err
		}
		out[i] = sumdb.Hash(h)
	}
	return out, nil
}

func TestProofsAgreeWithTheChecksumDatabase(t *testing.T) {
	const most = 35
	leaves := leavesOf(most)
	nodes := store(t, leaves)
	for size := 1; size <= most; size++ {
		root := tlog.RootOf(leaves[:size])
		for index := range size {
			path, err := tlog.InclusionProof(nodes, uint64(index), uint64(size))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := sumdb.ProveRecord(int64(size), int64(index), reader{nodes})
			if err != nil || !slices.Equal(path, fromTheirs(theirs)) {
				t.Fatalf("record %d of %d: %v, they say %v, %v", index, size, path, theirs, err)
			}
			if err := tlog.VerifyInclusion(leaves[index], uint64(index), uint64(size), path, root); err != nil {
				t.Error(err)
			}
		}
		for old := 1; old <= size; old++ {
			path, err := tlog.ConsistencyProof(nodes, uint64(old), uint64(size))
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.VerifyConsistency(uint64(old), uint64(size), path, tlog.RootOf(leaves[:old]), root); err != nil {
				t.Error(err)
			}
			if err := sumdb.CheckTree(toTheirs(path), int64(size), sumdb.Hash(root), int64(old), sumdb.Hash(tlog.RootOf(leaves[:old]))); err != nil {
				t.Errorf("%d in %d: they refuse our proof: %v", old, size, err)
			}
		}
	}
}

func fromTheirs(p []sumdb.Hash) []digest.Digest {
	out := make([]digest.Digest, len(p))
	for i, h := range p {
		out[i] = digest.Digest(h)
	}
	return out
}

func toTheirs(p []digest.Digest) []sumdb.Hash {
	out := make([]sumdb.Hash, len(p))
	for i, h := range p {
		out[i] = sumdb.Hash(h)
	}
	return out
}

func TestAlteredMerkleProofsAreRefused(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	leaves := leavesOf(64)
	nodes := store(t, leaves)
	for range 300 {
		size := 1 + random.Uint64N(64)
		index, old := random.Uint64N(size), 1+random.Uint64N(size)
		root, oldRoot := tlog.RootOf(leaves[:size]), tlog.RootOf(leaves[:old])
		inclusion, err := tlog.InclusionProof(nodes, index, size)
		if err != nil {
			t.Fatal(err)
		}
		consistency, err := tlog.ConsistencyProof(nodes, old, size)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range alter(random, inclusion) {
			if err := tlog.VerifyInclusion(leaves[index], index, size, path, root); !errors.Is(err, tlog.ErrProof) {
				t.Errorf("record %d of %d, altered path: %v", index, size, err)
			}
		}
		for _, path := range alter(random, consistency) {
			if err := tlog.VerifyConsistency(old, size, path, oldRoot, root); !errors.Is(err, tlog.ErrProof) {
				t.Errorf("%d in %d, altered path: %v", old, size, err)
			}
		}
		wrong := root
		wrong[random.IntN(32)] ^= 1
		if err := tlog.VerifyInclusion(leaves[index], index, size, inclusion, wrong); !errors.Is(err, tlog.ErrProof) {
			t.Errorf("another root: %v", err)
		}
		if err := tlog.VerifyConsistency(old, size, consistency, oldRoot, wrong); !errors.Is(err, tlog.ErrProof) {
			t.Errorf("another second root: %v", err)
		}
		wrong = oldRoot
		wrong[random.IntN(32)] ^= 1
		if err := tlog.VerifyConsistency(old, size, consistency, wrong, root); !errors.Is(err, tlog.ErrProof) {
			t.Errorf("another first root: %v", err)
		}
	}
}

// alter gives versions of a path that differ from it.
func alter(random *rand.Rand, path []digest.Digest) [][]digest.Digest {
	out := [][]digest.Digest{append(slices.Clone(path), digest.Digest{})}
	if len(path) > 0 {
		flipped := slices.Clone(path)
		flipped[random.IntN(len(path))][random.IntN(32)] ^= 1 << random.IntN(8)
		out = append(out, flipped, path[1:], path[:len(path)-1])
	}
	return out
}

func TestConsistencyAtTheEdges(t *testing.T) {
	leaves := leavesOf(5)
	root := tlog.RootOf(leaves)
	nodes := store(t, leaves)
	if err := tlog.VerifyConsistency(0, 5, nil, tlog.EmptyRoot(), root); err != nil {
		t.Error(err)
	}
	if err := tlog.VerifyConsistency(5, 5, nil, root, root); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"empty tree with a root":    tlog.VerifyConsistency(0, 5, nil, root, root),
		"empty tree with a path":    tlog.VerifyConsistency(0, 5, leaves[:1], tlog.EmptyRoot(), root),
		"same size, another root":   tlog.VerifyConsistency(5, 5, nil, leaves[0], root),
		"shrinking":                 tlog.VerifyConsistency(5, 4, nil, root, root),
		"record beyond the tree":    tlog.VerifyInclusion(leaves[0], 5, 5, nil, root),
		"record of the empty tree":  tlog.VerifyInclusion(leaves[0], 0, 0, nil, leaves[0]),
		"interior node as a record": tlog.VerifyInclusion(tlog.NodeHash(leaves[0], leaves[1]), 0, 5, leaves[2:4], root),
	} {
		if !errors.Is(err, tlog.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tlog.InclusionProof(nodes, 5, 5); !errors.Is(err, tlog.ErrProof) {
		t.Errorf("a proof beyond the tree: %v", err)
	}
	if _, err := tlog.ConsistencyProof(nodes, 6, 5); !errors.Is(err, tlog.ErrProof) {
		t.Errorf("a proof of shrinking: %v", err)
	}
	if _, err := tlog.InclusionProof(nodeMap{}, 0, 5); err == nil {
		t.Error("a proof without nodes")
	}
}

func FuzzParseRange(f *testing.F) {
	for _, n := range []int{0, 1, 6} {
		r := tlog.NewRange()
		r.Append(leavesOf(n)...)
		f.Add(r.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := tlog.ParseRange(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) {
			t.Errorf("%x came back as %x", b, r.Bytes())
		}
		if r.Size() < tlog.MaxTreeSize {
			r.Append(digest.Digest{})
		}
		r.Root()
	})
}
