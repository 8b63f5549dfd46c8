package claim

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Parameters is one version of what is legally relevant about a meter: of its
// registration, which is version 1, or of a MeterParameters after it. A capture
// is measured under the version in force at its time (rule S2). Who has the
// ledger's state finds that version with state.ParametersAt; who has a bundle
// is given its statement, as the claim names it.
//
// Source: proto/lacre/record/v1/statement.proto; WELMEC 7.2 U7 as metrology.md
// words it (secondary source): parameters are signed, versioned and in the
// audit trail.
type Parameters struct {
	Statement            digest.Digest // that gives this version: what a claim names as its registration
	Version              uint32        // from 1
	FromUnixNano         int64         // first capture time that it covers; 0 for version 1, which covers whatever is earlier too
	Algorithm            digest.Digest // plain SHA-256 of the module
	Channels             uint32        // for the meter's life
	SampleRateMillihertz uint64        // of each channel
	Values               []int64       // in the order of the approved schema
	Site                 *recordv1.Site
	Seal                 string // number on the physical seal
	NationalTable        string // id; empty if under none
}

// FirstParameters is version 1. The error is a *reason.Error, MALFORMED.
func FirstParameters(m *recordv1.MeterRegistration, statement digest.Digest) (*Parameters, error) {
	algorithm, err := record.Digest32("algorithm", m.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	return &Parameters{
		Statement: statement, Version: 1, Algorithm: algorithm,
		Channels: m.GetChannels(), SampleRateMillihertz: m.GetSampleRateMillihertz(), Values: m.GetParameters(),
		Site: m.GetSite(), Seal: m.GetSeal(), NationalTable: m.GetNationalTable(),
	}, nil
}

// LaterParameters is a later version of a meter's parameters: all but the
// number of channels is new. The error is a *reason.Error, MALFORMED.
func LaterParameters(registration *recordv1.MeterRegistration, m *recordv1.MeterParameters, statement digest.Digest) (*Parameters, error) {
	if m.GetMeterId() != registration.GetMeterId() {
		return nil, reason.New(reason.Malformed, "parameters of meter %.80q, the registration is of %.80q", m.GetMeterId(), registration.GetMeterId())
	}
	algorithm, err := record.Digest32("algorithm", m.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	return &Parameters{
		Statement: statement, Version: m.GetVersion(), FromUnixNano: m.GetEffectiveAtUnixNano(), Algorithm: algorithm,
		Channels: registration.GetChannels(), SampleRateMillihertz: m.GetSampleRateMillihertz(), Values: m.GetParameters(),
		Site: m.GetSite(), Seal: m.GetSeal(), NationalTable: m.GetNationalTable(),
	}, nil
}
