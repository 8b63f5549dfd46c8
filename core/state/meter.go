package state

import (
	"bytes"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

const (
	maxMeterText = 128     // bytes of a model, certificate, seal or site
	maxCounter   = 1 << 62 // so that no arithmetic on counters overflows
)

// meterRegistration puts a meter into service. It is the first statement on the
// meter and the only one of its kind: nothing overwrites it.
type meterRegistration struct{ *recordv1.MeterRegistration }

func (m meterRegistration) check(st *statement) error {
	if err := record.CheckID(m.GetMeterId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectMeter(m.GetMeterId())); err != nil {
		return err
	}
	if len(m.GetTlsSpki()) > 0 {
		if err := checkSPKI(m.GetTlsSpki()); err != nil {
			return err
		}
	}
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	switch {
	case st.sequence != 1:
		return reason.New(reason.AlreadyRegistered, "meter %s would be registered by statement %d; a registration is the first and never overwrites", m.GetMeterId(), st.sequence)
	case m.GetChannels() < 2 || m.GetChannels() > sample.MaxChannels:
		return invalid("%d channels, want 2 to %d", m.GetChannels(), sample.MaxChannels)
	case m.GetFirstCounter() == 0 || m.GetFirstCounter() > maxCounter:
		return invalid("first counter %d, want 1 to %d", m.GetFirstCounter(), uint64(maxCounter))
	}
	for _, text := range []string{m.GetModel(), m.GetTypeApproval()} {
		if err := checkText("model or type approval", text, maxMeterText); err != nil {
			return err
		}
	}
	if err := checkVersioned(m); err != nil {
		return err
	}
	if err := checkVerification(m.GetVerification()); err != nil {
		return err
	}
	return checkMeterKey(m.GetMeterId(), m.GetKey())
}

func unknownMeter(id string) error {
	return reason.New(reason.UnknownMeter, "meter %s is not registered", id)
}

func checkMeterKey(id string, key []byte) error {
	return checkKey("key of meter "+id, key, signature.Ed25519ZIP215, signature.P256)
}

func checkVerification(v *recordv1.Verification) error {
	if v.GetValidFromUnixNano() <= 0 || v.GetValidUntilUnixNano() <= v.GetValidFromUnixNano() {
		return reason.New(reason.InvalidStatement, "verification from %d until %d ns: want a span after 1970", v.GetValidFromUnixNano(), v.GetValidUntilUnixNano())
	}
	return checkText("certificate", v.GetCertificate(), maxMeterText)
}

func spanOf(v *recordv1.Verification) *statev1.Span {
	return &statev1.Span{FromUnixNano: v.GetValidFromUnixNano(), UntilUnixNano: v.GetValidUntilUnixNano()}
}

func (m meterRegistration) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{notifiedBodies(config)}, nil
}

func (m meterRegistration) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	if err := b.fitsApproval(m); err != nil {
		return err
	}
	if err := b.ownMeterKeys(st.subject, m.GetKey(), m.GetTlsSpki()); err != nil {
		return err
	}
	b.putMessage(MeterKey(m.GetMeterId()), m.first(st, ref))
	return nil
}

// first is the meter as its registration makes it.
func (m meterRegistration) first(st *statement, ref *statev1.StatementRef) *statev1.Meter {
	return &statev1.Meter{
		Last: ref, Statements: []uint64{ref.GetIndex()},
		Registration: st.digest.Bytes(), RegistrationPayload: st.envelope.Payload, RegistrationIndex: ref.GetIndex(),
		Keys:          []*statev1.MeterKey{{Key: m.GetKey(), FirstCounter: m.GetFirstCounter(), Index: ref.GetIndex()}},
		TlsSpki:       m.GetTlsSpki(),
		Verifications: []*statev1.Span{spanOf(m.GetVerification())},
	}
}

// ownMeterKeys makes both keys the meter's own, or says whose they are.
func (b *Block) ownMeterKeys(subject string, key, spki []byte) error {
	if err := b.takeKey(signedByKey(key), "the key of "+subject, subject); err != nil {
		return err
	}
	if len(spki) > 0 {
		if err := b.takeKey(tlsKey(spki), "the TLS key of "+subject, subject); err != nil {
			return err
		}
		b.putRaw(tlsKey(spki), []byte(subject))
	}
	b.putRaw(signedByKey(key), []byte(subject))
	return nil
}

// meterStatus changes the standing of a meter.
type meterStatus struct{ *recordv1.MeterStatus }

func (m meterStatus) check(st *statement) error {
	if err := record.CheckID(m.GetMeterId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectMeter(m.GetMeterId())); err != nil {
		return err
	}
	atCapture, verified := false, false
	switch m.GetAction() {
	case recordv1.MeterAction_METER_ACTION_SUSPEND, recordv1.MeterAction_METER_ACTION_RESUME, recordv1.MeterAction_METER_ACTION_DECOMMISSION:
		atCapture = true
	case recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED:
	case recordv1.MeterAction_METER_ACTION_VERIFIED:
		verified = true
	default:
		return reason.New(reason.Malformed, "meter status without an action")
	}
	if atCapture {
		if err := checkEffective(m.GetEffectiveAtUnixNano()); err != nil {
			return err
		}
	} else if m.GetEffectiveAtUnixNano() != 0 {
		return reason.New(reason.InvalidStatement, "%v has no effective time", m.GetAction())
	}
	if verified {
		if err := checkVerification(m.GetVerification()); err != nil {
			return err
		}
	} else if m.GetVerification() != nil {
		return reason.New(reason.InvalidStatement, "%v comes with no verification", m.GetAction())
	}
	return checkText("reason", m.GetReason(), MaxReason)
}

func (m meterStatus) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{notifiedBodies(config)}, nil
}

func (m meterStatus) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	return b.changeMeter(m.GetMeterId(), m, st, ref)
}

func (m meterStatus) after(old *statev1.Meter, _ *statement, ref *statev1.StatementRef) (*statev1.Meter, error) {
	value, err := next(old, ref), error(nil)
	// What ended a meter stays; it can only be ended in the other way too.
	ended := old.GetBarred() || old.GetDecommissionedAtUnixNano() != 0
	switch action := m.GetAction(); action {
	case recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED:
		ended, value.Barred = old.GetBarred(), true
	case recordv1.MeterAction_METER_ACTION_DECOMMISSION:
		ended, value.DecommissionedAtUnixNano = old.GetDecommissionedAtUnixNano() != 0, m.GetEffectiveAtUnixNano()
	case recordv1.MeterAction_METER_ACTION_SUSPEND:
		value.Suspensions, err = suspend(old.GetSuspensions(), m.GetEffectiveAtUnixNano())
	case recordv1.MeterAction_METER_ACTION_RESUME:
		value.Suspensions, err = resume(old.GetSuspensions(), m.GetEffectiveAtUnixNano())
	case recordv1.MeterAction_METER_ACTION_VERIFIED:
		value.Verifications, err = replaceFrom(old.GetVerifications(), spanOf(m.GetVerification()))
	}
	if ended {
		return nil, endedForEver(m.GetMeterId())
	}
	return value, err
}

// meterKeyRollover gives a meter a new key from a counter upwards (rule S3).
type meterKeyRollover struct{ *recordv1.MeterKeyRollover }

func (m meterKeyRollover) check(st *statement) error {
	if err := record.CheckID(m.GetMeterId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectMeter(m.GetMeterId())); err != nil {
		return err
	}
	if len(m.GetTlsSpki()) > 0 {
		if err := checkSPKI(m.GetTlsSpki()); err != nil {
			return err
		}
	}
	if m.GetFirstCounter() == 0 || m.GetFirstCounter() > maxCounter {
		return reason.New(reason.InvalidStatement, "first counter %d, want 1 to %d", m.GetFirstCounter(), uint64(maxCounter))
	}
	return checkMeterKey(m.GetMeterId(), m.GetKey())
}

// authority is a notified body and the old key. As a statement's signer the old
// key follows the predicate of statements (rule B3): an Ed25519 key signs it as
// signature.Ed25519, with that key id.
func (m meterKeyRollover) authority(r *reader, config *Config) ([]signers, error) {
	meter, err := r.meter(m.GetMeterId())
	if err != nil {
		return nil, err
	}
	keys := meter.GetKeys()
	if len(keys) == 0 {
		return nil, unknownMeter(m.GetMeterId())
	}
	old := storedKey(keys[len(keys)-1].GetKey())
	return []signers{
		notifiedBodies(config),
		oneOf("the meter's old key", asStatementKey(old)),
	}, nil
}

func asStatementKey(key signature.Key) signature.Key {
	if key.Kind() == signature.Ed25519ZIP215 {
		if k, err := signature.NewKey(signature.Ed25519, key.Raw()); err == nil {
			return k
		}
	}
	return key
}

func (m meterKeyRollover) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	chain, err := message[statev1.MeterChain](b.reader, ChainKey(m.GetMeterId()))
	if err != nil {
		return err
	}
	if m.GetFirstCounter() <= chain.GetNewestCounter() {
		return reason.New(reason.InvalidStatement, "new key from counter %d, the meter signed up to %d already", m.GetFirstCounter(), chain.GetNewestCounter())
	}
	old, err := b.meter(m.GetMeterId())
	if err != nil {
		return err
	}
	value, err := m.after(old, st, ref) // authority wanted its old key, so there is a meter
	if err != nil {
		return err
	}
	if err := b.ownMeterKeys(st.subject, m.GetKey(), m.GetTlsSpki()); err != nil {
		return err
	}
	b.putMessage(MeterKey(m.GetMeterId()), value)
	return nil
}

func (m meterKeyRollover) after(old *statev1.Meter, _ *statement, ref *statev1.StatementRef) (*statev1.Meter, error) {
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	last := old.GetKeys()[len(old.GetKeys())-1]
	switch {
	case isEnded(old):
		return nil, endedForEver(m.GetMeterId())
	case m.GetFirstCounter() <= last.GetFirstCounter():
		return nil, invalid("new key from counter %d, the one in force is from %d", m.GetFirstCounter(), last.GetFirstCounter())
	case len(old.GetKeys()) > MaxRollovers:
		return nil, invalid("meter %s had %d rollovers already, the limit", m.GetMeterId(), MaxRollovers)
	}
	for _, k := range old.GetKeys() {
		if bytes.Equal(k.GetKey(), m.GetKey()) {
			return nil, reason.New(reason.KeyInUse, "meter %s had this key before", m.GetMeterId())
		}
	}
	value := next(old, ref)
	value.Keys = append(value.Keys, &statev1.MeterKey{Key: m.GetKey(), FirstCounter: m.GetFirstCounter(), Index: ref.GetIndex()})
	value.TlsSpki = m.GetTlsSpki()
	return value, nil
}
