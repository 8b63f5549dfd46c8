package statement

import (
	"crypto"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// Meter is what a registration says of a speed meter with inductive loops.
type Meter struct {
	ID                   string
	Public               crypto.PublicKey // verifies its samples
	TLS                  identity.SPKI    // its connections' key; zero if it has none of its own
	Site                 *recordv1.Site
	Seal                 string
	SpacingMillimetres   int64 // leading edge to leading edge of adjacent loops
	SampleRateMillihertz uint64
	Verification         *recordv1.Verification
}

// Registration drafts a meter's registration for the built-in speed module with
// its default parameters.
func Registration(p Place, issuedAt time.Time, m Meter) (*recordv1.MeterRegistration, error) {
	kind, err := sample.KindOf(m.Public)
	if err != nil {
		return nil, err
	}
	key, err := signature.KeyOf(kind, m.Public)
	if err != nil {
		return nil, err
	}
	module := digest.Plain(speed.Module())
	r := &recordv1.MeterRegistration{
		Header:  p.Header(record.SubjectMeter(m.ID), issuedAt),
		MeterId: m.ID, Key: key.Bytes(), Model: "simulated double loop", TypeApproval: "none (simulated)",
		Algorithm: module.Bytes(), Channels: 2, SampleRateMillihertz: m.SampleRateMillihertz,
		Parameters: speed.DefaultParameters(m.SpacingMillimetres),
		Site:       m.Site, Seal: m.Seal, Verification: m.Verification, FirstCounter: 1,
	}
	if m.TLS != (identity.SPKI{}) {
		r.TlsSpki = m.TLS[:]
	}
	return r, nil
}
