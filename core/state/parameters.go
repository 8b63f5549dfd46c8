package state

import (
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

const (
	maxVersions  = 64 // of a meter's parameters, the registration's not counted: each keeps its message in the state
	maxLatitude  = 90 * 10_000_000
	maxLongitude = 180 * 10_000_000
)

// versioned is what a registration gives first and MeterParameters give anew.
type versioned interface {
	GetMeterId() string
	GetAlgorithm() []byte
	GetSampleRateMillihertz() uint64
	GetParameters() []int64
	GetSite() *recordv1.Site
	GetSeal() string
	GetNationalTable() string
}

// checkVersioned checks the part that both statements share. Of a national
// table only the id's form: a table may be recorded after the meters under it.
func checkVersioned(m versioned) error {
	if _, err := record.Digest32("algorithm", m.GetAlgorithm()); err != nil {
		return err
	}
	site := m.GetSite()
	switch {
	case m.GetSampleRateMillihertz() == 0:
		return reason.New(reason.InvalidStatement, "sample rate is 0")
	case site.GetLatitudeE7() < -maxLatitude || site.GetLatitudeE7() > maxLatitude ||
		site.GetLongitudeE7() < -maxLongitude || site.GetLongitudeE7() > maxLongitude:
		return reason.New(reason.InvalidStatement, "site at %d, %d (1e-7 degrees) is not on Earth", site.GetLatitudeE7(), site.GetLongitudeE7())
	}
	for _, text := range []string{m.GetSeal(), site.GetName()} {
		if err := checkText("seal or site", text, maxMeterText); err != nil {
			return err
		}
	}
	if table := m.GetNationalTable(); table != "" {
		return record.CheckID(table)
	}
	return nil
}

// fitsApproval wants an approved module whose schema has that many parameters.
func (b *Block) fitsApproval(m versioned) error {
	module := digest.Digest(m.GetAlgorithm())
	algorithm, err := b.algorithm(module)
	switch {
	case err != nil:
		return err
	case algorithm == nil:
		return reason.New(reason.UnknownAlgorithm, "no approval names module %s", module.Short())
	case algorithm.state.GetWithdrawn():
		return reason.New(reason.AlgorithmNotInForce, "the approval of module %s was withdrawn", module.Short())
	case len(m.GetParameters()) != len(algorithm.terms.Schema.Parameters):
		return reason.New(reason.InvalidStatement, "meter %s has %d parameters, the schema of module %s has %d",
			m.GetMeterId(), len(m.GetParameters()), module.Short(), len(algorithm.terms.Schema.Parameters))
	}
	return nil
}

// meterParameters is a new version of a meter's parameters, judged at capture
// (rule S2).
type meterParameters struct{ *recordv1.MeterParameters }

func (m meterParameters) check(st *statement) error {
	if err := record.CheckID(m.GetMeterId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectMeter(m.GetMeterId())); err != nil {
		return err
	}
	if m.GetVersion() < 2 {
		return reason.New(reason.InvalidStatement, "version %d of the parameters of meter %s; the registration is version 1, and others follow it", m.GetVersion(), m.GetMeterId())
	}
	if err := checkEffective(m.GetEffectiveAtUnixNano()); err != nil {
		return err
	}
	if err := checkVersioned(m); err != nil {
		return err
	}
	return checkText("reason", m.GetReason(), MaxReason)
}

func (m meterParameters) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{notifiedBodies(config)}, nil
}

// apply wants the version to begin after every capture that the ledger has of
// the meter: those were judged under the version before, and a version that
// reached back would say that they should not have been. The chain's newest
// capture is the latest of all (times never decrease with the counter, and what
// fills a gap lies between its neighbours), so one comparison does. A version
// may begin before its own block: when a loop was laid anew an hour ago, nothing
// that was captured since is measured rightly under the old spacing.
func (m meterParameters) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	id, from := m.GetMeterId(), m.GetEffectiveAtUnixNano()
	chain, err := message[statev1.MeterChain](b.reader, ChainKey(id))
	if err != nil {
		return err
	}
	if chain != nil && from <= chain.GetNewestCapturedAtUnixNano() {
		return overlapping("version %d is effective from %d ns, the ledger has a capture of meter %s at %d under the version before; want it later",
			m.GetVersion(), from, id, chain.GetNewestCapturedAtUnixNano())
	}
	if err := b.fitsApproval(m); err != nil {
		return err
	}
	return b.changeMeter(id, m, st, ref)
}

func (m meterParameters) after(old *statev1.Meter, st *statement, ref *statev1.StatementRef) (*statev1.Meter, error) {
	id, from, versions := m.GetMeterId(), m.GetEffectiveAtUnixNano(), old.GetParameters()
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	switch count := len(versions); {
	case isEnded(old):
		return nil, endedForEver(id)
	case uint64(m.GetVersion()) != uint64(count)+2:
		return nil, invalid("version %d of the parameters of meter %s, the next is %d", m.GetVersion(), id, count+2)
	case count >= maxVersions:
		return nil, invalid("meter %s has %d versions of its parameters after the registration already, the limit", id, count)
	case count > 0 && from <= versions[count-1].GetFromUnixNano():
		return nil, overlapping("version %d is effective from %d ns, the one before from %d; want it later", m.GetVersion(), from, versions[count-1].GetFromUnixNano())
	}
	value := next(old, ref)
	value.Parameters = append(value.Parameters, &statev1.Version{
		FromUnixNano: from, Statement: st.digest.Bytes(), Payload: st.envelope.Payload, Index: ref.GetIndex(),
	})
	return value, nil
}

// VersionAt is the version in force at a time: the last that began by then; nil
// before the first.
func VersionAt(versions []*statev1.Version, unixNano int64) *statev1.Version {
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].GetFromUnixNano() <= unixNano {
			return versions[i]
		}
	}
	return nil
}

// ParametersAt are the parameters in force at a capture of a meter: what every
// endorser computes with, the transition compares and every audit repeats.
func ParametersAt(meter *statev1.Meter, capturedAtUnixNano int64) (*claim.Parameters, error) {
	return decodeParameters(meter, VersionAt(meter.GetParameters(), capturedAtUnixNano))
}

// GetParameters is ParametersAt of a meter of this view.
func GetParameters(view View, meter *statev1.Meter, capturedAtUnixNano int64) (*claim.Parameters, error) {
	return newReader(view).parametersAt(meter, capturedAtUnixNano)
}

// parametersAt is ParametersAt that decodes each version once: it is known by
// its statement's digest, and none ever changes.
func (r *reader) parametersAt(meter *statev1.Meter, capturedAtUnixNano int64) (*claim.Parameters, error) {
	version := VersionAt(meter.GetParameters(), capturedAtUnixNano)
	statement := meter.GetRegistration()
	if version != nil {
		statement = version.GetStatement()
	}
	return once(r.memory, "parameters/"+string(statement), statement, func() (*claim.Parameters, error) { return decodeParameters(meter, version) })
}

// decodeParameters reads a version; nil is the registration's.
func decodeParameters(meter *statev1.Meter, version *statev1.Version) (*claim.Parameters, error) {
	registration := new(recordv1.MeterRegistration)
	if err := wire.Decode(meter.GetRegistrationPayload(), registration); err != nil {
		return nil, corrupt("registration of a meter: %w", err)
	}
	statement, err := digest.FromBytes(meter.GetRegistration())
	if err != nil {
		return nil, corrupt("registration of meter %s: %w", registration.GetMeterId(), err)
	}
	first, err := claim.FirstParameters(registration, statement)
	if err != nil {
		return nil, corrupt("registration of meter %s: %w", registration.GetMeterId(), err)
	}
	if version == nil {
		return first, nil
	}
	m := new(recordv1.MeterParameters)
	if err := wire.Decode(version.GetPayload(), m); err != nil {
		return nil, corrupt("parameters of meter %s: %w", registration.GetMeterId(), err)
	}
	if statement, err = digest.FromBytes(version.GetStatement()); err != nil {
		return nil, corrupt("parameters of meter %s: %w", registration.GetMeterId(), err)
	}
	p, err := claim.LaterParameters(registration, m, statement)
	if err != nil {
		return nil, corrupt("parameters of meter %s: %w", registration.GetMeterId(), err)
	}
	return p, nil
}
