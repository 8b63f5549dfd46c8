package approval

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
)

func example(t testing.TB) *Approval {
	t.Helper()
	seed := sha256.Sum256([]byte("approval example"))
	key, err := signature.KeyOf(signature.Ed25519, ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		t.Fatal(err)
	}
	return &Approval{
		Module: digest.Plain([]byte("module")), NetworkID: digest.Plain([]byte("network")),
		Sequence: 2, Predecessor: digest.Plain([]byte("first")), IssuedAtUnix: 1_767_225_600,
		NotifiedBody: "inmetro", Manufacturer: Manufacturer{Name: "Maker & Söhne <GmbH>", Key: key},
		ModuleName: "speed", ModuleVersion: "1.0.0", ProfileVersion: 1, FuelLimit: 5_000_000,
		Schema: Schema{
			Parameters: []Field{{"channel_spacing", "um", 0}},
			Values:     []Field{{"speed", "km/h", -3}, {"direction", "1", 0}},
			Refusals:   []Refusal{{1, "MALFORMED_INPUT"}, {8, "LOW_SNR"}},
		},
		Policy:        policy.OutOf(2, policy.Organisation("a"), policy.Organisation("b"), policy.Organisation("c")),
		NotBeforeUnix: 1_767_225_600, NotAfterUnix: 1_798_761_600,
		TestReport: digest.Plain([]byte("report")), Disclosure: Public,
	}
}

func TestEncodeAndParseAreInverse(t *testing.T) {
	withheld := example(t)
	withheld.Disclosure, withheld.Sequence, withheld.Predecessor = Withheld, 1, digest.Zero
	withheld.Schema.Parameters, withheld.Schema.Refusals = []Field{}, []Refusal{}
	for _, a := range []*Approval{example(t), withheld} {
		b, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, a) {
			t.Errorf("parsed %+v, want %+v", got, a)
		}
	}
	if got, want := example(t).Subject(), "algorithm/"+example(t).Module.String(); got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
}

func TestGolden(t *testing.T) {
	b, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden.Bytes(t, "approval.json", b)
	golden.JSON(t, "approval.digest.json", map[string]any{"statement": Digest(b), "module": example(t).Module})
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	fields := make([]Field, 65)
	for i := range fields {
		fields[i] = Field{Name: "f" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Unit: "1"}
	}
	for _, c := range []struct {
		name   string
		change func(*Approval)
		want   reason.Reason
	}{
		{"no module", func(a *Approval) { a.Module = digest.Zero }, reason.Malformed},
		{"no sequence", func(a *Approval) { a.Sequence = 0 }, reason.Malformed},
		{"sequence beyond JSON", func(a *Approval) { a.Sequence = 1 << 53 }, reason.Malformed},
		{"first with predecessor", func(a *Approval) { a.Sequence = 1 }, reason.Malformed},
		{"second without", func(a *Approval) { a.Predecessor = digest.Zero }, reason.Malformed},
		{"no profile", func(a *Approval) { a.ProfileVersion = 0 }, reason.Malformed},
		{"no fuel", func(a *Approval) { a.FuelLimit = 0 }, reason.Malformed},
		{"fuel beyond JSON", func(a *Approval) { a.FuelLimit = 1 << 53 }, reason.Malformed},
		{"no report", func(a *Approval) { a.TestReport = digest.Zero }, reason.Malformed},
		{"no disclosure", func(a *Approval) { a.Disclosure = "" }, reason.Malformed},
		{"ends before it begins", func(a *Approval) { a.NotAfterUnix = a.NotBeforeUnix }, reason.InvalidStatement},
		{"before 1970", func(a *Approval) { a.NotBeforeUnix = 0 }, reason.Malformed},
		{"after all time", func(a *Approval) { a.NotAfterUnix = 1 << 60 }, reason.Malformed},
		{"issued never", func(a *Approval) { a.IssuedAtUnix = -1 }, reason.Malformed},
		{"bad body", func(a *Approval) { a.NotifiedBody = "Inmetro" }, reason.Malformed},
		{"no maker", func(a *Approval) { a.Manufacturer.Name = "" }, reason.Malformed},
		{"long name", func(a *Approval) { a.ModuleName = long }, reason.Malformed},
		{"control character", func(a *Approval) { a.ModuleVersion = "1\n" }, reason.Malformed},
		{"not UTF-8", func(a *Approval) { a.ModuleVersion = "\xff" }, reason.Malformed},
		{"no key", func(a *Approval) { a.Manufacturer.Key = signature.Key{} }, reason.WeakKey},
		{"key for samples", func(a *Approval) {
			a.Manufacturer.Key, _ = signature.NewKey(signature.Ed25519ZIP215, a.Manufacturer.Key.Raw())
		}, reason.WeakKey},
		{"weak key", func(a *Approval) {
			a.Manufacturer.Key, _ = signature.NewKey(signature.Ed25519, append([]byte{1}, make([]byte, 31)...))
		}, reason.WeakKey},
		{"no policy", func(a *Approval) { a.Policy = policy.Policy{} }, reason.InvalidStatement},
		{"no values", func(a *Approval) { a.Schema.Values = nil }, reason.Malformed},
		{"65 values", func(a *Approval) { a.Schema.Values = fields }, reason.Malformed},
		{"65 parameters", func(a *Approval) { a.Schema.Parameters = fields }, reason.Malformed},
		{"value twice", func(a *Approval) { a.Schema.Values[1] = a.Schema.Values[0] }, reason.Malformed},
		{"no unit", func(a *Approval) { a.Schema.Values[1].Unit = "" }, reason.Malformed},
		{"scale", func(a *Approval) { a.Schema.Values[1].Scale = -19 }, reason.Malformed},
		{"refusal 0", func(a *Approval) { a.Schema.Refusals[0].Code = 0 }, reason.Malformed},
		{"refusal 100", func(a *Approval) { a.Schema.Refusals[1].Code = 100 }, reason.Malformed},
		{"refusals descend", func(a *Approval) { a.Schema.Refusals[1].Code = 1 }, reason.Malformed},
		{"refusal without a name", func(a *Approval) { a.Schema.Refusals[1].Name = "" }, reason.Malformed},
	} {
		a := example(t)
		c.change(a)
		if _, err := a.Encode(); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	a := example(t)
	a.Schema.Values, a.Schema.Parameters = nil, nil
	for i := range 64 {
		f := Field{Name: strings.Repeat("n", 120) + string(rune('0'+i)), Unit: strings.Repeat("u", 120), Scale: 1}
		a.Schema.Values, a.Schema.Parameters = append(a.Schema.Values, f), append(a.Schema.Parameters, f)
	}
	if _, err := a.Encode(); reason.Of(err) != reason.TooLarge {
		t.Errorf("a huge schema: %v", err)
	}
}

func TestResultFitsTheSchema(t *testing.T) {
	s := example(t).Schema // two values, refusals 1 and 8
	for _, c := range []struct {
		code   uint32
		values int
		fits   bool
	}{
		{0, 2, true}, {0, 0, false}, {0, 1, false}, {0, 3, false},
		{8, 2, true}, {8, 0, true}, {8, 1, false}, {1, 0, true},
		{abi.CodeExecutionFailed, 0, true}, {abi.CodeExecutionFailed, 2, true}, {abi.CodeExecutionFailed, 1, false},
		{2, 2, false}, {7, 0, false}, {99, 0, false}, {101, 0, false},
	} {
		err := s.CheckResult(abi.Output{Code: c.code, Values: make([]int64, c.values)})
		if c.fits && err != nil || !c.fits && !errors.Is(err, reason.New(reason.BadEndorsement, "")) {
			t.Errorf("code %d with %d values: %v", c.code, c.values, err)
		}
	}
}

func TestB1_OnlyOneForm(t *testing.T) {
	good, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	replace := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in %s", old, text)
		}
		return strings.Replace(text, old, with, 1)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"space":               replace(`"subject":`, `"subject": `),
		"newline at the end":  text + "\n",
		"two documents":       text + text,
		"unknown field":       replace(`"validity":`, `"extra":1,"validity":`),
		"field twice":         replace(`"notifiedBody":"inmetro"`, `"notifiedBody":"ptb","notifiedBody":"inmetro"`),
		"other case":          replace(`"notifiedBody"`, `"notifiedbody"`),
		"fields swapped":      replace(`"sequence":2,`, ``),
		"float":               replace(`"fuelLimit":5000000`, `"fuelLimit":5e6`),
		"fraction":            replace(`"scale":-3`, `"scale":-3.0`),
		"upper-case digest":   replace(digest.Plain([]byte("module")).String(), strings.ToUpper(digest.Plain([]byte("module")).String())),
		"escaped letter":      replace(`"inmetro"`, `"\u0069nmetro"`),
		"offset time":         replace(`2026-01-01T00:00:00Z`, `2026-01-01T00:00:00+00:00`),
		"fraction of seconds": replace(`2026-01-01T00:00:00Z`, `2026-01-01T00:00:00.5Z`),
		"null list":           replace(`[{"name":"channel_spacing","unit":"um","scale":0}]`, `null`),
		"other type":          replace(`in-toto.io/Statement/v1`, `in-toto.io/Statement/v2`),
		"other predicate":     replace(`type-approval/v1`, `type-approval/v2`),
		"too long":            text + strings.Repeat(" ", MaxBytes),
		"other subject name":  replace(`"name":"speed","digest"`, `"name":"other","digest"`),
	} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if reason.Of(err) == "" {
			t.Errorf("%s: %v has no reason", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := example(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add(bytes.Replace(good, []byte(`"threshold":2`), []byte(`"threshold":3`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			if reason.Of(err) == "" {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		again, err := a.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %s, encodes as %s (%v)", b, again, err)
		}
		if short, err := ParseAccepted(b); err != nil || !reflect.DeepEqual(short, a) {
			t.Fatalf("read again without its checks it is %+v (%v), want %+v", short, err, a)
		}
	})
}
