package approval

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
)

// form is the statement as JSON; the order of the fields is the format.
type form struct {
	Type          string        `json:"_type"`
	Subject       []subjectForm `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     predicateForm `json:"predicate"`
}

type subjectForm struct {
	Name   string     `json:"name"`
	Digest digestForm `json:"digest"`
}

type digestForm struct {
	SHA256 digest.Digest `json:"sha256"`
}

type predicateForm struct {
	Statement      chainForm        `json:"statement"`
	NotifiedBody   string           `json:"notifiedBody"`
	Manufacturer   manufacturerForm `json:"manufacturer"`
	Module         moduleForm       `json:"module"`
	ProfileVersion uint32           `json:"profileVersion"`
	FuelLimit      uint64           `json:"fuelLimit"`
	Schema         Schema           `json:"schema"`
	Policy         policy.Policy    `json:"policy"`
	Validity       validityForm     `json:"validity"`
	TestReport     digestForm       `json:"testReport"`
	Disclosure     Disclosure       `json:"disclosure"`
}

type chainForm struct {
	Network     digest.Digest  `json:"network"`
	Sequence    uint64         `json:"sequence"`
	Predecessor *digest.Digest `json:"predecessor,omitempty"`
	IssuedAt    string         `json:"issuedAt"`
}

type manufacturerForm struct {
	Name      string `json:"name"`
	PublicKey []byte `json:"publicKey"` // tagged; standard base64
}

type moduleForm struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type validityForm struct {
	NotBefore string `json:"notBefore"`
	NotAfter  string `json:"notAfter"`
}

// timeLayout is RFC 3339, UTC, whole seconds.
const timeLayout = "2006-01-02T15:04:05Z"

// Encode writes the statement, after Check. The error is a *reason.Error.
func (a *Approval) Encode() ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	b, err := a.encode()
	if err != nil {
		return nil, err
	}
	if len(b) > MaxBytes {
		return nil, reason.New(reason.TooLarge, "approval has %d bytes, the limit is %d", len(b), MaxBytes)
	}
	return b, nil
}

func (a *Approval) encode() ([]byte, error) {
	chain := chainForm{Network: a.NetworkID, Sequence: a.Sequence, IssuedAt: timeText(a.IssuedAtUnix)}
	if !a.Predecessor.IsZero() {
		chain.Predecessor = &a.Predecessor
	}
	schema := a.Schema // an empty list is written [], never null
	schema.Parameters = append([]Field{}, schema.Parameters...)
	schema.Refusals = append([]Refusal{}, schema.Refusals...)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(form{
		Type:          StatementType,
		Subject:       []subjectForm{{Name: a.ModuleName, Digest: digestForm{a.Module}}},
		PredicateType: PredicateType,
		Predicate: predicateForm{
			Statement:      chain,
			NotifiedBody:   a.NotifiedBody,
			Manufacturer:   manufacturerForm{Name: a.Manufacturer.Name, PublicKey: a.Manufacturer.Key.Bytes()},
			Module:         moduleForm{Name: a.ModuleName, Version: a.ModuleVersion},
			ProfileVersion: a.ProfileVersion,
			FuelLimit:      a.FuelLimit,
			Schema:         schema,
			Policy:         a.Policy,
			Validity:       validityForm{NotBefore: timeText(a.NotBeforeUnix), NotAfter: timeText(a.NotAfterUnix)},
			TestReport:     digestForm{a.TestReport},
			Disclosure:     a.Disclosure,
		},
	})
	if err != nil {
		return nil, reason.New(reason.Malformed, "approval: %v", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// Parse reads what Encode writes, and nothing else. Errors are *reason.Error:
// TooLarge, Malformed, NotCanonical, WeakKey or InvalidStatement.
func Parse(b []byte) (*Approval, error) {
	a, err := ParseAccepted(b)
	if err != nil {
		return nil, err
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	again, err := a.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, reason.New(reason.NotCanonical, "approval of module %s is not in its one JSON form", a.Module.Short())
	}
	return a, nil
}

// ParseAccepted reads a statement that Parse accepted once, such as one in the
// ledger's state; it leaves out Check, whose test of the key is dear, and the
// comparison of the form.
func ParseAccepted(b []byte) (*Approval, error) {
	if len(b) > MaxBytes {
		return nil, reason.New(reason.TooLarge, "approval has %d bytes, the limit is %d", len(b), MaxBytes)
	}
	var f form // encoding/json is lenient; the comparison below is not
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, reason.New(reason.Malformed, "approval: %v", err)
	}
	if f.Type != StatementType || f.PredicateType != PredicateType || len(f.Subject) != 1 {
		return nil, reason.New(reason.Malformed, "approval is a %.60q of %.80q with %d subjects, want %q of %q with one",
			f.Type, f.PredicateType, len(f.Subject), StatementType, PredicateType)
	}
	p := &f.Predicate
	key, err := signature.ParseKey(p.Manufacturer.PublicKey)
	if err != nil {
		return nil, reason.New(reason.Malformed, "manufacturer's key: %v", err)
	}
	a := &Approval{
		Module:         f.Subject[0].Digest.SHA256,
		NetworkID:      p.Statement.Network,
		Sequence:       p.Statement.Sequence,
		NotifiedBody:   p.NotifiedBody,
		Manufacturer:   Manufacturer{Name: p.Manufacturer.Name, Key: key},
		ModuleName:     p.Module.Name,
		ModuleVersion:  p.Module.Version,
		ProfileVersion: p.ProfileVersion,
		FuelLimit:      p.FuelLimit,
		Schema:         p.Schema,
		Policy:         p.Policy,
		TestReport:     p.TestReport.SHA256,
		Disclosure:     p.Disclosure,
	}
	if p.Statement.Predecessor != nil {
		a.Predecessor = *p.Statement.Predecessor
	}
	for _, t := range []struct {
		text string
		to   *int64
	}{{p.Statement.IssuedAt, &a.IssuedAtUnix}, {p.Validity.NotBefore, &a.NotBeforeUnix}, {p.Validity.NotAfter, &a.NotAfterUnix}} {
		at, err := time.Parse(timeLayout, t.text)
		if err != nil {
			return nil, reason.New(reason.Malformed, "time %.40q is not of the form %s", t.text, timeLayout)
		}
		*t.to = at.Unix()
	}
	return a, nil
}

// Digest is the statement's identity, given its exact bytes.
func Digest(payload []byte) digest.Digest {
	return digest.Of(digest.Statement, envelope.PAE(envelope.InTotoType, payload))
}

func timeText(unix int64) string { return time.Unix(unix, 0).UTC().Format(timeLayout) }
