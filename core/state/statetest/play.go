package statetest

import (
	"errors"

	"github.com/lacre-metrology/lacre/core/state"
)

// Begin starts the block of a step as every replica must (rule C5): what is no
// certificate of this ledger makes an empty block, and no block is begun further
// ahead of its certificates than the limit. empty says that the submissions count
// for nothing; the block is nil when there is none.
func (s Step) Begin(view state.View, head state.BlockRef, options state.Options) (block *state.Block, empty bool, err error) {
	block, err = state.Begin(view, head, options, s.CertifiedHeight, s.Certificate)
	if errors.Is(err, state.ErrBadProposal) {
		empty = true
		block, err = state.BeginEmpty(view, head, options)
	}
	if errors.Is(err, state.ErrTooFarAhead) {
		return nil, true, nil
	}
	return block, empty, err
}

// Play makes the block of a step in the network's store and returns the outcomes
// of its submissions; made is false where there is no block.
func (n *Network) Play(s Step) (outcomes [][]state.Outcome, made bool) {
	n.TB.Helper()
	block, empty, err := s.Begin(n.Store, n.Store.Head(), n.options())
	n.must(err)
	if block == nil {
		return nil, false
	}
	if !empty {
		for _, submission := range s.Submissions {
			o, err := block.Submit(Parse(submission.Records, submission.RawVectors))
			n.must(err)
			outcomes = append(outcomes, o)
		}
	}
	n.apply(block)
	return outcomes, true
}
