package receipt

import (
	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Measurement is a Measurement leaf, decoded and consistent in itself.
type Measurement struct {
	Record         []byte                // the leaf's exact bytes
	Message        *recordv1.Measurement // as decoded
	Sample         *sample.Sample        // the meter's header
	Claim          *claim.Claim          // what the endorsers signed
	Result         abi.Output            // of the claim
	EndorsementSet digest.Digest         // of the EndorsementSet record
	Approval       digest.Digest         // of the approval statement
	Config         digest.Digest         // of the configuration statement
}

// ParseMeasurement decodes a leaf and checks all that the leaf alone tells:
// header and claim are of one sample and one network. It verifies no
// signature. Errors are *reason.Error.
func ParseMeasurement(b []byte) (*Measurement, error) {
	r, err := record.Parse(b)
	if err != nil {
		return nil, err
	}
	message := r.GetMeasurement()
	if message == nil {
		return nil, reason.New(reason.WrongPlace, "the record is a %T, not a Measurement", r.GetBody())
	}
	m := &Measurement{Record: b, Message: message}
	if m.Sample, err = sample.Parse(message.GetHeader()); err != nil {
		return nil, err
	}
	if m.Claim, err = claim.Parse(message.GetClaim()); err != nil {
		return nil, err
	}
	if m.Result, err = claim.ParseResult(m.Claim.Result); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		from []byte
		to   *digest.Digest
	}{
		{"endorsement_set", message.GetEndorsementSet(), &m.EndorsementSet},
		{"approval", message.GetApproval(), &m.Approval},
		{"config", message.GetConfig(), &m.Config},
	} {
		if *f.to, err = record.Digest32(f.name, f.from); err != nil {
			return nil, err
		}
	}
	if err := sample.CheckSignatureForm(message.GetSignature()); err != nil {
		return nil, err
	}
	switch {
	case m.Claim.Sample != m.Sample.Digest:
		return nil, reason.New(reason.DigestMismatch, "claim is on sample %s, the header is sample %s", m.Claim.Sample.Short(), m.Sample.Digest.Short())
	case m.Claim.NetworkID != m.Sample.NetworkID:
		return nil, reason.New(reason.WrongNetwork, "claim is of network %s, the header of %s", m.Claim.NetworkID.Short(), m.Sample.NetworkID.Short())
	case message.GetClaimIndex() >= record.MaxClaims:
		return nil, reason.New(reason.Malformed, "claim_index is %d, a set has at most %d claims", message.GetClaimIndex(), record.MaxClaims)
	case message.GetDisposition() == recordv1.Disposition_DISPOSITION_UNSPECIFIED:
		return nil, reason.New(reason.Malformed, "disposition is not given")
	}
	return m, nil
}

// Receipt is a Measurement with its proof. Parse verifies nothing of it.
type Receipt struct {
	Proof *tlog.Proof
	*Measurement
}

// Build makes the receipt of a Measurement leaf at an index of the certificate's
// tree; path is its inclusion proof. Whether the certificate is good is the
// caller's affair; that the path holds is checked, so that no ledger gives out
// a receipt that does not verify. Errors are *reason.Error for the record,
// *tlog.FormatError, *tlog.RootError or *tlog.ProofShapeError for the proof.
func Build(leaf []byte, index uint64, path []digest.Digest, certificate *tlog.Certificate) ([]byte, error) {
	if _, err := ParseMeasurement(leaf); err != nil {
		return nil, err
	}
	proof, err := tlog.NewProof(leaf, index, path, certificate)
	if err != nil {
		return nil, err
	}
	if err := checkInclusion(leaf, index, path, certificate.Checkpoint); err != nil {
		return nil, err
	}
	return proof.Text(), nil
}

// Parse reads what Build writes, and nothing else. It proves form only: the
// errors are a *tlog.FormatError, or a *reason.Error for the record.
func Parse(text []byte) (*Receipt, error) {
	proof, err := tlog.ParseProof(text)
	if err != nil {
		return nil, err
	}
	m, err := ParseMeasurement(proof.Extra)
	if err != nil {
		return nil, err
	}
	return &Receipt{Proof: proof, Measurement: m}, nil
}

func checkInclusion(leaf []byte, index uint64, path []digest.Digest, c tlog.Checkpoint) error {
	return tlog.VerifyInclusion(tlog.LeafHash(leaf), index, c.Size, path, c.Root)
}
