package certify

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
)

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

// raise tells of a divergence, once for each tree that a replica signs: refreshed
// signatures come each second. The caller holds mu.
func (c *Collector) raise(err error) {
	var divergence *DivergenceError
	if !errors.As(err, &divergence) {
		return
	}
	name := divergence.Theirs.Cosignature.Name
	if c.raised[name] == divergence.Theirs.Checkpoint {
		return
	}
	c.raised[name] = divergence.Theirs.Checkpoint
	c.alarm(divergence)
}
