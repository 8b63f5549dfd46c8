package follower

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/kept"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// keptMagic names the version of a follower's kept state. What the transition
// writes for a statement never changes (headers cover it), but which statements
// a follower applies may: then this line changes, and older files are not read.
const keptMagic = "lacre/follower-state/v1\n"

// encode is a certified snapshot and its tree in their one form: network id,
// state values, block references, compact range, certificate of the last block,
// head proof (empty before there is one).
func encode(networkID digest.Digest, s *Snapshot, tree *tlog.Range) []byte {
	w := kept.NewWriter(keptMagic)
	w.Digest(networkID)
	w.Values(s.values)
	w.Number(uint64(len(s.refs)))
	for _, r := range s.refs {
		w.Block(r)
	}
	w.Field(tree.Bytes())
	w.Field(s.certificate)
	var proof []byte
	if s.proof != nil {
		proof = s.proof.Text()
	}
	w.Field(proof)
	return w.Bytes()
}

// decode reads what encode wrote for a network, and verifies what can be: that
// the blocks end in the tree's root, that the quorum of the configuration in it
// certified that root, that the proof is of one of the blocks. Errors are
// kept.ErrForm, WRONG_NETWORK, or say what does not fit.
func decode(b []byte, networkID digest.Digest, verifier signature.Verifier) (*Snapshot, *tlog.Range, error) {
	r, err := kept.Open(keptMagic, b)
	if err != nil {
		return nil, nil, err
	}
	of := r.Digest()
	if of != networkID {
		return nil, nil, reason.New(reason.WrongNetwork, "it is of network %s, followed is %s", of, networkID)
	}
	s := &Snapshot{values: r.Values(), memory: state.NewMemory(memoryBytes)}
	for range r.Count(kept.BlockSize(0)) {
		s.refs = append(s.refs, r.Block())
	}
	tree, err := tlog.ParseRange(r.Field())
	if err != nil {
		return nil, nil, err
	}
	s.certificate = bytes.Clone(r.Field())
	if text := r.Field(); len(text) > 0 {
		if s.proof, err = tlog.ParseProof(text); err != nil {
			return nil, nil, err
		}
	}
	if err := r.End(); err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(encode(networkID, s, tree), b) {
		return nil, nil, fmt.Errorf("%w: not in its one form", kept.ErrForm)
	}
	if err := s.fits(networkID, tree, verifier); err != nil {
		return nil, nil, err
	}
	return s, tree, nil
}

// fits verifies a snapshot that was read, and completes it.
func (s *Snapshot) fits(networkID digest.Digest, tree *tlog.Range, verifier signature.Verifier) error {
	if len(s.refs) == 0 || len(s.refs) > refsKept {
		return fmt.Errorf("it has %d blocks, want 1 to %d", len(s.refs), refsKept)
	}
	for i, next := range s.refs[1:] {
		if before := s.refs[i]; next.Height != before.Height+1 || next.FirstIndex != before.Size || next.Size <= before.Size {
			return fmt.Errorf("block %d with leaves %d to %d comes after block %d, which ends at leaf %d", next.Height, next.FirstIndex, next.Size, before.Height, before.Size)
		}
	}
	s.head = s.refs[len(s.refs)-1]
	if root := tree.Root(); tree.Size() != s.head.Size || root != s.head.Root {
		return fmt.Errorf("its tree has %d leaves with root %s, block %d has %d with root %s", tree.Size(), root.Short(), s.head.Height, s.head.Size, s.head.Root.Short())
	}
	var err error
	if s.config, err = state.GetConfig(s); err != nil {
		return err
	}
	switch {
	case s.config == nil:
		return errors.New("it has no configuration")
	case s.config.NetworkID != networkID:
		return reason.New(reason.WrongNetwork, "its state is of network %s, followed is %s", s.config.NetworkID, networkID)
	case s.config.Digest != s.head.Config:
		return fmt.Errorf("configuration %s is in its state, block %d names %s", s.config.Digest.Short(), s.head.Height, s.head.Config.Short())
	}
	if _, _, err := s.certified(s.certificate, verifier); err != nil {
		return fmt.Errorf("block %d: %w", s.head.Height, err)
	}
	return s.proofFits()
}

// proofFits wants the header proof to be of one of the blocks. Under which
// policy it was certified a later configuration may no longer tell; whoever
// reads the proof holds a trust bundle.
func (s *Snapshot) proofFits() error {
	if s.proof == nil {
		return nil
	}
	for _, ref := range s.refs {
		if ref.Size == s.proof.Certificate.Checkpoint.Size {
			if ref.Root != s.proof.Certificate.Checkpoint.Root || s.proof.Index != ref.Size-1 || record.HeaderDigest(s.proof.Extra) != ref.Header {
				return fmt.Errorf("its proof is not of block %d", ref.Height)
			}
			return nil
		}
	}
	return fmt.Errorf("its proof is of a tree of %d leaves, and none of its blocks ends there", s.proof.Certificate.Checkpoint.Size)
}
