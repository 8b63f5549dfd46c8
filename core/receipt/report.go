package receipt

import (
	"errors"
	"fmt"
	"strings"
)

// Verdict is what a check found.
type Verdict uint8

// The verdicts. The zero value claims nothing.
const (
	Undecidable Verdict = iota // what the check needs is not there
	Verified
	Refuted
)

// String is the verdict as reports show it.
func (v Verdict) String() string {
	switch v {
	case Verified:
		return "verified"
	case Refuted:
		return "refuted"
	}
	return "undecidable"
}

// MarshalText is String, so that JSON shows the word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, known := range []Verdict{Undecidable, Verified, Refuted} {
		if known.String() == string(text) {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("%.40q is no verdict", text)
}

// The names of the steps, in the order of every report.
const (
	StepCanonicalForm  = "canonical form"
	StepInclusion      = "inclusion"
	StepCertificate    = "certificate"
	StepRecordForm     = "record form"
	StepMeterSignature = "meter signature"
	// The steps below stand only in the report of a bundle.
	StepConfiguration = "configuration"
	StepRegistration  = "registration"
	StepApproval      = "approval"
	StepEndorsements  = "endorsements"
	StepRawVector     = "raw vector"
	StepModule        = "module"
	StepReExecution   = "re-execution"
	StepHistory       = "meter history"
	StepNationalTable = "national table"
)

// Step is one check: what was compared with what, and what came of it.
type Step struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	// Optional: undecidable here limits what is concluded, but leaves the rest
	// its verdict. A receipt alone cannot show the meter's key; a bundle may
	// lack the module.
	Optional bool `json:"optional,omitempty"`
}

// Report is the outcome of one verification.
type Report struct {
	Verdict    Verdict `json:"verdict"`
	Conclusion string  `json:"conclusion"` // one line: what is proved, or what failed
	Steps      []Step  `json:"steps"`
}

// Conclusions of verified reports.
const (
	ConclusionCertified  = "certified, not re-executed"
	ConclusionEndorsed   = "certified and endorsed, not re-executed"
	ConclusionReExecuted = "certified, endorsed and re-executed with the same result"
)

// Step finds a step by its name; the zero Step, undecidable, when it is not in
// the report.
func (r *Report) Step(name string) Step {
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}

// String is the report as lines for people, each ended by a newline.
func (r *Report) String() string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-11s  %-15s  %s\n", s.Verdict, s.Name, s.Detail)
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Verdict, r.Conclusion)
	return b.String()
}

// conclude draws the overall verdict: refuted if any step is, else undecidable
// if a step that is not optional is, else verified.
func (r *Report) conclude() {
	r.Verdict, r.Conclusion = Verified, ConclusionCertified
	for _, s := range r.Steps {
		switch {
		case s.Verdict == Refuted:
			r.Verdict, r.Conclusion = Refuted, s.Name+": "+s.Detail
			return
		case s.Verdict == Undecidable && !s.Optional && r.Verdict == Verified:
			r.Verdict, r.Conclusion = Undecidable, s.Name+": "+s.Detail
		}
	}
	if r.Verdict != Verified {
		return
	}
	if r.Step(StepEndorsements).Verdict == Verified {
		r.Conclusion = ConclusionEndorsed
	}
	if r.Step(StepReExecution).Verdict == Verified {
		r.Conclusion = ConclusionReExecuted
	}
}

// lackError says that a check lacks what it needs.
type lackError struct{ missing string }

func (e *lackError) Error() string { return e.missing }

func lack(format string, args ...any) error { return &lackError{fmt.Sprintf(format, args...)} }

// newStep makes a step of what its check returned: a detail, or an error that
// refutes, or a *lackError.
func newStep(name string, detail string, err error) Step {
	if err == nil {
		return Step{Name: name, Verdict: Verified, Detail: detail}
	}
	var missing *lackError
	if errors.As(err, &missing) {
		return Step{Name: name, Verdict: Undecidable, Detail: err.Error()}
	}
	return Step{Name: name, Verdict: Refuted, Detail: err.Error()}
}
