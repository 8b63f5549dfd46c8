package api

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
)

// rehearse judges a statement by the one transition upon certified state, in a
// block that is then thrown away: what a submission at this moment would meet. A
// statement that is there already is answered with its place. Another statement
// may still come first, so an answer promises nothing.
func (s *Server) rehearse(id digest.Digest, leaf []byte) (*approvalv1.SubmitStatementResponse, error) {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	head := snapshot.Head()
	block, err := state.Begin(snapshot, head, state.Options{}, head.Height, snapshot.Certificate())
	if err != nil {
		return nil, err
	}
	outcomes, err := block.Submit(state.ParseSubmission([][]byte{leaf}, nil))
	if err != nil {
		return nil, err
	}
	o := outcomes[0]
	if !o.Accepted && o.Reason != reason.Duplicate {
		return nil, &reason.Error{Reason: o.Reason, Detail: o.Detail}
	}
	return &approvalv1.SubmitStatementResponse{Statement: id.Bytes(), Index: o.Index, CertifiedHeight: head.Height}, nil
}
