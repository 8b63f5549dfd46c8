package receipt_test

import (
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// forgedHistories breaks one rule at a time of the parameters that a claim names
// and of the statements on a meter.
func (v *verdicts) forgedHistories() {
	other := digest.Plain([]byte("other"))
	header := func() *recordv1.StatementHeader {
		return &recordv1.StatementHeader{NetworkId: v.ID.Bytes(), Subject: record.SubjectMeter("m-9")}
	}
	suspend := func() *recordv1.MeterStatus {
		return &recordv1.MeterStatus{Header: header(), MeterId: "m-9", Action: recordv1.MeterAction_METER_ACTION_SUSPEND, EffectiveAtUnixNano: 1}
	}
	resume := func() *recordv1.MeterStatus {
		return &recordv1.MeterStatus{Header: header(), MeterId: "m-9", Action: recordv1.MeterAction_METER_ACTION_RESUME, EffectiveAtUnixNano: 2}
	}
	anew := func(f *forgery) *recordv1.MeterParameters {
		return &recordv1.MeterParameters{
			Header: header(), MeterId: "m-9", Version: 2, EffectiveAtUnixNano: f.header.CapturedAtUnixNano,
			Algorithm: f.registration.Algorithm, SampleRateMillihertz: f.registration.SampleRateMillihertz, Parameters: []int64{7},
		}
	}
	const verified, refuted, undecidable = receipt.Verified, receipt.Refuted, receipt.Undecidable
	statuses := func(f *forgery) { f.later = []proto.Message{suspend(), resume()} }
	named := func(change func(f *forgery, p *recordv1.MeterParameters)) func(f *forgery) {
		return func(f *forgery) {
			p := anew(f)
			f.later, f.named = []proto.Message{p, suspend()}, true
			change(f, p)
		}
	}
	for _, c := range []struct {
		name   string
		want   receipt.Verdict
		step   string
		make   func(f *forgery)
		change func(f *forgery) // of the finished bundle
	}{
		{"a meter suspended and resumed", verified, "", statuses, nil},
		{"a history after a rollover", verified, "", func(f *forgery) {
			statuses(f)
			f.rollover(v, 9, statetest.Key("9"))
		}, nil},
		{"a statement of the history left out", undecidable, receipt.StepHistory, statuses, func(f *forgery) { f.bundle.History = f.bundle.History[1:] }},
		{"the newest of the history left out", verified, "", statuses, func(f *forgery) { f.bundle.History = f.bundle.History[:1] }},
		{"a history in another order", refuted, receipt.StepHistory, statuses, func(f *forgery) {
			f.bundle.History[0], f.bundle.History[1] = f.bundle.History[1], f.bundle.History[0]
		}},
		{"a history that follows another statement", refuted, receipt.StepHistory, func(f *forgery) {
			statuses(f)
			f.later[0].(*recordv1.MeterStatus).Header.Predecessor = other.Bytes()
		}, nil},
		{"a history whose numbers repeat", refuted, receipt.StepHistory, func(f *forgery) {
			statuses(f)
			f.later[1].(*recordv1.MeterStatus).Header.Sequence = 2
		}, nil},
		{"a status of another network", refuted, receipt.StepHistory, func(f *forgery) {
			statuses(f)
			f.later[0].(*recordv1.MeterStatus).Header.NetworkId = other.Bytes()
		}, nil},
		{"a status on another subject", refuted, receipt.StepHistory, func(f *forgery) {
			statuses(f)
			f.later[0].(*recordv1.MeterStatus).Header.Subject = "meter/m-8"
		}, nil},
		{"a status by a stranger", refuted, receipt.StepHistory, func(f *forgery) {
			statuses(f)
			f.laterBody = statetest.Key("stranger")
		}, nil},
		{"a node in the history", refuted, receipt.StepHistory, statuses, func(f *forgery) { f.bundle.History[0] = f.bundle.Nodes[0] }},
		{"a set in the history", refuted, receipt.StepHistory, statuses, func(f *forgery) { f.bundle.History[0] = f.bundle.EndorsementSet }},

		{"parameters in force from the capture", verified, "", named(func(*forgery, *recordv1.MeterParameters) {}), nil},
		{"parameters in force after the capture", refuted, receipt.StepRegistration, named(func(_ *forgery, p *recordv1.MeterParameters) { p.EffectiveAtUnixNano++ }), nil},
		{"parameters of another meter", refuted, receipt.StepRegistration, named(func(_ *forgery, p *recordv1.MeterParameters) { p.Header.Subject = "meter/m-8" }), nil},
		{"parameters of another network", refuted, receipt.StepRegistration, named(func(_ *forgery, p *recordv1.MeterParameters) { p.Header.NetworkId = other.Bytes() }), nil},
		{"parameters of another rate", refuted, receipt.StepRegistration, named(func(_ *forgery, p *recordv1.MeterParameters) { p.SampleRateMillihertz++ }), nil},
		{"parameters for another module", refuted, receipt.StepRegistration, named(func(_ *forgery, p *recordv1.MeterParameters) { p.Algorithm = other.Bytes() }), nil},
		{"parameters by a stranger", refuted, receipt.StepRegistration, named(func(f *forgery, _ *recordv1.MeterParameters) { f.laterBody = statetest.Key("stranger") }), nil},
		{"a registration when later parameters are in force", refuted, receipt.StepHistory, func(f *forgery) { f.later = []proto.Message{anew(f)} }, nil},
		{"a status in the place of the parameters", refuted, receipt.StepRegistration, statuses, func(f *forgery) { f.bundle.Parameters = f.bundle.History[0] }},
		{"parameters that the claim does not name", refuted, receipt.StepRegistration, func(f *forgery) { f.later = []proto.Message{anew(f)} }, func(f *forgery) {
			f.bundle.Parameters, f.bundle.History = f.bundle.History[0], nil
		}},
	} {
		v.bundle("forged: "+c.name, v.forgedAt(func(stage int, f *forgery) {
			switch {
			case stage == atStatements:
				c.make(f)
			case stage == atBundle && c.change != nil:
				c.change(f)
			}
		}), c.want, c.step, func(*recordv1.Bundle) {})
	}
}
