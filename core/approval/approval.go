// Package approval is the type approval of an algorithm: an in-toto statement
// whose subject is the module and whose predicate says under what terms a
// notified body approved it.
//
// Source: in-toto Attestation Framework, Statement v1; architecture, "Approvals
// are in-toto statements" and rule S4.
//
// Invariants:
//   - One subject, named by the plain SHA-256 of the module's bytes.
//   - One JSON form: fields in a fixed order, no white space, integers only,
//     times in RFC 3339 UTC with seconds, no unknown field. Parse decodes,
//     encodes again and compares, so a statement has one byte string.
//   - At most MaxBytes; every list and string is bounded.
package approval

import (
	"slices"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
)

// The fixed types of the statement.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://lacre-metrology.github.io/type-approval/v1"
)

// Bounds.
const (
	MaxBytes      = 16 << 10
	MaxParameters = 64
	MaxText       = 128       // bytes of a name or a unit
	MaxScale      = 18        // a power of ten, either way
	maxInteger    = 1<<53 - 1 // what every JSON reader holds exactly
	maxTimeUnix   = 9_000_000_000
)

// Disclosure says whether the module's bytes may be given to anyone.
type Disclosure string

// The disclosures.
const (
	Public   Disclosure = "public"
	Withheld Disclosure = "withheld" // only endorsers and the notified body hold it
)

// Field is a parameter or a value: a whole number of Unit times 10^Scale.
type Field struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Scale int    `json:"scale"`
}

// Refusal is a result code other than 0 and its name.
type Refusal struct {
	Code uint32 `json:"code"` // 1 to 99
	Name string `json:"name"`
}

// Schema gives meaning to the module's inputs and outputs, in their order.
type Schema struct {
	Parameters []Field   `json:"parameters"` // legally relevant parameters, of a meter's registration
	Values     []Field   `json:"values"`     // of a result
	Refusals   []Refusal `json:"refusals"`   // ascending by code
}

// Manufacturer made the module and signs the approval too.
type Manufacturer struct {
	Name string
	Key  signature.Key // Ed25519 or P256
}

// Approval is what a notified body says of one module.
type Approval struct {
	Module digest.Digest // plain SHA-256 of the module's bytes: the subject

	NetworkID    digest.Digest
	Sequence     uint64        // in the chain of "algorithm/HEX" (rule S4), from 1
	Predecessor  digest.Digest // statement with Sequence-1; zero in the first
	IssuedAtUnix int64         // seconds; the signer's clock, it decides nothing

	NotifiedBody   string // id in the network's configuration
	Manufacturer   Manufacturer
	ModuleName     string
	ModuleVersion  string
	ProfileVersion uint32 // sandbox profile
	FuelLimit      uint64 // for one run
	Schema         Schema
	Policy         policy.Policy
	NotBeforeUnix  int64 // seconds; first capture time covered
	NotAfterUnix   int64 // seconds; first capture time no longer covered
	TestReport     digest.Digest
	Disclosure     Disclosure
}

// Subject is the subject of the statement's chain.
func (a *Approval) Subject() string { return record.SubjectAlgorithm(a.Module) }

// Check says whether the approval can be one; errors are *reason.Error:
// Malformed, WeakKey or InvalidStatement.
func (a *Approval) Check() error {
	switch {
	case a.Module.IsZero():
		return reason.New(reason.Malformed, "approval names no module")
	case a.Sequence == 0 || a.Sequence > maxInteger:
		return reason.New(reason.Malformed, "sequence %d is outside 1..%d", a.Sequence, uint64(maxInteger))
	case (a.Sequence == 1) != a.Predecessor.IsZero():
		return reason.New(reason.Malformed, "sequence %d with predecessor %s; only the first has none", a.Sequence, a.Predecessor.Short())
	case a.ProfileVersion == 0:
		return reason.New(reason.Malformed, "no profile version")
	case a.FuelLimit == 0 || a.FuelLimit > maxInteger:
		return reason.New(reason.Malformed, "fuel limit %d is outside 1..%d", a.FuelLimit, uint64(maxInteger))
	case a.TestReport.IsZero():
		return reason.New(reason.Malformed, "no test report")
	case a.Disclosure != Public && a.Disclosure != Withheld:
		return reason.New(reason.Malformed, "disclosure %.20q is neither %q nor %q", string(a.Disclosure), Public, Withheld)
	case !validTime(a.IssuedAtUnix) || !validTime(a.NotBeforeUnix) || !validTime(a.NotAfterUnix):
		return reason.New(reason.Malformed, "a time is outside 1970 to 2255")
	case a.NotBeforeUnix >= a.NotAfterUnix:
		return reason.New(reason.InvalidStatement, "valid from %d until %d: the end is not after the beginning", a.NotBeforeUnix, a.NotAfterUnix)
	}
	if err := record.CheckID(a.NotifiedBody); err != nil {
		return err
	}
	for _, text := range []string{a.Manufacturer.Name, a.ModuleName, a.ModuleVersion} {
		if !validText(text) {
			return reason.New(reason.Malformed, "%.40q is not 1 to %d printable characters", text, MaxText)
		}
	}
	if kind := a.Manufacturer.Key.Kind(); kind != signature.Ed25519 && kind != signature.P256 {
		return reason.New(reason.WeakKey, "manufacturer's key is of kind %v, statements take ed25519 or p256", kind)
	}
	if err := signature.CheckKey(a.Manufacturer.Key); err != nil {
		return reason.New(reason.WeakKey, "manufacturer: %v", err)
	}
	if err := a.Policy.Check(); err != nil {
		return reason.New(reason.InvalidStatement, "%v", err)
	}
	return a.Schema.Check()
}

func validTime(unix int64) bool { return unix > 0 && unix < maxTimeUnix }

// validText accepts UTF-8 without control characters; the JSON form catches
// what is not UTF-8.
func validText(s string) bool {
	if len(s) == 0 || len(s) > MaxText {
		return false
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}

// Check says whether the schema is well formed (*reason.Error, Malformed).
func (s *Schema) Check() error {
	if len(s.Parameters) > MaxParameters {
		return reason.New(reason.Malformed, "%d parameters, at most %d", len(s.Parameters), MaxParameters)
	}
	if n := len(s.Values); n == 0 || n > claim.MaxValues {
		return reason.New(reason.Malformed, "%d values, want 1 to %d", n, claim.MaxValues)
	}
	for _, list := range [][]Field{s.Parameters, s.Values} {
		names := make(map[string]bool, len(list))
		for _, f := range list {
			if !validText(f.Name) || !validText(f.Unit) || f.Scale < -MaxScale || f.Scale > MaxScale || names[f.Name] {
				return reason.New(reason.Malformed, "field %.40q in %.20q times 10^%d: want distinct names, a unit and a scale within ±%d", f.Name, f.Unit, f.Scale, MaxScale)
			}
			names[f.Name] = true
		}
	}
	last := abi.CodeValid
	for _, r := range s.Refusals {
		if r.Code <= last || r.Code > abi.MaxRefusalCode || !validText(r.Name) {
			return reason.New(reason.Malformed, "refusal code %d (%.40q) after %d: want ascending codes from 1 to %d with names", r.Code, r.Name, last, abi.MaxRefusalCode)
		}
		last = r.Code
	}
	return nil
}

// CheckResult wants a result that the schema gives a meaning to: abi.CodeValid
// with all of its values, or one of its refusals or abi.CodeExecutionFailed
// with all or none. Replicas, endorsers and verifiers of receipts ask it alike.
// The error is a *reason.Error, BadEndorsement.
func (s *Schema) CheckResult(result abi.Output) error {
	switch have, want := len(result.Values), len(s.Values); {
	case !s.defines(result.Code):
		return reason.New(reason.BadEndorsement, "result code %d is none of the schema's %d refusals", result.Code, len(s.Refusals))
	case have != want && (result.Code == abi.CodeValid || have != 0):
		return reason.New(reason.BadEndorsement, "result code %d with %d values, the schema has %d", result.Code, have, want)
	}
	return nil
}

// defines reports whether a result may have this code: one of the refusals, or
// one that belongs to no schema.
func (s *Schema) defines(code uint32) bool {
	return code == abi.CodeValid || code == abi.CodeExecutionFailed ||
		slices.ContainsFunc(s.Refusals, func(r Refusal) bool { return r.Code == code })
}

// Equal reports whether two schemas say the same.
func (s *Schema) Equal(t *Schema) bool {
	return slices.Equal(s.Parameters, t.Parameters) && slices.Equal(s.Values, t.Values) && slices.Equal(s.Refusals, t.Refusals)
}
