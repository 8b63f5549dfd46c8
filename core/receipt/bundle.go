package receipt

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// BundleVersion is the version of bundles.
const BundleVersion = 1

// Bounds of a bundle.
const (
	MaxNodes       = 64 // endorsers of one set, as many as a policy can name
	MaxRollovers   = state.MaxRollovers
	MaxHistory     = 1024     // other statements on one meter; the ledger takes fewer
	MaxModuleBytes = 64 << 10 // the sandbox profile's bound on a module
	MaxBundleBytes = 10 << 20 // above the sum of all items at their largest
	maxPathHashes  = 64       // of an inclusion proof
)

// Prove makes an item of a bundle.
func Prove(leaf []byte, index uint64, path []digest.Digest) *recordv1.ProvenRecord {
	p := &recordv1.ProvenRecord{Record: leaf, Index: index}
	for i := range path {
		p.Proof = append(p.Proof, path[i].Bytes())
	}
	return p
}

// BuildBundle encodes a bundle in its one form; the version is filled in.
// Errors are *reason.Error: TooLarge, Malformed or NotCanonical.
func BuildBundle(b *recordv1.Bundle) ([]byte, error) {
	b.Version = BundleVersion
	if err := checkBundle(b); err != nil {
		return nil, err
	}
	encoded, err := wire.Encode(b)
	if err != nil {
		return nil, reason.New(reason.NotCanonical, "%v", err)
	}
	return encoded, nil
}

// ParseBundle reads what BuildBundle writes, and nothing else. It proves form
// only. Errors are *reason.Error: TooLarge, NotCanonical or Malformed.
func ParseBundle(encoded []byte) (*recordv1.Bundle, error) {
	b := new(recordv1.Bundle)
	if err := record.Decode(encoded, MaxBundleBytes, b); err != nil {
		return nil, err
	}
	if err := checkBundle(b); err != nil {
		return nil, err
	}
	return b, nil
}

func checkBundle(b *recordv1.Bundle) error {
	if b.GetVersion() != BundleVersion {
		return reason.New(reason.Malformed, "bundle has version %d, want %d", b.GetVersion(), BundleVersion)
	}
	for _, part := range []struct {
		name       string
		got, limit int
	}{
		{"bytes of receipt", len(b.GetReceipt()), tlog.MaxProofSize},
		{"node registrations", len(b.GetNodes()), MaxNodes},
		{"key rollovers", len(b.GetRollovers()), MaxRollovers},
		{"other statements on the meter", len(b.GetHistory()), MaxHistory},
		{"bytes of raw vector", len(b.GetRawVector()), record.MaxRawVectorBytes},
		{"bytes of module", len(b.GetModule()), MaxModuleBytes},
	} {
		if part.got > part.limit {
			return reason.New(reason.TooLarge, "bundle has %d %s, the limit is %d", part.got, part.name, part.limit)
		}
	}
	if len(b.GetReceipt()) == 0 {
		return reason.New(reason.Malformed, "bundle has no receipt")
	}
	single := []*recordv1.ProvenRecord{b.GetEndorsementSet(), b.GetRegistration(), b.GetApproval(), b.GetConfig(), b.GetParameters(), b.GetNationalTable()}
	for _, list := range [][]*recordv1.ProvenRecord{single, b.GetNodes(), b.GetRollovers(), b.GetHistory()} {
		for _, p := range list {
			if err := checkProven(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkProven(p *recordv1.ProvenRecord) error {
	if p == nil { // absent: its step will be undecidable
		return nil
	}
	if n := len(p.GetRecord()); n == 0 || n > record.MaxBytes {
		return reason.New(reason.TooLarge, "bundle has a record of %d bytes, want 1 to %d", n, record.MaxBytes)
	}
	if n := len(p.GetProof()); n > maxPathHashes {
		return reason.New(reason.TooLarge, "bundle has a proof of %d hashes, at most %d", n, maxPathHashes)
	}
	for _, h := range p.GetProof() {
		if len(h) != digest.Size {
			return reason.New(reason.Malformed, "bundle has a proof with a hash of %d bytes, want %d", len(h), digest.Size)
		}
	}
	return nil
}
