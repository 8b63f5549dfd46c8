package state

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// evidenceErasure orders that a piece of evidence be erased. The ledger knows
// pieces by the headers that name them and not the other way round, so the order
// may also come before the piece: then it is never kept at all. It is for ever.
//
// Known hole: any organisation with an evidence key may order it, of pieces
// sealed to another's key too: to whom a piece is sealed is not on the ledger.
// Who ordered what, under which rule, is.
type evidenceErasure struct{ *recordv1.EvidenceErasure }

func (e evidenceErasure) check(st *statement) error {
	piece, err := record.Digest32("evidence", e.GetEvidence())
	if err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectEvidence(piece)); err != nil {
		return err
	}
	if e.GetRule() == "" {
		return reason.New(reason.Malformed, "an erasure names the legal rule that demands or allows it")
	}
	return checkText("rule", e.GetRule(), MaxReason)
}

func (e evidenceErasure) authority(_ *reader, config *Config) ([]signers, error) {
	groups, err := organisationSigns(config, e.GetOrganisation())
	if err != nil {
		return nil, err
	}
	if !config.ReadsEvidence(e.GetOrganisation()) {
		return nil, reason.New(reason.NotAuthorised, "%s has no evidence key in force, so it orders nothing about evidence", e.GetOrganisation())
	}
	return groups, nil
}

func (e evidenceErasure) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	piece := digest.Digest(e.GetEvidence())
	old, err := b.erased(piece)
	if err != nil {
		return err
	}
	if old != nil {
		return reason.New(reason.EvidenceErased, "evidence %s was erased by leaf %d", piece.Short(), old.GetLast().GetIndex())
	}
	b.putMessage(EvidenceKey(piece), &statev1.ErasedEvidence{Last: ref})
	return nil
}

// ReadsEvidence reports whether an organisation of the configuration has an
// evidence key: its nodes of ROLE_AUTHORITY read what is sealed to it.
func (c *Config) ReadsEvidence(organisation string) bool {
	return len(c.Organisation(organisation).GetEvidenceKey()) > 0
}

// GetErasedEvidence is the erasure of a piece; nil while it may be kept.
func GetErasedEvidence(view View, piece digest.Digest) (*statev1.ErasedEvidence, error) {
	return newReader(view).erased(piece)
}

func (r *reader) erased(piece digest.Digest) (*statev1.ErasedEvidence, error) {
	return message[statev1.ErasedEvidence](r, EvidenceKey(piece))
}
