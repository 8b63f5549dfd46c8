package conformance

import (
	"fmt"
	"strconv"
	"strings"
)

// Verdict is what came of a check.
type Verdict string

// The verdicts.
const (
	OK         Verdict = "ok"
	Failed     Verdict = "failed"
	NotChecked Verdict = "not checked"
)

// The checks, in the order in which they are reported. Those of the submission:
const (
	CheckKey        = "public key"
	CheckFirst      = "first counter"
	CheckChain      = "samples"           // there are some
	CheckAgainstAll = "number of vectors" // only against vectors
)

// Those of each sample:
const (
	CheckHeaderSize     = "header size"
	CheckHeaderEncoding = "header encoding"
	CheckHeaderFields   = "header fields"
	CheckNetwork        = "network id"
	CheckMeter          = "meter id"
	CheckShape          = "channels and rate"
	CheckCounter        = "counter"
	CheckPrevious       = "previous digest"
	CheckTime           = "capture time"
	CheckKnown          = "known block"
	CheckRawDigest      = "raw digest"
	CheckRawVector      = "raw vector"
	CheckSigned         = "signed bytes"
	CheckSampleDigest   = "sample digest"
	CheckSignatureForm  = "signature form"
	CheckSignature      = "signature"
	CheckValues         = "values"
	CheckInputs         = "inputs"
	CheckDeterministic  = "deterministic" // the signature; only against vectors, under their Ed25519 key
)

// requirements names what a check is of, in docs/formats.md, "What a meter must
// do". The others there cannot be seen from samples.
var requirements = map[string]string{
	CheckKey: "F1", CheckShape: "F2", CheckRawDigest: "F2", CheckRawVector: "F2", CheckValues: "F2",
	CheckFirst: "F3", CheckCounter: "F3", CheckPrevious: "F3",
	CheckHeaderSize: "F5", CheckHeaderEncoding: "F5", CheckHeaderFields: "F5", CheckNetwork: "F5", CheckMeter: "F5", CheckInputs: "F5",
	CheckSigned: "F6", CheckSampleDigest: "F6", CheckSignatureForm: "F6", CheckSignature: "F6", CheckDeterministic: "F6",
	CheckKnown: "F7", CheckTime: "F8",
}

// Check is one check with its outcome.
type Check struct {
	Name        string  `json:"name"`
	Requirement string  `json:"requirement,omitempty"` // its number in docs/formats.md
	Verdict     Verdict `json:"verdict"`
	Detail      string  `json:"detail"`
	Optional    bool    `json:"optional,omitempty"` // not made because nothing was given to compare with
}

// SampleReport is about one sample.
type SampleReport struct {
	Name   string  `json:"name"` // as the submission calls it, or its number
	Checks []Check `json:"checks"`
}

// Report is about a submission. Its verdict is Failed if one check failed,
// NotChecked if one that matters could not be made, and OK otherwise.
type Report struct {
	Verdict Verdict        `json:"verdict"`
	Checks  []Check        `json:"checks"`
	Samples []SampleReport `json:"samples"`
}

func (r *Report) conclude() {
	r.Verdict = OK
	judge := func(checks []Check) {
		for _, c := range checks {
			switch {
			case c.Verdict == Failed:
				r.Verdict = Failed
			case c.Verdict == NotChecked && !c.Optional && r.Verdict == OK:
				r.Verdict = NotChecked
			}
		}
	}
	judge(r.Checks)
	for _, s := range r.Samples {
		judge(s.Checks)
	}
}

// Failures are the names of the checks that failed, in order, each once.
func (r *Report) Failures() (names []string) {
	seen := make(map[string]bool)
	add := func(checks []Check) {
		for _, c := range checks {
			if c.Verdict == Failed && !seen[c.Name] {
				seen[c.Name] = true
				names = append(names, c.Name)
			}
		}
	}
	add(r.Checks)
	for _, s := range r.Samples {
		add(s.Checks)
	}
	return names
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	write := func(checks []Check) {
		for _, c := range checks {
			fmt.Fprintf(&b, "  %-11s  %-2s  %-17s  %s\n", c.Verdict, c.Requirement, c.Name, c.Detail)
		}
	}
	b.WriteString("meter\n")
	write(r.Checks)
	for _, s := range r.Samples {
		name := s.Name
		if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
			name = quoted // it is the submission's own: it must not pass for a line of ours
		}
		fmt.Fprintf(&b, "sample %s\n", name)
		write(s.Checks)
	}
	fmt.Fprintf(&b, "%s: %d samples\n", r.Verdict, len(r.Samples))
	return b.String()
}
