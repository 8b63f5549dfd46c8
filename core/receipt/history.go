package receipt

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// MeterHistory is what a bundle's statements on the meter make of it. Their
// links show that none between them is missing. That none followed the last of
// them, no bundle can show.
type MeterHistory struct {
	Statements    []MeterStatement // in order, the registration first
	AtMeasurement *statev1.Meter   // by the statements before the measurement
	AtCheckpoint  *statev1.Meter   // by all of them
}

// MeterStatement is one statement on a meter.
type MeterStatement struct {
	Index    uint64 // in the log
	Message  StatementOnMeter
	envelope *envelope.Envelope
}

// StatementOnMeter is a MeterRegistration, MeterParameters, MeterStatus or
// MeterKeyRollover.
type StatementOnMeter interface {
	proto.Message
	GetHeader() *recordv1.StatementHeader
}

// Certificate is the newest verification that covers a capture, of statements
// below a place in the log; nil when none does.
func (h *MeterHistory) Certificate(capturedAtUnixNano int64, below uint64) *recordv1.Verification {
	var found *recordv1.Verification
	for _, s := range h.Statements {
		holder, ok := s.Message.(interface {
			GetVerification() *recordv1.Verification
		})
		if !ok || s.Index >= below {
			continue
		}
		// A later certificate ends the one before where it begins.
		if v := holder.GetVerification(); v != nil && v.GetValidFromUnixNano() <= capturedAtUnixNano {
			found = v
		}
	}
	if found == nil || capturedAtUnixNano >= found.GetValidUntilUnixNano() {
		return nil
	}
	return found
}

// parameters: of the registration, or the later version that the claim names.
func (c *checker) parameters(reg *recordv1.MeterRegistration, registration *envelope.Envelope) (*claim.Parameters, string, error) {
	named := c.receipt.Claim.Registration
	item := c.bundle.GetParameters()
	if item == nil {
		if err := sameDigest("registration", registration.Digest(), named); err != nil {
			return nil, "", err
		}
		p, err := claim.FirstParameters(reg, registration.Digest())
		return p, "", err
	}
	m, s := new(recordv1.MeterParameters), c.receipt.Sample
	e, err := openMessage(item, "parameters", m, c.checkpoint)
	if err != nil {
		return nil, "", err
	}
	if err := sameDigest("parameters", e.Digest(), named); err != nil {
		return nil, "", err
	}
	if err := checkHeader(m.GetHeader(), s.NetworkID, record.SubjectMeter(s.MeterID)); err != nil {
		return nil, "", fmt.Errorf("parameters: %w", err)
	}
	if from := m.GetEffectiveAtUnixNano(); from > s.CapturedAtUnixNano {
		return nil, "", fmt.Errorf("parameters are effective from %s, the sample was captured %s", timeText(from), timeText(s.CapturedAtUnixNano))
	}
	signer, err := c.notifiedBody(e, "")
	if err != nil {
		return nil, "", fmt.Errorf("parameters: %w", err)
	}
	p, err := claim.LaterParameters(reg, m, e.Digest())
	return p, fmt.Sprintf("; parameters of version %d, at index %d, %s", m.GetVersion(), item.GetIndex(), signer), err
}

// history: all statements on the meter, each once, are a chain without a gap.
func (c *checker) history() (string, error) {
	if c.contents.Registration == nil {
		return "", lack("the meter's registration is not verified, with which its history begins")
	}
	statements, err := c.statements()
	if err != nil {
		return "", err
	}
	if first := statements[0]; first.Index >= c.receipt.Proof.Index {
		return "", fmt.Errorf("the registration is record %d, the measurement record %d", first.Index, c.receipt.Proof.Index)
	}
	s := c.receipt.Sample
	var inForce []byte
	for i, st := range statements {
		if err := c.link(statements, i); err != nil {
			return "", err
		}
		m, later := st.Message.(*recordv1.MeterParameters)
		if i == 0 || later && m.GetEffectiveAtUnixNano() <= s.CapturedAtUnixNano {
			inForce = st.envelope.Digest().Bytes()
		}
	}
	if named := c.receipt.Claim.Registration; !bytes.Equal(inForce, named[:]) {
		return "", fmt.Errorf("at the capture the parameters of statement %x were in force, the claim names %s", inForce, named)
	}
	detail := fmt.Sprintf("%d statements on the meter, linked without a gap; whether another followed, no bundle shows", len(statements))
	if c.contents.History, err = fold(statements, c.receipt.Proof.Index); err != nil {
		detail += fmt.Sprintf("; they make no meter that the ledger would have: %v", err)
	}
	return detail, nil
}

// link: the statement is the next after the one before it, and a notified body's.
func (c *checker) link(statements []MeterStatement, i int) error {
	st, want := statements[i], uint64(i)+1
	h := st.Message.GetHeader()
	switch got := h.GetSequence(); {
	case got > want:
		return lack("the bundle has no statement %d on the meter, and statement %d at index %d", want, got, st.Index)
	case got != want:
		return fmt.Errorf("statement %d on the meter stands at index %d, the next is %d", got, st.Index, want)
	case i == 0 && len(h.GetPredecessor()) == 0:
		return nil // the step on the registration judged who signed it
	case i == 0:
		return fmt.Errorf("the registration follows statement %x; a meter's first follows none", h.GetPredecessor())
	}
	if before := statements[i-1].envelope.Digest(); !bytes.Equal(h.GetPredecessor(), before[:]) {
		return fmt.Errorf("statement %d on the meter follows %x, the one before it is %s", want, h.GetPredecessor(), before)
	}
	if _, err := c.notifiedBody(st.envelope, ""); err != nil {
		return fmt.Errorf("statement %d on the meter: %w", want, err)
	}
	return nil
}

// fold applies the statements as the ledger did.
func fold(statements []MeterStatement, measurement uint64) (*MeterHistory, error) {
	h := &MeterHistory{Statements: statements}
	for _, st := range statements {
		after, err := state.MeterAfter(h.AtCheckpoint, st.envelope, st.Index)
		if err != nil {
			return nil, fmt.Errorf("statement at index %d: %w", st.Index, err)
		}
		if h.AtCheckpoint = after; st.Index < measurement {
			h.AtMeasurement = after
		}
	}
	return h, nil
}

// statements are those on the meter, in the order of the log.
func (c *checker) statements() ([]MeterStatement, error) {
	items := slices.Concat([]*recordv1.ProvenRecord{c.bundle.GetRegistration()}, c.bundle.GetRollovers(), c.bundle.GetHistory())
	if p := c.bundle.GetParameters(); p != nil {
		items = append(items, p)
	}
	ordinary := 1 + len(c.bundle.GetRollovers()) // from here the items of the history
	s := c.receipt.Sample
	list := make([]MeterStatement, len(items))
	for i, p := range items {
		what := fmt.Sprintf("statement at index %d", p.GetIndex())
		r, err := open(p, what, c.checkpoint)
		if err != nil {
			return nil, err
		}
		if r.GetStatement() == nil {
			return nil, fmt.Errorf("%s is a %T, not a statement", what, r.GetBody())
		}
		e := record.ToEnvelope(r.GetStatement())
		m := meterMessage(e.PayloadType)
		if m == nil {
			return nil, fmt.Errorf("%s is of type %q, which says nothing of a meter", what, e.PayloadType)
		}
		if _, rollover := m.(*recordv1.MeterKeyRollover); rollover != (i > 0 && i < ordinary) {
			return nil, fmt.Errorf("%s is of type %q; rollovers stand in their own field, and nothing else does", what, e.PayloadType)
		}
		if err := wire.Decode(e.Payload, m); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if err := checkHeader(m.GetHeader(), s.NetworkID, record.SubjectMeter(s.MeterID)); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		list[i] = MeterStatement{Index: p.GetIndex(), Message: m, envelope: e}
	}
	for i, p := range c.bundle.GetHistory() {
		if i > 0 && p.GetIndex() <= c.bundle.GetHistory()[i-1].GetIndex() {
			return nil, fmt.Errorf("record %d follows record %d in the history: want ascending ones", p.GetIndex(), c.bundle.GetHistory()[i-1].GetIndex())
		}
	}
	slices.SortStableFunc(list, func(a, b MeterStatement) int {
		switch {
		case a.Index < b.Index:
			return -1
		case a.Index > b.Index:
			return 1
		}
		return 0
	})
	return list, nil
}

// DecodeOnMeter reads a statement on a meter.
func DecodeOnMeter(e *envelope.Envelope) (StatementOnMeter, error) {
	m := meterMessage(e.PayloadType)
	if m == nil {
		return nil, fmt.Errorf("a statement of type %q says nothing of a meter", e.PayloadType)
	}
	return m, wire.Decode(e.Payload, m)
}

// meterMessage is the message of a payload type on meters; nil for another.
func meterMessage(payloadType string) StatementOnMeter {
	for _, m := range []StatementOnMeter{
		new(recordv1.MeterRegistration), new(recordv1.MeterParameters), new(recordv1.MeterStatus), new(recordv1.MeterKeyRollover),
	} {
		if record.TypeOf(m) == payloadType {
			return m
		}
	}
	return nil
}
