package receipt_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// form is one entry of testdata/forms.json: bytes, and whether they are of the
// named format. Text stands as text where it is UTF-8, anything else in
// hexadecimal; Repeat times RepeatHex follow.
type form struct {
	Format    string `json:"format"`
	Name      string `json:"name"`
	Text      string `json:"text,omitempty"`
	Hex       string `json:"hex,omitempty"`
	RepeatHex string `json:"repeat_hex,omitempty"`
	Repeat    int    `json:"repeat,omitempty"`
	Accepted  bool   `json:"accepted"`
	Reason    string `json:"reason,omitempty"` // of the refusal, where it has a code (docs/errors.md)
}

// readers are the formats; each refuses what is not in its one form.
var readers = map[string]func(b []byte) error{
	"sample-header": func(b []byte) error { _, err := sample.Parse(b); return err },
	"claim":         func(b []byte) error { _, err := claim.Parse(b); return err },
	"measurement":   func(b []byte) error { _, err := receipt.ParseMeasurement(b); return err },
	"record":        func(b []byte) error { _, err := record.Parse(b); return err },
	"bundle":        func(b []byte) error { _, err := receipt.ParseBundle(b); return err },
	"approval":      func(b []byte) error { _, err := approval.Parse(b); return err },
	"dsse":          func(b []byte) error { _, err := envelope.Parse(b); return err },
	"certificate":   func(b []byte) error { _, err := tlog.ParseCertificate(b); return err },
	"policy":        func(b []byte) error { _, err := tlog.ParsePolicy(b); return err },
	"trust-bundle":  func(b []byte) error { _, err := trust.Parse(b); return err },
	"id":            func(b []byte) error { return record.CheckID(string(b)) },
	"public-key": func(b []byte) error {
		key, err := signature.ParseKey(b)
		if err == nil {
			err = signature.CheckKey(key)
		}
		return err
	},
	"message NodeRegistration":  decodes(&recordv1.NodeRegistration{}),
	"message MeterRegistration": decodes(&recordv1.MeterRegistration{}),
	"message Bundle":            decodes(&recordv1.Bundle{}),
}

func decodes(m proto.Message) func(b []byte) error {
	return func(b []byte) error { return record.Decode(b, 10<<20, m) }
}

// forms collects entries; a disagreement fails the test.
type forms struct {
	*testing.T
	list []form
}

func (f *forms) add(format, name string, b []byte, accepted bool) {
	f.Helper()
	f.repeated(format, name, b, nil, 0, accepted)
}

func (f *forms) repeated(format, name string, b, more []byte, times int, accepted bool) {
	f.Helper()
	err := readers[format](append(bytes.Clone(b), bytes.Repeat(more, times)...))
	if (err == nil) != accepted {
		f.Errorf("%s, %s: %v, want accepted %v", format, name, err, accepted)
	}
	v := form{Format: format, Name: name, Accepted: accepted, RepeatHex: hex.EncodeToString(more), Repeat: times}
	if strings.ToValidUTF8(string(b), "") == string(b) && !strings.ContainsFunc(string(b), unprintable) {
		v.Text = string(b)
	} else {
		v.Hex = hex.EncodeToString(b)
	}
	var refusal *reason.Error
	if errors.As(err, &refusal) {
		v.Reason = string(refusal.Reason)
	}
	f.list = append(f.list, v)
}

// unprintable is what no text of ours holds, and what would not show in a file.
func unprintable(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r != '—' }

// replaced adds a text with a piece exchanged, which must be there.
func (f *forms) replaced(format, name, text, old, piece string, accepted bool) {
	f.Helper()
	if !strings.Contains(text, old) {
		f.Fatalf("%s, %s: %q is not in the text", format, name, old)
	}
	f.add(format, name, []byte(strings.Replace(text, old, piece, 1)), accepted)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// What is refused, and its neighbours that are not, for whoever writes a reader
// of these formats.
func TestFormVectors(t *testing.T) {
	n, first, _ := ledger(t)
	f := &forms{T: t}
	f.messages()
	f.headers(n.Store.Leaves[first[2]])
	f.keysAndIDs()
	f.bundles(n.Bundle(first[2]))
	f.approvals(n.Terms())
	f.texts(n.Trust(), n.Newest())
	for format := range readers {
		var yes, no bool
		for _, v := range f.list {
			yes, no = yes || v.Format == format && v.Accepted, no || v.Format == format && !v.Accepted
		}
		if !yes || !no {
			t.Errorf("format %s: accepted ones %v, refused ones %v; want both", format, yes, no)
		}
	}
	golden.JSON(t, "forms.json", f.list)
}

// messages are the rules of the wire form (B1), on messages that have every kind of field.
func (f *forms) messages() {
	const meter = "message MeterRegistration"
	for _, c := range []struct {
		name, hex string
		accepted  bool
	}{
		{"nothing", "", true},
		{"an empty message that is there", "0a00", true},
		{"a number of two bytes", "40 8001", true},
		{"the largest uint32", "40 ffffffff0f", true},
		{"the largest uint64", "48 ffffffffffffffffff01", true},
		{"a negative int64 of ten bytes", "0a0b 28 ffffffffffffffffff01", true},
		{"the smallest sint32", "5a06 10 ffffffff0f", true},
		{"a packed list with a zero in it", "52 03 000102", true},
		{"a string of four bytes for one character", "12 04 f09f9880", true},
		{"an unknown field", "78 01", false},
		{"field number 0", "00 01", false},
		{"fields that descend", "48 01 40 01", false},
		{"a number twice", "40 01 40 01", false},
		{"a string twice", "12 01 61 12 01 62", false},
		{"a message twice", "0a00 0a00", false},
		{"a written zero", "40 00", false},
		{"written empty bytes", "1a 00", false},
		{"a written empty string", "12 00", false},
		{"a padded value", "40 8100", false},
		{"a padded tag", "c000 01", false},
		{"a padded length", "12 8100 61", false},
		{"a padded element of a list", "52 02 8100", false},
		{"a uint32 of 33 bits", "40 8080808010", false},
		{"a sint32 of 33 bits", "5a06 10 8080808010", false},
		{"a value of 65 bits", "48 ffffffffffffffffff02", false},
		{"a value of eleven bytes", "48 8080808080808080808001", false},
		{"a value cut short", "48 80", false},
		{"a tag cut short", "c0", false},
		{"a length past the end", "12 02 61", false},
		{"a length of 64 bits", "12 ffffffffffffffffff01", false},
		{"bytes where a number is", "42 01 01", false},
		{"a number where bytes are", "18 01", false},
		{"a fixed32", "45 01000000", false},
		{"a fixed64", "49 0100000000000000", false},
		{"a group", "43 44", false},
		{"a list that is not packed", "50 02", false},
		{"an empty packed list", "52 00", false},
		{"a packed list in two pieces", "52 01 02 52 01 02", false},
		{"a list cut short", "52 01 80", false},
		{"an overlong character", "12 02 c080", false},
		{"a surrogate", "12 03 eda080", false},
		{"a character beyond Unicode", "12 04 f4908080", false},
		{"half a character", "12 01 c3", false},
		{"an unknown field one level down", "0a02 3001", false},
	} {
		f.add(meter, c.name, unhex(c.hex), c.accepted)
	}
	f.add("message NodeRegistration", "the largest enum value", unhex("20 04"), true)
	f.add("message NodeRegistration", "an unknown enum value", unhex("20 06"), false)
	f.add("message NodeRegistration", "a negative enum value", unhex("20 ffffffffffffffffff01"), false)
	f.add("message Bundle", "elements of a list may be empty", unhex("3a00 3a00"), true)
	f.repeated("message Bundle", "65,536 length-delimited fields", nil, unhex("3a00"), 65_536, true)
	f.repeated("message Bundle", "65,537 length-delimited fields", nil, unhex("3a00"), 65_537, false)
	f.repeated("message Bundle", "65,537, one level down", unhex("1a 82 80 08"), unhex("1a00"), 65_537, false)
	f.add("record", "an empty body that is there", unhex("0a00"), true)
	f.add("record", "no body", nil, false)
	f.add("record", "two bodies", unhex("0a00 1a00"), false)
	f.repeated("record", "60,000 bytes", unhex("2a dc d4 03 5a d8 d4 03"), unhex("61"), 59_992, true)
	f.repeated("record", "60,001 bytes", unhex("2a dd d4 03 5a d9 d4 03"), unhex("61"), 59_993, false)
}

func (f *forms) keysAndIDs() {
	edwards := unhex("f23583e1a1c3b653cba42cc5bcadbeccea597f8766b0b14b1ac2c943a5591d81")
	p256 := unhex("04b52005338bf49d7b1189e67a9203060effdb278db2cf40f48dbb92de0dee53d6bb18562433ef888d5ed7bb6bfee8219796c489fe626e7a413619930cef955b10")
	bad := bytes.Clone(p256)
	bad[64] ^= 1
	compressed := append([]byte{2}, p256[1:33]...)
	for _, c := range []struct {
		name     string
		tag      byte
		key      []byte
		accepted bool
	}{
		{"Ed25519", 1, edwards, true},
		{"Ed25519 for samples", 2, edwards, true},
		{"P-256", 3, p256, true},
		{"tag 0", 0, edwards, false},
		{"tag 4", 4, edwards, false},
		{"31 bytes", 1, edwards[1:], false},
		{"33 bytes", 2, append(bytes.Clone(edwards), 0), false},
		{"not a point", 1, unhex("0200000000000000000000000000000000000000000000000000000000000000"), false},
		{"the identity", 1, unhex("0100000000000000000000000000000000000000000000000000000000000000"), false},
		{"order 2", 2, unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), false},
		{"order 4", 2, make([]byte, 32), false},
		{"order 8", 2, unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), false},
		{"y not reduced", 1, unhex("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), false},
		{"x = 0 with a sign", 1, unhex("0100000000000000000000000000000000000000000000000000000000000080"), false},
		{"off the curve", 3, bad, false},
		{"compressed", 3, compressed, false},
	} {
		f.add("public-key", c.name, append([]byte{c.tag}, c.key...), c.accepted)
	}
	f.add("public-key", "nothing", nil, false)
	long := strings.Repeat("a", 64)
	for _, id := range []string{"a", "0", "a-b.c", "a--b", long} {
		f.add("id", "good", []byte(id), true)
	}
	for _, id := range []string{"", "-a", "a-", ".a", "a.", "A", "a b", "a_b", "a/b", "a\n", "é", "٣", long + "a"} {
		f.add("id", "bad", []byte(id), false)
	}
}
