package follower

import (
	"fmt"
	"maps"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

const (
	// maxAhead bounds the blocks that are held before a certificate covers them.
	maxAhead = 4096
	// refsKept is how many block references a view answers: enough for every
	// certificate that a header may name (state allows far fewer uncertified
	// blocks).
	refsKept = 2 * maxAhead
)

// memoryBytes bounds the values that stay decoded: those of about 30,000 meters,
// which take some 100 MiB.
const memoryBytes = 16 << 20

// Snapshot is the administrative state at a certified block. It implements
// state.View for what followers see: Record is not among it.
type Snapshot struct {
	head        state.BlockRef
	certificate []byte
	proof       *tlog.Proof       // of the newest header that a trust bundle certifies; nil before the first
	values      map[string][]byte // never changed once published
	memory      *state.Memory     // of values; the chain's
	// refs are consecutive blocks, the last is head. Snapshots share the array:
	// each sees its own length of it, and only the chain writes beyond.
	refs   []state.BlockRef
	config *state.Config
}

// Head is the certified block.
func (s *Snapshot) Head() state.BlockRef { return s.head }

// Certificate certifies Head.
func (s *Snapshot) Certificate() []byte { return s.certificate }

// HeadProof is a C2SP tlog-proof of the newest header record, for whoever holds a
// trust bundle and no more. It is of Head, or of a block before it when Head
// brought a configuration and its certificate tells nothing to those who know
// the old one. The error is NOT_READY before the first.
func (s *Snapshot) HeadProof() ([]byte, error) {
	if s.proof == nil {
		return nil, reason.New(reason.NotReady, "no certificate up to block %d is one that a trust bundle accepts", s.head.Height)
	}
	return s.proof.Text(), nil
}

// Config is the configuration in force.
func (s *Snapshot) Config() *state.Config { return s.config }

// Keys visits the keys with a prefix in no order; the caller sorts.
func (s *Snapshot) Keys(prefix string, visit func(key string)) {
	for key := range s.values {
		if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			visit(key)
		}
	}
}

// Get implements state.View.
func (s *Snapshot) Get(key []byte) ([]byte, error) { return s.values[string(key)], nil }

// Memory implements state.Remembering.
func (s *Snapshot) Memory() *state.Memory { return s.memory }

// Block implements state.View for recent blocks.
func (s *Snapshot) Block(height uint64) (state.BlockRef, bool, error) {
	if height > s.head.Height || s.head.Height-height >= uint64(len(s.refs)) {
		return state.BlockRef{}, false, nil
	}
	return s.refs[uint64(len(s.refs))-1-(s.head.Height-height)], true, nil
}

// Record implements state.View; a follower holds no records.
func (s *Snapshot) Record(index uint64) ([]byte, error) {
	return nil, reason.New(reason.NotFound, "a follower holds no records, record %d is asked for", index)
}

// chain is the follower's ledger: certified up to a snapshot, and some blocks
// above it that wait for a certificate. Owned by Run's goroutine.
type chain struct {
	networkID digest.Digest
	verifier  signature.Verifier
	// pin is a block that a state which this follower verified earlier had as its
	// head, although that state is not used: what is followed must come by it.
	pin    *state.BlockRef
	memory *state.Memory

	certified *Snapshot
	tree      *tlog.Range // of the certified blocks

	ahead     *Snapshot       // with the blocks above; nil when there are none
	aheadTree *tlog.Range     // nil when ahead is
	header    []byte          // of ahead's newest block, the last leaf of aheadTree
	path      []digest.Digest // inclusion proof of header in aheadTree
	private   bool            // ahead.values is a copy of its own, not shared with certified
}

func newChain(networkID digest.Digest, verifier signature.Verifier) *chain {
	return &chain{networkID: networkID, verifier: verifier, memory: state.NewMemory(memoryBytes), tree: tlog.NewRange()}
}

// next is the height that is wanted next.
func (c *chain) next() uint64 {
	if top := c.top(); top != nil {
		return top.head.Height + 1
	}
	return 0
}

func (c *chain) top() *Snapshot {
	if c.ahead != nil {
		return c.ahead
	}
	return c.certified
}

// uncertified is how many blocks wait for a certificate.
func (c *chain) uncertified() uint64 {
	switch {
	case c.ahead == nil:
		return 0
	case c.certified == nil:
		return c.ahead.head.Height + 1
	default:
		return c.ahead.head.Height - c.certified.head.Height
	}
}

// forget drops what no certificate covers: another replica may say otherwise.
func (c *chain) forget() {
	c.ahead, c.aheadTree, c.header, c.path, c.private = nil, nil, nil, nil, false
}

// add applies one block and returns the new snapshot if a certificate came with
// it. An error means that the replica does not serve this ledger.
func (c *chain) add(b *ledgerv1.StreamBlocksResponse) (*Snapshot, error) {
	if want := c.next(); b.GetHeight() != want {
		return nil, fmt.Errorf("block %d came, block %d was due", b.GetHeight(), want)
	}
	if c.uncertified() == maxAhead {
		return nil, fmt.Errorf("%d blocks came without a certificate", maxAhead)
	}
	leaves, err := leavesOf(b)
	if err != nil {
		return nil, err
	}
	sealed, err := c.replay(leaves)
	if err != nil {
		return nil, err
	}
	if err := c.extend(sealed); err != nil {
		return nil, err
	}
	if len(b.GetCertificate()) == 0 {
		return nil, nil
	}
	return c.settle(b.GetCertificate())
}

func leavesOf(b *ledgerv1.StreamBlocksResponse) ([]state.Leaf, error) {
	if len(b.GetLeaves()) == 0 {
		return nil, fmt.Errorf("block %d has no leaves", b.GetHeight())
	}
	leaves := make([]state.Leaf, len(b.GetLeaves()))
	for i, l := range b.GetLeaves() {
		switch content := l.GetContent().(type) {
		case *ledgerv1.Leaf_Record:
			leaves[i] = state.Leaf{Record: content.Record}
		case *ledgerv1.Leaf_Hash:
			hash, err := digest.FromBytes(content.Hash)
			if err != nil {
				return nil, fmt.Errorf("leaf %d of block %d: %w", i, b.GetHeight(), err)
			}
			leaves[i] = state.Leaf{Hash: hash}
		default:
			return nil, fmt.Errorf("leaf %d of block %d is empty", i, b.GetHeight())
		}
	}
	return leaves, nil
}

func (c *chain) replay(leaves []state.Leaf) (*state.Sealed, error) {
	options := state.Options{Verifier: c.verifier}
	if top := c.top(); top != nil {
		return state.ReplayAdministrative(top, top.head, options, leaves)
	}
	records := make([][]byte, len(leaves))
	for i, l := range leaves {
		if records[i] = l.Record; l.Record == nil {
			return nil, fmt.Errorf("leaf %d of the genesis block is withheld", i)
		}
	}
	return state.ReplayGenesis(records, options)
}

// extend puts a sealed block above what there is. It fails for the genesis block
// of another network.
func (c *chain) extend(sealed *state.Sealed) error {
	if c.ahead == nil {
		c.aheadTree = c.tree.Clone()
		c.ahead = &Snapshot{values: map[string][]byte{}, memory: c.memory}
		if c.certified != nil {
			// Values are copied only when something is written: most blocks hold
			// measurements alone.
			c.ahead.values, c.ahead.config, c.ahead.refs = c.certified.values, c.certified.config, c.certified.refs
		}
		c.private = c.certified == nil
	}
	s := c.ahead
	last := len(sealed.LeafHashes) - 1
	c.aheadTree.Append(sealed.LeafHashes[:last]...)
	c.header, c.path = sealed.Records[last], c.aheadTree.NextPath()
	c.aheadTree.Append(sealed.LeafHashes[last])
	s.head = sealed.Complete(c.aheadTree.Root())
	if c.pin != nil && s.head.Height == c.pin.Height && s.head != *c.pin {
		return fmt.Errorf("block %d has header %s and root %s, the kept state has a certified one of header %s and root %s: there are two histories",
			s.head.Height, s.head.Header.Short(), s.head.Root.Short(), c.pin.Header.Short(), c.pin.Root.Short())
	}
	s.refs = append(s.refs, s.head)
	s.refs = s.refs[max(0, len(s.refs)-refsKept):]
	if len(sealed.Writes) == 0 {
		return nil
	}
	if !c.private {
		s.values, c.private = maps.Clone(s.values), true
	}
	for _, w := range sealed.Writes {
		s.values[string(w.Key)] = w.Value
	}
	config, err := state.GetConfig(s)
	if err != nil {
		return err
	}
	if config.NetworkID != c.networkID {
		return reason.New(reason.WrongNetwork, "the replica serves network %s, followed is %s", config.NetworkID, c.networkID)
	}
	s.config = config
	return nil
}

// settle checks the certificate of the newest block and publishes it. In the
// block of a configuration that is the certificate of both quorums (rule C6).
func (c *chain) settle(text []byte) (*Snapshot, error) {
	s := c.ahead
	quorum, certificate, err := s.certified(text, c.verifier)
	if err != nil {
		return nil, err
	}
	if s.proof, err = c.prove(quorum, certificate); err != nil {
		return nil, err
	}
	s.certificate = text
	c.certified, c.tree = s, c.aheadTree
	c.forget()
	return s, nil
}

// certified says whether a certificate is of the head, by the quorum of its height.
func (s *Snapshot) certified(text []byte, verifier signature.Verifier) (*state.Quorum, *tlog.Certificate, error) {
	certificate, err := tlog.ParseCertificate(text)
	if err != nil {
		return nil, nil, err
	}
	if got := certificate.Checkpoint; got.Size != s.head.Size || got.Root != s.head.Root {
		return nil, nil, fmt.Errorf("certificate is of size %d and root %s, block %d has size %d and root %s",
			got.Size, got.Root.Short(), s.head.Height, s.head.Size, s.head.Root.Short())
	}
	quorum, err := state.QuorumAt(s, s.head.Height)
	if err != nil {
		return nil, nil, err
	}
	if err := quorum.Check(verifier, certificate); err != nil {
		return nil, nil, err
	}
	return quorum, certificate, nil
}

// prove makes the proof of the newest header under a certificate that its quorum
// accepts. That of a block that brought a configuration has the cosignatures of
// both quorums; a trust bundle has the old one answer for that size, with none
// left over. If the log signature is by a new replica, the proof before stays.
func (c *chain) prove(quorum *state.Quorum, certificate *tlog.Certificate) (*tlog.Proof, error) {
	if s := c.ahead; s.config.Height == s.head.Height {
		policies, err := quorum.Policies() // the old one first
		if err != nil {
			return nil, err
		}
		if certificate, err = policies[0].Assemble(certificate.Checkpoint, certificate.Log, certificate.Cosignatures); err != nil {
			return nil, err
		}
		if policies[0].Check(c.verifier, certificate) != nil {
			if c.certified == nil {
				return nil, nil // HeadProof says so
			}
			return c.certified.proof, nil
		}
	}
	return tlog.NewProof(c.header, certificate.Checkpoint.Size-1, c.path, certificate)
}

var _ state.Remembering = (*Snapshot)(nil)
