package storage

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/state"
	"go.etcd.io/bbolt"
)

// written is a block with such state writes only.
func (m *maker) written(values map[string][]byte) Block {
	b := m.block(0, 0, 0)
	b.Writes = nil
	for _, key := range slices.Sorted(maps.Keys(values)) {
		b.Writes = append(b.Writes, state.Write{Key: []byte(key), Value: values[key]})
	}
	return b
}

// Readers see one state, whichever pages of counters come in whichever order and
// in which table they are: also in a store that an earlier program began.
func TestPagesOfCountersAreStateLikeOther(t *testing.T) {
	for name, begun := range map[string]func(tx *bbolt.Tx) error{
		"new":              nil,
		"begun by another": func(tx *bbolt.Tx) error { return makeEarlier(tx, 4) },
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			dir := t.TempDir()
			s, m := mustOpen(t, dir, small()), newMaker(t, 81)
			want := make(map[string][]byte)
			newest := make([]uint64, 7) // page, by meter
			block := func() Block {
				values := make(map[string][]byte)
				for range 6 {
					meter := random.IntN(len(newest))
					page := newest[meter]
					switch random.IntN(5) {
					case 0:
						page++
					case 1:
						page += random.Uint64N(5)
					case 2:
						page -= min(page, random.Uint64N(5))
					}
					newest[meter] = max(newest[meter], page)
					// Ids of which one begins like another, and the states before and behind pages.
					id := []string{"m", "m-1", "m-10", "m-2", "n", "o", "oo"}[meter]
					key := state.PageKey(id, page*state.CountersPerPage)
					values[key] = fmt.Appendf(nil, "%d of %s in %d", page, id, m.tree.Size())
					values["k/"+id], values["q/"+id] = values[key], values[key]
				}
				maps.Copy(want, values)
				return m.written(values)
			}
			compare := func() {
				t.Helper()
				for key, value := range want {
					if got, err := s.Get([]byte(key)); err != nil || !bytes.Equal(got, value) {
						t.Fatalf("%q is %q (%v), want %q", key, got, err, value)
					}
				}
				keys := slices.Sorted(maps.Keys(want))
				for _, at := range []struct{ prefix, from string }{{"", ""}, {"p", ""}, {"p/", ""}, {"p/m-1\x00", ""}, {"", keys[len(keys)/2]}, {"p/", keys[len(keys)/3]}, {"q/", ""}, {"k/", "k/n"}, {"p/z", ""}} {
					var got, expected []string
					must(t, s.Scan([]byte(at.prefix), []byte(at.from), func(key, value []byte) bool {
						got = append(got, string(key)+"="+string(value))
						return true
					}))
					for _, key := range keys {
						if strings.HasPrefix(key, at.prefix) && key >= at.from {
							expected = append(expected, key+"="+string(want[key]))
						}
					}
					if !slices.Equal(got, expected) {
						t.Fatalf("under %q from %q: %q, want %q", at.prefix, at.from, got, expected)
					}
					visits := 0
					must(t, s.Scan([]byte(at.prefix), []byte(at.from), func([]byte, []byte) bool { visits++; return visits < 3 }))
					if visits != min(3, len(expected)) {
						t.Fatalf("under %q from %q: %d visits, the third said stop", at.prefix, at.from, visits)
					}
				}
				mustVerify(t, s)
			}
			for round := range 8 {
				for range 6 {
					must(t, s.Commit(m.batch(block())))
				}
				must(t, s.Commit(m.batch(block(), block(), block())))
				compare()
				must(t, s.Close())
				if round == 2 && begun != nil {
					tamper(t, dir, begun)
				}
				s = mustOpen(t, dir, small())
				compare() // from the disk
			}
			if got := s.recent.Load().tip; got.pages != uint64(len(newest)) || got.stateKeys != uint64(len(want)) {
				t.Errorf("%d newest pages of %d meters, %d keys of %d", got.pages, len(newest), got.stateKeys, len(want))
			}
		})
	}
}

// The pages that meters have left are not kept in memory.
func TestHotValuesDoNotGrowWithTheLedger(t *testing.T) {
	s, m := mustOpen(t, t.TempDir(), small()), newMaker(t, 83)
	ids := []string{"a", "b", "c"}
	for page := range uint64(20) {
		values := make(map[string][]byte)
		for _, id := range ids {
			values[state.PageKey(id, page*state.CountersPerPage)] = []byte("first")
		}
		must(t, s.Commit(m.batch(m.written(values))))
		must(t, s.Commit(m.batch(m.written(values))))
		held := 0
		for key, value := range s.hot.young {
			held += len(key) + len(value)
		}
		if len(s.hot.young) != len(ids) || s.hot.bytes != held {
			t.Fatalf("%d values in memory, %d bytes of %d, behind page %d of %d meters", len(s.hot.young), held, s.hot.bytes, page, len(ids))
		}
	}
}

// countingDisk counts the pages of store.db that commits write.
type countingDisk struct {
	osDisk
	pages int64
}

func (d *countingDisk) CommitTx(tx *bbolt.Tx) error {
	err := d.osDisk.CommitTx(tx)
	stats := tx.Stats()
	d.pages += stats.GetPageCount()
	return err
}

// What a block changes in store.db depends on how many meters it is of, not on how
// much they have measured before. While the newest pages lay between old ones it was
// some twenty times as much as at the beginning.
func TestPagesWrittenDoNotGrowWithTheLedger(t *testing.T) {
	const meters, blocks = 600, state.CountersPerPage
	written := func(before uint64) int64 {
		counter := &countingDisk{}
		s, m := mustOpen(t, t.TempDir(), Options{disk: counter}), newMaker(t, 82)
		value := bytes.Repeat([]byte{5}, 140)
		values := make(map[string][]byte)
		for meter := range meters {
			id := fmt.Sprintf("meter-%04d", meter)
			for page := range before {
				values[state.PageKey(id, page*state.CountersPerPage)] = value
			}
		}
		must(t, s.Commit(m.batch(m.written(values))))
		counter.pages = 0
		for i := range uint64(blocks) { // every meter fills the rest of a page and begins the next, each in another block
			values := make(map[string][]byte)
			for meter := range uint64(meters) {
				id := fmt.Sprintf("meter-%04d", meter)
				values[state.PageKey(id, (before-1)*state.CountersPerPage+i+meter%state.CountersPerPage)] = value
				values[state.ChainKey(id)] = value
			}
			must(t, s.Commit(m.batch(m.written(values))))
		}
		return counter.pages / blocks
	}
	few, many := written(1), written(60)
	t.Logf("%d pages for a block of %d meters that have a page, %d when they have 60", few, meters, many)
	if limit := few + meters/state.CountersPerPage*2; many > limit {
		t.Errorf("%d pages, want at most the %d of the beginning and one of those that go, with the ones above it", many, few)
	}
}
