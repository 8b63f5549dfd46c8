package api

import (
	"errors"
	"fmt"
	"testing"
	"time"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// Followers share what they get of the newest blocks; one that catches up neither
// gets another block nor drives out a newer one, and a failure is not kept.
func TestFollowersShareTheNewestBlocks(t *testing.T) {
	var f followed
	made := map[uint64]int{}
	failing := errors.New("the disk does not answer")
	want := func(height uint64, times int) {
		t.Helper()
		leaves, err := f.of(height, func() ([]*ledgerv1.Leaf, error) {
			if made[height]++; height == 5 && made[height] == 1 {
				return nil, failing
			}
			return []*ledgerv1.Leaf{{Content: &ledgerv1.Leaf_Hash{Hash: fmt.Append(nil, height)}}}, nil
		})
		if made[height] != times {
			t.Errorf("block %d was made %d times, want %d", height, made[height], times)
		}
		if height == 5 && times == 1 {
			if !errors.Is(err, failing) {
				t.Errorf("block %d: %v, want %v", height, err, failing)
			}
			return
		}
		if err != nil || len(leaves) != 1 || string(leaves[0].GetHash()) != fmt.Sprint(height) {
			t.Errorf("block %d came as %v (%v)", height, leaves, err)
		}
	}
	for _, height := range []uint64{0, 1, 2} {
		want(height, 1)
		want(height, 1)
	}
	want(5, 1)
	want(5, 2)
	want(5, 2)
	want(1+followedBlocks, 1)
	want(1, 2)
	want(1, 3)
	want(1+followedBlocks, 1)
	want(2, 1)
}

// A certificate is held back for a while and for so many bytes, never one of a block
// with a statement: a follower that nothing certifies for long gives up.
func TestCertificatesAreHeldBackForAWhile(t *testing.T) {
	header := &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: []byte("header")}}
	measurement := &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Hash{Hash: []byte("hash")}}
	statement := &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: []byte("statement")}}
	for _, c := range []struct {
		name   string
		leaves []*ledgerv1.Leaf
		bare   int
		since  time.Duration
		want   bool
	}{
		{"measurements", []*ledgerv1.Leaf{measurement, measurement, header}, 0, 0, true},
		{"a header alone", []*ledgerv1.Leaf{header}, 0, 0, true},
		{"the last that may", []*ledgerv1.Leaf{measurement, header}, maxBareBytes - 1, maxBare - 1, true},
		{"a statement", []*ledgerv1.Leaf{measurement, statement, header}, 0, 0, false},
		{"too many bytes", []*ledgerv1.Leaf{measurement, header}, maxBareBytes, 0, false},
		{"too long", []*ledgerv1.Leaf{measurement, header}, 0, maxBare, false},
	} {
		if got := mayBeBare(c.leaves, c.bare, c.since); got != c.want {
			t.Errorf("%s: may be bare %v, want %v", c.name, got, c.want)
		}
	}
}
