package state

import (
	"bytes"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// evidenceErasure orders that a piece of evidence be erased. The ledger knows
// pieces by the headers that name them and not the other way round, so the order
// may also come before the piece: then it is never kept at all. It is for ever.
//
// Who may: whoever the piece is sealed to. That stands in the piece and not on the
// ledger, so the order names the key, the ledger judges whose key it is, and
// whoever keeps the piece judges whether it is sealed to that key (Erases). An
// order for another's piece stands on the ledger and does nothing, nor does it
// stand in the way of the right one (docs/adr/0012).
type evidenceErasure struct{ *recordv1.EvidenceErasure }

func (e evidenceErasure) check(st *statement) error {
	piece, err := record.Digest32("evidence", e.GetEvidence())
	if err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectEvidence(piece)); err != nil {
		return err
	}
	if n := len(e.GetEvidenceKey()); n != evidence.KeySize {
		return reason.New(reason.Malformed, "evidence_key has %d bytes, want the %d of the key to which the piece is sealed", n, evidence.KeySize)
	}
	if e.GetRule() == "" {
		return reason.New(reason.Malformed, "an erasure names the legal rule that demands or allows it")
	}
	return checkText("rule", e.GetRule(), MaxReason)
}

func (e evidenceErasure) authority(r *reader, config *Config) ([]signers, error) {
	groups, err := organisationSigns(config, e.GetOrganisation())
	if err != nil {
		return nil, err
	}
	owner, err := r.raw(evidenceOwnerKey(e.GetEvidenceKey()))
	if err != nil {
		return nil, err
	}
	if string(owner) != e.GetOrganisation() {
		return nil, reason.New(reason.NotAuthorised, "the evidence key %.8x.. is not of %s (but of %q): whoever the piece is sealed to orders its erasure",
			e.GetEvidenceKey(), e.GetOrganisation(), owner)
	}
	return groups, nil
}

func (e evidenceErasure) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	piece := digest.Digest(e.GetEvidence())
	old, err := b.erased(piece)
	if err != nil {
		return err
	}
	if Erases(old, e.GetEvidenceKey()) {
		return reason.New(reason.EvidenceErased, "evidence %s was erased by leaf %d", piece.Short(), old.GetLast().GetIndex())
	}
	b.putMessage(EvidenceKey(piece), &statev1.ErasedEvidence{Last: ref, Keys: append(old.GetKeys(), e.GetEvidenceKey())})
	return nil
}

// Erases reports whether the orders on a piece, nil for none, erase it if it is
// sealed to the recipient.
func Erases(orders *statev1.ErasedEvidence, recipient []byte) bool {
	return slices.ContainsFunc(orders.GetKeys(), func(key []byte) bool { return bytes.Equal(key, recipient) })
}

// checkEvidenceKeys says whether a configuration's evidence keys are their
// organisations' own. Whose one is stays noted for ever, so that pieces sealed to
// a key that was replaced can still be erased, by nobody else.
func (b *Block) checkEvidenceKeys(c *recordv1.NetworkConfig) error {
	for _, o := range c.GetOrganisations() {
		if len(o.GetEvidenceKey()) == 0 {
			continue
		}
		if err := b.takeKey(evidenceOwnerKey(o.GetEvidenceKey()), "the evidence key of "+o.GetId(), o.GetId()); err != nil {
			return err
		}
	}
	return nil
}

func (b *Block) putEvidenceKeys(c *recordv1.NetworkConfig) {
	for _, o := range c.GetOrganisations() {
		if len(o.GetEvidenceKey()) > 0 {
			b.putRaw(evidenceOwnerKey(o.GetEvidenceKey()), []byte(o.GetId()))
		}
	}
}

// ReadsEvidence reports whether an organisation of the configuration has an
// evidence key: its nodes of ROLE_AUTHORITY read what is sealed to it.
func (c *Config) ReadsEvidence(organisation string) bool {
	return len(c.Organisation(organisation).GetEvidenceKey()) > 0
}

// GetErasedEvidence are the orders to erase a piece; nil without one. Erases says
// whether they do.
func GetErasedEvidence(view View, piece digest.Digest) (*statev1.ErasedEvidence, error) {
	return newReader(view).erased(piece)
}

func (r *reader) erased(piece digest.Digest) (*statev1.ErasedEvidence, error) {
	return message[statev1.ErasedEvidence](r, EvidenceKey(piece))
}
