package state

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"google.golang.org/protobuf/proto"
)

// MaxRollovers is how many keys a meter may have after its first, so that a
// bundle can hold all of them.
const MaxRollovers = 64

// MeterStanding is what a meter is worth for a capture.
type MeterStanding string

// The standings of a meter. Barred is judged now and goes before all others,
// which are judged at the capture's time (rule S2).
const (
	MeterInService      MeterStanding = "in service"
	MeterBarred         MeterStanding = "barred" // broken seal or compromised key
	MeterDecommissioned MeterStanding = "decommissioned"
	MeterSuspended      MeterStanding = "suspended"
	MeterUnverified     MeterStanding = "out of verification"
)

// MeterStandingAt judges a meter for a capture. It is the one judge of it: the
// transition, and whoever shows a meter's standing.
func MeterStandingAt(meter *statev1.Meter, capturedAtUnixNano int64) MeterStanding {
	ended := meter.GetDecommissionedAtUnixNano()
	switch {
	case meter.GetBarred():
		return MeterBarred
	case ended != 0 && capturedAtUnixNano >= ended:
		return MeterDecommissioned
	case Covers(meter.GetSuspensions(), capturedAtUnixNano):
		return MeterSuspended
	case !Covers(meter.GetVerifications(), capturedAtUnixNano):
		return MeterUnverified
	}
	return MeterInService
}

// meterBody is a statement that changes a meter. after is the meter with it, or
// why it cannot be, as far as the meter's own statements tell.
type meterBody interface {
	after(old *statev1.Meter, st *statement, ref *statev1.StatementRef) (*statev1.Meter, error)
}

// changeMeter writes the meter as the statement makes it.
func (b *Block) changeMeter(id string, body meterBody, st *statement, ref *statev1.StatementRef) error {
	old, err := b.meter(id)
	if err != nil {
		return err
	}
	if old == nil {
		return unknownMeter(id)
	}
	value, err := body.after(old, st, ref)
	if err != nil {
		return err
	}
	b.putMessage(MeterKey(id), value)
	return nil
}

// next is the meter, to be changed by the statement at ref.
func next(old *statev1.Meter, ref *statev1.StatementRef) *statev1.Meter {
	value := proto.CloneOf(old)
	value.Last, value.Statements = ref, append(value.Statements, ref.GetIndex())
	return value
}

func isEnded(meter *statev1.Meter) bool {
	return meter.GetBarred() || meter.GetDecommissionedAtUnixNano() != 0
}

func endedForEver(id string) error {
	return reason.New(reason.InvalidStatement, "meter %s is barred or decommissioned for ever", id)
}

// MeterAfter is a meter after the next statement on it, as the transition makes
// it; old is nil before its registration. It is for those who have a meter's
// statements and not the ledger: it wants the next place in the meter's chain
// (rule S4) and what its earlier statements demand. Signatures, and what depends
// on more than the meter (approvals, counters, other keys), were the ledger's to
// judge. Errors are *reason.Error.
func MeterAfter(old *statev1.Meter, e *envelope.Envelope, index uint64) (*statev1.Meter, error) {
	makeBody, ok := protobufStatements[e.PayloadType]
	if !ok {
		return nil, reason.New(reason.Malformed, "%q is no statement on a meter", e.PayloadType)
	}
	m, body := makeBody()
	if err := record.Decode(e.Payload, record.MaxBytes, m); err != nil {
		return nil, err
	}
	st := &statement{envelope: e, digest: e.Digest(), body: body}
	if err := st.readHeader(m.GetHeader()); err != nil {
		return nil, err
	}
	predecessor := digest.Zero
	if last := old.GetLast(); last != nil {
		predecessor = digest.Digest(last.GetDigest())
	}
	if want := old.GetLast().GetSequence() + 1; st.sequence != want || st.predecessor != predecessor {
		return nil, reason.New(reason.OutOfSequence, "statement %d on %s after %s, the next is %d after %s",
			st.sequence, st.subject, st.predecessor.Short(), want, predecessor.Short())
	}
	ref := &statev1.StatementRef{Sequence: st.sequence, Digest: st.digest.Bytes(), Index: index}
	switch body := body.(type) {
	case meterRegistration:
		if old == nil {
			return body.first(st, ref), nil
		}
	case meterBody:
		if old != nil {
			return body.after(old, st, ref)
		}
	}
	return nil, reason.New(reason.WrongPlace, "statement %d on %s is of type %q; a meter's first is its registration, and no other is", st.sequence, st.subject, e.PayloadType)
}
