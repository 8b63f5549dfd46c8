package state

import (
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// RawVector is what the transition must know of a raw vector.
type RawVector struct {
	Digest digest.Digest // of its encoded bytes
	Size   int           // in bytes
}

// DescribeRaw describes the encoded bytes of a raw vector.
func DescribeRaw(vector []byte) RawVector {
	return RawVector{Digest: sample.DigestRaw(vector), Size: len(vector)}
}

// Submission is what one client handed in at once, decoded: one statement, one
// event, 1 to 1,024 heartbeats, or one endorsement set followed by 1 to 1,024
// measurements. It is
// immutable, so it may be parsed on any goroutine, shared and kept; whatever
// depends on the state is left to Block.Submit.
type Submission struct {
	items []item
	raw   []RawVector // one for each measurement, in order
	// pulses: these are heartbeats, each decided for itself.
	pulses bool
}

// item is one decoded record; exactly one pointer is set, or err.
type item struct {
	bytes       []byte // the leaf, exactly
	err         error  // *reason.Error: why it is no record of a submission
	statement   *statement
	set         *endorsementSet
	measurement *measurement
	event       *event
	pulse       *pulse
}

// ParseSubmission decodes records and checks what needs no state; of statements
// only the form, because testing their keys is dear and not for strangers to
// cause. It never fails: what is wrong with a record becomes its outcome in
// Submit. It keeps the slices of records, which the caller no longer changes.
func ParseSubmission(records [][]byte, raw []RawVector) *Submission {
	s := &Submission{items: make([]item, len(records)), raw: raw}
	for i, b := range records {
		s.items[i] = parseItem(b)
	}
	s.checkShape()
	return s
}

// Len is the number of records.
func (s *Submission) Len() int { return len(s.items) }

// IsNetworkConfig reports whether the submission changes the configuration: it
// must then be alone in its block (rule C6).
func (s *Submission) IsNetworkConfig() bool {
	return len(s.items) == 1 && s.items[0].statement != nil && s.items[0].statement.config() != nil
}

func parseItem(b []byte) item {
	it := item{bytes: b}
	r, err := record.Parse(b)
	if err != nil {
		it.err = err
		return it
	}
	switch body := r.GetBody().(type) {
	case *recordv1.Record_Statement:
		it.statement, it.err = parseStatement(body.Statement)
	case *recordv1.Record_EndorsementSet:
		it.set, it.err = parseEndorsementSet(b, body.EndorsementSet)
	case *recordv1.Record_Measurement:
		it.measurement, it.err = parseMeasurement(body.Measurement)
	case *recordv1.Record_SecurityEvent:
		it.event, it.err = parseEvent(body.SecurityEvent)
	case *recordv1.Record_Heartbeat:
		it.pulse, it.err = parsePulse(body.Heartbeat)
	default:
		it.err = reason.New(reason.WrongPlace, "a block header is made by the ledger, never submitted")
	}
	if it.err != nil {
		it.statement, it.set, it.measurement, it.event, it.pulse = nil, nil, nil, nil, nil
	}
	return it
}

// checkShape marks records that may not stand where they do.
func (s *Submission) checkShape() {
	if len(s.items) == 0 {
		return
	}
	misplaced := func(format string, args ...any) {
		for i := range s.items {
			if s.items[i].err == nil {
				s.items[i].err = reason.New(reason.WrongPlace, format, args...)
			}
		}
	}
	first := &s.items[0]
	alone := first.statement != nil || first.event != nil
	s.pulses = !alone && first.set == nil && slices.ContainsFunc(s.items, func(it item) bool { return it.pulse != nil })
	switch {
	case alone && len(s.items) > 1:
		misplaced("a statement or event is a submission of its own, this one has %d records", len(s.items))
	case (alone || s.pulses) && len(s.raw) > 0:
		misplaced("a submission without measurements came with %d raw vectors", len(s.raw))
	case alone:
	case s.pulses && len(s.items) > heartbeat.MaxBatch:
		misplaced("%d heartbeats in a submission, at most %d", len(s.items), heartbeat.MaxBatch)
	case s.pulses:
		for i := range s.items {
			if it := &s.items[i]; it.err == nil && it.pulse == nil {
				it.err = reason.New(reason.WrongPlace, "among heartbeats there is nothing else")
			}
		}
	case first.set == nil:
		misplaced("measurements need an endorsement set before them")
	case len(s.items) < 2 || len(s.items) > 1+record.MaxClaims:
		misplaced("an endorsement set came with %d measurements, want 1 to %d", len(s.items)-1, record.MaxClaims)
	case len(s.raw) != len(s.items)-1:
		misplaced("%d raw vectors came with %d measurements", len(s.raw), len(s.items)-1)
	default:
		for i := 1; i < len(s.items); i++ {
			if it := &s.items[i]; it.err == nil && it.measurement == nil {
				it.err = reason.New(reason.WrongPlace, "only measurements follow an endorsement set")
			}
		}
	}
}
