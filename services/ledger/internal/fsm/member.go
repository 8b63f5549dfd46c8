package fsm

import (
	"sort"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
)

// membership remembers whether a replica is one of those whose cosignatures a
// block's certificate asks for. It differs only where the configuration does.
type membership struct {
	config digest.Digest // in force at the block that was asked last
	known  bool          // member holds for the blocks after that one, too
	member bool
}

// at answers for the newest block of a view. In the block of a configuration,
// the members of both sets count (rule C6).
func (m *membership) at(view state.View, block state.BlockRef, cosigner string) (bool, error) {
	if m.known && m.config == block.Config {
		return m.member, nil
	}
	config, err := state.GetConfig(view)
	if err != nil {
		return false, err
	}
	quorum, err := state.QuorumAt(view, block.Height)
	if err != nil {
		return false, err
	}
	_, m.member = quorum.Cosigner(cosigner)
	m.config, m.known = block.Config, config.Height < block.Height
	return m.member, nil
}

// entriesKept is for how many of the newest blocks the index of their entry is
// known: many more than may wait for a certificate.
const entriesKept = 4096

// entryIndices are the ordering indices of the entries that made the newest
// blocks, since the start. It is safe for concurrent use.
type entryIndices struct {
	mu   sync.Mutex
	made []entryIndex // ascending by height
}

type entryIndex struct{ height, index uint64 }

// add tells that an entry left the ledger at a height; the first one made it.
func (e *entryIndices) add(height, index uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.made); n > 0 && e.made[n-1].height >= height {
		return
	}
	e.made = append(e.made, entryIndex{height: height, index: index})
	if len(e.made) >= 2*entriesKept {
		e.made = append(e.made[:0], e.made[len(e.made)-entriesKept:]...)
	}
}

// of is the index for a height; ok is false if it is not known.
func (e *entryIndices) of(height uint64) (index uint64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := sort.Search(len(e.made), func(i int) bool { return e.made[i].height >= height })
	if i == len(e.made) || e.made[i].height != height {
		return 0, false
	}
	return e.made[i].index, true
}

// EntryOf is the ordering index of the entry that brought the block at a height;
// ok is false if this replica does not know it.
func (m *Machine) EntryOf(height uint64) (index uint64, ok bool) { return m.entries.of(height) }
