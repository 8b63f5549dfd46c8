package state

import (
	"bytes"
	"errors"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// measurement is a decoded measurement.
type measurement struct {
	record    *recordv1.Measurement
	sample    *sample.Sample
	claim     *claim.Claim
	result    abi.Output
	claimHash digest.Digest
	signed    []byte // what the meter signed
	set       digest.Digest
	approval  digest.Digest
	config    digest.Digest
}

func parseMeasurement(r *recordv1.Measurement) (*measurement, error) {
	m := &measurement{record: r}
	var err error
	if m.sample, err = sample.Parse(r.GetHeader()); err != nil {
		return nil, err
	}
	if m.claim, err = claim.Parse(r.GetClaim()); err != nil {
		return nil, err
	}
	if m.result, err = claim.ParseResult(m.claim.Result); err != nil {
		return nil, err
	}
	if m.set, err = record.Digest32("endorsement_set", r.GetEndorsementSet()); err != nil {
		return nil, err
	}
	if m.approval, err = record.Digest32("approval", r.GetApproval()); err != nil {
		return nil, err
	}
	if m.config, err = record.Digest32("config", r.GetConfig()); err != nil {
		return nil, err
	}
	if err := sample.CheckSignatureForm(r.GetSignature()); err != nil {
		return nil, err
	}
	if r.GetDisposition() == recordv1.Disposition_DISPOSITION_UNSPECIFIED {
		return nil, reason.New(reason.Malformed, "disposition is not given")
	}
	m.claimHash, m.signed = claim.Hash(r.GetClaim()), m.sample.Signed()
	return m, nil
}

// submitMeasurements decides a set and its measurements. The set becomes a leaf
// just before the first measurement that is accepted, and not without one.
func (b *Block) submitMeasurements(s *Submission, outcomes []Outcome) error {
	v, err := b.judgeSet(s.items[0].set)
	if err != nil {
		return err
	}
	for i := 1; i < len(s.items); i++ {
		it := &s.items[i]
		if it.err != nil {
			continue
		}
		m := it.measurement
		chain, err := b.judgeMeasurement(m, v, s.raw[i-1])
		if err != nil {
			var earlier *earlierError
			if errors.As(err, &earlier) {
				outcomes[i] = earlier.outcome()
				continue
			}
			if outcomes[i], err = settle(err); err != nil {
				return err
			}
			continue
		}
		if !outcomes[0].Accepted {
			outcomes[0] = Outcome{Accepted: true, Index: b.append(s.items[0].bytes)}
			b.putRaw(setKey(v.set.digest), encodeIndex(outcomes[0].Index))
		}
		outcomes[i] = Outcome{Accepted: true, Index: b.append(it.bytes)}
		b.putMessage(ChainKey(m.sample.MeterID), chain)
		if err := b.setIndexOf(m.sample.MeterID, m.sample.Counter, outcomes[i].Index); err != nil {
			return err
		}
		if b.trial {
			return nil
		}
	}
	if outcomes[0].Accepted {
		return nil
	}
	var earlier *earlierError
	switch {
	case errors.As(v.refused, &earlier):
		outcomes[0] = earlier.outcome()
	case v.refused != nil:
		outcomes[0] = refusal(v.refused)
	default:
		outcomes[0] = refusal(reason.New(reason.WrongPlace, "none of its %d measurements was accepted", len(s.items)-1))
	}
	return nil
}

// judgeMeasurement decides one measurement and returns the meter's chain as it
// is with it. What is on the ledger already is answered first, whatever has
// become of its approval or endorsers since, so that no outbox waits for ever.
func (b *Block) judgeMeasurement(m *measurement, v *verdict, raw RawVector) (*statev1.MeterChain, error) {
	s := m.sample
	if s.NetworkID != b.config.NetworkID {
		return nil, reason.New(reason.WrongNetwork, "sample is for network %s, this is %s", s.NetworkID.Short(), b.config.NetworkID.Short())
	}
	meter, err := b.knownMeter(s)
	if err != nil {
		return nil, err
	}
	used, err := b.earlierSample(s)
	if err != nil {
		return nil, err
	}
	if v.refused != nil {
		var earlier *earlierError
		if errors.As(v.refused, &earlier) {
			return nil, reason.New(reason.BadEndorsement, "%s; a set stands in one block with its measurements, endorse again", earlier.refusal.Detail)
		}
		return nil, v.refused
	}
	if err := b.checkNamed(m, v, meter); err != nil {
		return nil, err
	}
	if err := checkRaw(s, raw); err != nil {
		return nil, err
	}
	if err := b.checkTime(s.KnownHeight, s.KnownBlock, s.CapturedAtUnixNano); err != nil {
		return nil, err
	}
	if err := checkStanding(meter.state, v.algorithm, s); err != nil {
		return nil, err
	}
	key, ok := MeterKeyAt(meter.state, s.Counter)
	if !ok || s.Counter > maxCounter {
		return nil, reason.New(reason.CounterOutOfRange, "counter %d, meter %s counts from %d", s.Counter, s.MeterID, firstCounter(meter.state))
	}
	if !b.verifier.Verify(key.Kind(), key, m.signed, m.record.GetSignature()) {
		return nil, reason.New(reason.BadSignature, "counter %d of meter %s does not verify under its %v", s.Counter, s.MeterID, key)
	}
	if used != nil {
		return nil, used
	}
	chain, err := b.advanceChain(meter, s)
	if err != nil {
		return nil, err
	}
	return chain, b.checkDisposition(m)
}

// registered is a meter with its parameters in force at a capture.
type registered struct {
	state      *statev1.Meter
	parameters *claim.Parameters
}

func (b *Block) knownMeter(s *sample.Sample) (*registered, error) {
	state, err := b.meter(s.MeterID)
	if err != nil {
		return nil, err
	}
	if state == nil {
		return nil, unknownMeter(s.MeterID)
	}
	parameters, err := b.parametersAt(state, s.CapturedAtUnixNano)
	if err != nil {
		return nil, err
	}
	return &registered{state: state, parameters: parameters}, nil
}

// checkNamed compares all that measurement, claim and set name with what is in
// force and with each other (rule S1).
func (b *Block) checkNamed(m *measurement, v *verdict, meter *registered) error {
	s, c, p, terms := m.sample, m.claim, meter.parameters, v.algorithm.terms
	unfit := func(format string, args ...any) error { return reason.New(reason.BadEndorsement, format, args...) }
	index := m.record.GetClaimIndex() // 32 bits without a sign, so no int
	switch {
	case m.set != v.set.digest:
		return unfit("measurement names set %s, it stands behind %s", m.set.Short(), v.set.digest.Short())
	case c.NetworkID != b.config.NetworkID:
		return reason.New(reason.WrongNetwork, "claim is for network %s, this is %s", c.NetworkID.Short(), b.config.NetworkID.Short())
	case m.config != b.config.Digest:
		return reason.New(reason.StaleConfig, "measurement names configuration %s, %s is in force", m.config.Short(), b.config.Digest.Short())
	case c.Registration != p.Statement: // before what depends on it: who endorsed under another version must know that it was the version
		return reason.New(reason.StaleRegistration, "claim names registration %s, at the capture %s is in force (version %d of the parameters of meter %s)", c.Registration.Short(), p.Statement.Short(), p.Version, s.MeterID)
	case p.Algorithm != v.set.algorithm:
		return reason.New(reason.WrongAlgorithm, "endorsed with module %s, meter %s was under %s at the capture", v.set.algorithm.Short(), s.MeterID, p.Algorithm.Short())
	case c.Algorithm != v.set.algorithm:
		return reason.New(reason.WrongAlgorithm, "claim is of module %s, its set of %s", c.Algorithm.Short(), v.set.algorithm.Short())
	case !bytes.Equal(m.approval[:], v.algorithm.state.GetApproval()):
		return reason.New(reason.StaleApproval, "measurement names approval %s, %s is in force", m.approval.Short(), shortOf(v.algorithm.state.GetApproval()))
	case c.Sample != s.Digest:
		return unfit("claim is on sample %s, the header is %s", c.Sample.Short(), s.Digest.Short())
	case c.ProfileVersion != terms.ProfileVersion:
		return unfit("claim ran under profile %d, approved is %d", c.ProfileVersion, terms.ProfileVersion)
	case c.FuelLimit != terms.FuelLimit:
		return unfit("claim ran with a fuel limit of %d, approved is %d", c.FuelLimit, terms.FuelLimit)
	case index >= uint32(len(v.set.claims)):
		return unfit("claim %d of a set of %d", index, len(v.set.claims))
	case v.set.claims[index] != m.claimHash:
		return unfit("claim %d of the set is %s, this one is %s", index, v.set.claims[index].Short(), m.claimHash.Short())
	case s.Channels != p.Channels:
		return reason.New(reason.WrongChannelCount, "sample has %d channels, meter %s is registered with %d", s.Channels, s.MeterID, p.Channels)
	case s.SampleRateMillihertz != p.SampleRateMillihertz:
		return reason.New(reason.WrongSampleRate, "sample has %d mHz, meter %s was under %d at the capture", s.SampleRateMillihertz, s.MeterID, p.SampleRateMillihertz)
	}
	return terms.Schema.CheckResult(m.result)
}

func checkRaw(s *sample.Sample, raw RawVector) error {
	if raw.Size > record.MaxRawVectorBytes {
		return reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", raw.Size, record.MaxRawVectorBytes)
	}
	if raw.Digest != s.RawDigest {
		return reason.New(reason.DigestMismatch, "raw vector has digest %s, the header names %s", raw.Digest.Short(), s.RawDigest.Short())
	}
	return nil
}

// checkTime holds a meter's time between the block that the meter knew and this
// one, plus the bound for clocks that run ahead (rule S2).
func (b *Block) checkTime(knownHeight uint64, knownBlock digest.Digest, atUnixNano int64) error {
	if knownHeight > b.head.Height {
		return reason.New(reason.UnknownBlock, "the meter names block %d, the newest is %d", knownHeight, b.head.Height)
	}
	known, ok, err := b.view.Block(knownHeight)
	switch {
	case err != nil:
		return err
	case !ok:
		return corrupt("block %d is missing below head %d", knownHeight, b.head.Height)
	case known.Header != knownBlock:
		return reason.New(reason.UnknownBlock, "the meter names %s as block %d, it is %s", knownBlock.Short(), knownHeight, known.Header.Short())
	case atUnixNano < known.BlockTimeUnixNano:
		return reason.New(reason.BackDated, "captured at %d ns, block %d that the meter knew is of %d", atUnixNano, knownHeight, known.BlockTimeUnixNano)
	}
	// Both are positive, so the difference does not overflow.
	if ahead, bound := atUnixNano-b.blockTimeUnixNano, b.config.Message.GetLimits().GetFutureBoundNano(); ahead > bound {
		return reason.New(reason.FutureDated, "captured at %d ns, block time is %d and the bound %d", atUnixNano, b.blockTimeUnixNano, bound)
	}
	return nil
}

// checkStanding judges meter and approval: broken seal, compromised key and
// withdrawal now; all else at capture time (rule S2).
func checkStanding(meter *statev1.Meter, algorithm *approved, s *sample.Sample) error {
	at := s.CapturedAtUnixNano
	out := func(format string, args ...any) error {
		return reason.New(reason.MeterNotInService, format, args...)
	}
	switch MeterStandingAt(meter, at) {
	case MeterBarred:
		return out("meter %s is barred: broken seal or compromised key", s.MeterID)
	case MeterDecommissioned:
		return out("captured at %d ns, meter %s was decommissioned at %d", at, s.MeterID, meter.GetDecommissionedAtUnixNano())
	case MeterSuspended:
		return out("captured at %d ns, while meter %s was suspended", at, s.MeterID)
	case MeterUnverified:
		return reason.New(reason.OutOfVerification, "captured at %d ns, outside every verification of meter %s", at, s.MeterID)
	}
	return algorithm.inForce(at)
}

// checkDisposition wants late samples marked as late, and only those (rule S3).
func (b *Block) checkDisposition(m *measurement) error {
	age, bound := b.blockTimeUnixNano-m.sample.CapturedAtUnixNano, b.config.Message.GetLimits().GetLatenessBoundNano()
	want := recordv1.Disposition_DISPOSITION_ON_TIME
	if age > bound {
		want = recordv1.Disposition_DISPOSITION_LATE
	}
	if got := m.record.GetDisposition(); got != want {
		return reason.New(reason.WrongDisposition, "marked %v, it is %v: %d ns old with a bound of %d", got, want, age, bound)
	}
	return nil
}
