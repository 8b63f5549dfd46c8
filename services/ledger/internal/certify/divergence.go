package certify

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Alarms are told of signatures that contradict this replica's own tree. None
// may block.
type Alarms struct {
	// Diverged: another replica signed another tree. One of the two has another
	// history than the one it should have.
	Diverged func(*DivergenceError)
	// DoubleSigned: another replica signed two trees that exclude each other.
	DoubleSigned func(*DoubleSignError)
	// Outvoted: a quorum signed another tree. At least F+1 of them are honest, so
	// it is this replica that has another history, and must go no further. The
	// error is of DATA_LOSS.
	Outvoted func(error)
}

// Refused judges a certificate that a proposal carried and that the transition
// refused: by all alike the proposal is an empty block, which decides nothing here.
// The height is the proposer's word; what the quorum signed is not. So where a
// quorum of that height certified a tree that this replica does not have, its own
// history is wrong (Outvoted), whatever was said of the height. A tree that is
// larger than this replica's is such a one too: whoever cosigned it had applied
// more when this entry was ordered than this replica has after it. Everything
// else is the proposer's fault. The caller has told of all blocks up to the entry.
func (c *Collector) Refused(height uint64, text []byte) error {
	certificate, err := tlog.ParseCertificate(text)
	if err != nil {
		return nil // the proposer's fault, which the transition has told of
	}
	c.mu.Lock()
	applied := c.applied
	c.mu.Unlock()
	quorum, _, err := c.ledger.QuorumAt(min(height, applied))
	if err != nil {
		return err
	}
	if quorum.Check(signature.Direct{}, certificate) != nil {
		return nil // as above
	}
	head, _, err := c.ledger.Block(applied)
	if err != nil {
		return err
	}
	theirs, ours := certificate.Checkpoint, "no such tree"
	if theirs.Size <= head.Size {
		root, err := c.ledger.RootAt(theirs.Size)
		if err != nil {
			return err
		}
		if root == theirs.Root {
			return nil // of this history, and not of the block that was named
		}
		ours = "root " + root.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outvoted {
		return nil
	}
	c.outvoted = true
	c.alarms.Outvoted(reason.New(reason.DataLoss,
		"a proposal carries a certificate of size %d and root %s by a quorum of block %d; this replica has %s at that size, and size %d at block %d: its history is not the network's; the certificate is %q",
		theirs.Size, theirs.Root, height, ours, head.Size, head.Height, certificate.Text()))
	return nil
}

// DivergenceError says that another replica signed a tree which this replica's
// own tree contradicts. The signature is checked, so the line is evidence: one
// of the two replicas has another history than the one it should have.
type DivergenceError struct {
	Theirs  Signed         // what the other replica signed
	Ours    state.BlockRef // this replica's block of that height
	OurRoot digest.Digest  // of this replica's tree at the size that the other signed
}

func (e *DivergenceError) Error() string {
	return fmt.Sprintf("replica %s cosigned root %s at size %d, this replica's tree has root %s there (block %d here has size %d and root %s)",
		e.Theirs.Cosignature.Name, e.Theirs.Checkpoint.Root, e.Theirs.Checkpoint.Size, e.OurRoot, e.Ours.Height, e.Ours.Size, e.Ours.Root)
}

// DoubleSignError is the evidence against a replica that signed two trees which
// exclude each other (rule C1). Both signatures are checked. Where the sizes are
// equal they are the whole proof; otherwise a proof of consistency from the tree
// with OurRoot to that of Agreed, which every honest replica can give, completes it.
type DoubleSignError struct {
	Agreed  Signed        // a checkpoint of this replica's own tree, at least as large
	Other   Signed        // the one that contradicts it
	OurRoot digest.Digest // of this replica's tree at the other's size
}

func (e *DoubleSignError) Error() string {
	return fmt.Sprintf("replica %s cosigned root %s at size %d and root %s at size %d, in whose tree size %d has root %s",
		e.Other.Cosignature.Name, e.Other.Checkpoint.Root, e.Other.Checkpoint.Size,
		e.Agreed.Checkpoint.Root, e.Agreed.Checkpoint.Size, e.Other.Checkpoint.Size, e.OurRoot)
}

// errMislabelled is a good signature that came with the wrong height. The height
// is not signed, so it proves nothing.
var errMislabelled = errors.New("the cosignature is not of the block that it came for")

// compare judges a checked signature against the block that this replica has at
// its height: nil, a *DivergenceError or errMislabelled.
func (c *Collector) compare(s Signed, block state.BlockRef) error {
	if s.Checkpoint.Size == block.Size && s.Checkpoint.Root == block.Root {
		return nil
	}
	ours := block.Root
	if s.Checkpoint.Size != block.Size {
		var err error
		if ours, err = c.ledger.RootAt(s.Checkpoint.Size); err != nil {
			return fmt.Errorf("%w: it is of size %d, block %d has size %d", errMislabelled, s.Checkpoint.Size, block.Height, block.Size)
		}
	}
	if ours == s.Checkpoint.Root {
		return fmt.Errorf("%w: it is of size %d, block %d has size %d", errMislabelled, s.Checkpoint.Size, block.Height, block.Size)
	}
	return &DivergenceError{Theirs: s, Ours: block, OurRoot: ours}
}

// judge compares a checked signature with the block of its height, and raises
// what follows from it. The caller holds mu.
func (c *Collector) judge(s Signed, block state.BlockRef) error {
	name := s.Cosignature.Name
	err := c.compare(s, block)
	if err == nil {
		if old, ok := c.agreed[name]; !ok || old.Checkpoint.Size <= s.Checkpoint.Size {
			c.agreed[name] = s
		}
		c.blame(name)
		return nil
	}
	var divergence *DivergenceError
	// Once for each tree that a replica signs: refreshed signatures come each second.
	if errors.As(err, &divergence) && (c.raised[name] == nil || c.raised[name].Theirs.Checkpoint != s.Checkpoint) {
		c.raised[name] = divergence
		c.alarms.Diverged(divergence)
		c.blame(name)
	}
	c.against[name] = s
	c.count(s, block)
	return err
}

// blame raises a double signer, once. The caller holds mu.
func (c *Collector) blame(name string) {
	other, diverged := c.raised[name]
	agreed, ok := c.agreed[name]
	// A smaller tree that agrees excludes nothing: the fork may begin behind it.
	if !diverged || !ok || c.blamed[name] || agreed.Checkpoint.Size < other.Theirs.Checkpoint.Size {
		return
	}
	c.blamed[name] = true
	c.alarms.DoubleSigned(&DoubleSignError{Agreed: agreed, Other: other.Theirs, OurRoot: other.OurRoot})
}

// count looks whether a quorum signed at a height what this replica does not have
// there, whatever the size: the height is not signed, but of a quorum that says
// the same of it F+1 are honest. The caller holds mu.
func (c *Collector) count(s Signed, block state.BlockRef) {
	var collected []tlog.Cosignature
	for _, other := range c.against {
		if other.Height == s.Height && other.Checkpoint == s.Checkpoint {
			collected = append(collected, other.Cosignature)
		}
	}
	quorum, _, err := c.ledger.QuorumAt(s.Height)
	if err != nil {
		return // this replica cannot tell; whoever reads next will be told why
	}
	certificate, err := quorum.Assemble(s.Checkpoint, s.Log, collected)
	if err != nil || c.outvoted {
		return // the quorum is not reached
	}
	c.outvoted = true
	c.alarms.Outvoted(reason.New(reason.DataLoss,
		"a quorum of replicas has cosigned size %d and root %s for block %d, which has size %d and root %s here: this replica's history is not the network's; their certificate is %q",
		s.Checkpoint.Size, s.Checkpoint.Root, s.Height, block.Size, block.Root, certificate.Text()))
}
