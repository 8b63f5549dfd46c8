package state

import (
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// event is a decoded security event.
type event struct {
	record  *recordv1.SecurityEvent
	report  *recordv1.EventReport
	network digest.Digest
	digest  digest.Digest // of the report: one report is recorded once
	signed  []byte        // what the reporter signed
	// evidence of an equivocation, the lower counter first; nil for other kinds
	evidence *[2]signedSample
}

// signedSample is a decoded SignedSample.
type signedSample struct {
	sample    *sample.Sample
	signature []byte
}

func parseEvent(m *recordv1.SecurityEvent) (*event, error) {
	e := &event{record: m, report: new(recordv1.EventReport)}
	if err := record.Decode(m.GetReport(), record.MaxBytes, e.report); err != nil {
		return nil, err
	}
	var err error
	if e.network, err = record.Digest32("network_id", e.report.GetNetworkId()); err != nil {
		return nil, err
	}
	if err := record.CheckID(e.report.GetReporter()); err != nil {
		return nil, err
	}
	if err := checkText("subject", e.report.GetSubject(), record.MaxSubject); err != nil {
		return nil, err
	}
	if err := checkText("detail", e.report.GetDetail(), record.MaxEventDetail); err != nil {
		return nil, err
	}
	switch n := len(e.report.GetEvidence()); {
	case n > record.MaxEventEvidence:
		return nil, reason.New(reason.TooLarge, "%d pieces of evidence, at most %d", n, record.MaxEventEvidence)
	case e.report.GetKind() == recordv1.EventKind_EVENT_KIND_UNSPECIFIED:
		return nil, reason.New(reason.Malformed, "event without a kind")
	case len(m.GetSignature()) != signature.Size:
		return nil, reason.New(reason.Malformed, "reporter's signature has %d bytes, want %d", len(m.GetSignature()), signature.Size)
	}
	if e.report.GetKind() == recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION {
		if err := e.parseEquivocation(); err != nil {
			return nil, err
		}
	}
	if e.report.GetKind() == recordv1.EventKind_EVENT_KIND_EVIDENCE_READ {
		id, found := strings.CutPrefix(e.report.GetSubject(), "evidence/")
		if _, err := digest.Parse(id); !found || err != nil {
			return nil, reason.New(reason.Malformed, "the subject of a reading is %.80q, want evidence/HEX", e.report.GetSubject())
		}
	}
	e.digest = digest.Of(digest.Record, m.GetReport())
	e.signed = record.EventMessage(m.GetReport())
	return e, nil
}

// parseEquivocation decodes two samples of one meter and checks that, if both
// are signed, they exclude each other: one counter with two samples, or a
// sample that names another predecessor than the one shown. The event's counter
// is the one of which two samples exist (rule S3).
func (e *event) parseEquivocation() error {
	unproven := func(format string, args ...any) error { return reason.New(reason.BadEvidence, format, args...) }
	if n := len(e.report.GetEvidence()); n != 2 {
		return unproven("%d pieces of evidence, an equivocation takes two signed samples", n)
	}
	var both [2]signedSample
	for i, piece := range e.report.GetEvidence() {
		var m recordv1.SignedSample
		if err := record.Decode(piece, record.MaxBytes, &m); err != nil {
			return unproven("evidence %d: %v", i, err)
		}
		s, err := sample.Parse(m.GetHeader())
		if err != nil {
			return unproven("evidence %d: %v", i, err)
		}
		both[i] = signedSample{sample: s, signature: m.GetSignature()}
	}
	if both[0].sample.Counter > both[1].sample.Counter {
		both[0], both[1] = both[1], both[0]
	}
	a, b := both[0].sample, both[1].sample
	switch {
	case a.MeterID != b.MeterID || record.SubjectMeter(a.MeterID) != e.report.GetSubject():
		return unproven("samples of %s and %s, the event is about %.80q", a.MeterID, b.MeterID, e.report.GetSubject())
	case a.NetworkID != e.network || b.NetworkID != e.network:
		return unproven("samples for networks %s and %s, the event is for %s", a.NetworkID.Short(), b.NetworkID.Short(), e.network.Short())
	case a.Counter != e.report.GetCounter():
		return unproven("the samples contradict each other on counter %d, the event is about %d", a.Counter, e.report.GetCounter())
	case a.Counter == b.Counter && a.Digest == b.Digest:
		return unproven("both are sample %s", a.Digest.Short())
	case a.Counter == b.Counter:
	case b.Counter == a.Counter+1 && b.Previous != a.Digest:
	default:
		return unproven("counters %d and %d do not contradict each other", a.Counter, b.Counter)
	}
	e.evidence = &both
	return nil
}

// submitEvent decides one security event.
func (b *Block) submitEvent(it *item) (Outcome, error) {
	e := it.event
	key := reportKey(e.digest)
	if e.evidence != nil {
		key = equivocalKey(e.evidence[0].sample.MeterID, e.report.GetCounter())
	}
	index, ok, err := b.index(key)
	if err != nil {
		return Outcome{}, err
	}
	if err := b.judgeEvent(e); err != nil {
		return settle(err)
	}
	if ok {
		return (&earlierError{reason.New(reason.AlreadyReported, "the event is leaf %d already", index), index}).outcome(), nil
	}
	index = b.append(it.bytes)
	b.putRaw(key, encodeIndex(index))
	return Outcome{Accepted: true, Index: index}, nil
}

func (b *Block) judgeEvent(e *event) error {
	if e.network != b.config.NetworkID {
		return reason.New(reason.WrongNetwork, "event is for network %s, this is %s", e.network.Short(), b.config.NetworkID.Short())
	}
	node, err := b.activeNode(e.report.GetReporter())
	if err != nil {
		return err
	}
	key := storedKey(node.GetKey())
	if !b.verifier.Verify(key.Kind(), key, e.signed, e.record.GetSignature()) {
		return reason.New(reason.BadSignature, "the report does not verify under the %v of node %s", key, e.report.GetReporter())
	}
	if e.evidence == nil {
		return nil
	}
	for i := range e.evidence {
		s := e.evidence[i].sample
		meter, err := b.meter(s.MeterID)
		if err != nil {
			return err
		}
		if meter == nil {
			return unknownMeter(s.MeterID)
		}
		key, ok := MeterKeyAt(meter, s.Counter)
		if !ok || !b.verifier.Verify(key.Kind(), key, s.Signed(), e.evidence[i].signature) {
			return reason.New(reason.BadEvidence, "evidence on counter %d does not verify under the key of meter %s", s.Counter, s.MeterID)
		}
	}
	return nil
}
