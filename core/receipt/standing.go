package receipt

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Standing is what the statements on the meter make of it: for the measurement,
// and by all that the bundle has.
type Standing struct {
	Seal          string           `json:"seal"`          // number on the physical seal, by the parameters in force
	Parameters    uint32           `json:"parameters"`    // version in force at the capture
	Certificate   string           `json:"certificate"`   // verification that covers the capture
	VerifiedFrom  string           `json:"verifiedFrom"`  // RFC 3339
	VerifiedUntil string           `json:"verifiedUntil"` // not included
	AtMeasurement string           `json:"atMeasurement"` // for the capture, by what stood before the measurement
	AtCheckpoint  string           `json:"atCheckpoint"`  // for a capture at Checkpoint, by all statements of the bundle
	Checkpoint    string           `json:"checkpoint"`    // the certificate's median time: the bundle's "today"
	Statements    []ListedStanding `json:"statements"`
	Limit         string           `json:"limit"` // what the links do not prove
}

// ListedStanding is one statement on the meter in words.
type ListedStanding struct {
	Number uint64 `json:"number"`
	Index  uint64 `json:"index"` // in the log
	Says   string `json:"says"`
}

// limit is said wherever a standing is shown.
const limit = "The links show that no statement between these is missing; not that none followed the last of them."

// standing is nil without a verified history.
func standing(r *Receipt, c *Contents) *Standing {
	h := c.History
	if h == nil {
		return nil
	}
	captured, today := r.Sample.CapturedAtUnixNano, int64(min(r.Proof.Certificate.MedianTime(), 1<<33))*second
	s := &Standing{
		AtMeasurement: string(state.MeterStandingAt(h.AtMeasurement, captured)),
		AtCheckpoint:  string(state.MeterStandingAt(h.AtCheckpoint, today)),
		Checkpoint:    timeText(today), Limit: limit,
	}
	if p := c.Parameters; p != nil {
		s.Seal, s.Parameters = p.Seal, p.Version
	}
	if v := h.Certificate(captured, r.Proof.Index); v != nil {
		s.Certificate, s.VerifiedFrom, s.VerifiedUntil = v.GetCertificate(), timeText(v.GetValidFromUnixNano()), timeText(v.GetValidUntilUnixNano())
	}
	for _, st := range h.Statements {
		s.Statements = append(s.Statements, ListedStanding{Number: st.Message.GetHeader().GetSequence(), Index: st.Index, Says: SayMeter(st.Message)})
	}
	return s
}

// SayMeter says in a few words what a statement on a meter does to it.
func SayMeter(statement StatementOnMeter) string {
	switch m := statement.(type) {
	case *recordv1.MeterRegistration:
		return fmt.Sprintf("registered, model %s, seal %s, verified until %s by %s",
			m.GetModel(), m.GetSeal(), timeText(m.GetVerification().GetValidUntilUnixNano()), m.GetVerification().GetCertificate())
	case *recordv1.MeterParameters:
		return fmt.Sprintf("parameters of version %d from %s, seal %s%s", m.GetVersion(), timeText(m.GetEffectiveAtUnixNano()), m.GetSeal(), because(m.GetReason()))
	case *recordv1.MeterKeyRollover:
		return fmt.Sprintf("new key from counter %d", m.GetFirstCounter())
	case *recordv1.MeterStatus:
		text := words(m.GetAction().String(), "METER_ACTION_")
		if at := m.GetEffectiveAtUnixNano(); at != 0 {
			text += " from " + timeText(at)
		}
		if v := m.GetVerification(); v != nil {
			text += fmt.Sprintf(" from %s until %s by %s", timeText(v.GetValidFromUnixNano()), timeText(v.GetValidUntilUnixNano()), v.GetCertificate())
		}
		return text + because(m.GetReason())
	}
	return fmt.Sprintf("%T", statement)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
