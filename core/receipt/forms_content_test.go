package receipt_test

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// headers are sample headers, claims and measurements: what each field must hold.
func (f *forms) headers(leaf []byte) {
	m, err := receipt.ParseMeasurement(leaf)
	if err != nil {
		f.Fatal(err)
	}
	header := func(name string, accepted bool, change func(h *recordv1.SampleHeader)) {
		f.Helper()
		h := new(recordv1.SampleHeader)
		if err := wire.Decode(m.Sample.Bytes, h); err != nil {
			f.Fatal(err)
		}
		change(h)
		f.add("sample-header", name, wire.MustEncode(h), accepted)
	}
	long := bytes.Repeat([]byte{1}, 33)
	header("as it is", true, func(*recordv1.SampleHeader) {})
	header("the first sample: no previous", true, func(h *recordv1.SampleHeader) { h.Previous, h.Counter = nil, 1 })
	header("the genesis block known: no height", true, func(h *recordv1.SampleHeader) { h.KnownHeight = 0 })
	header("16 channels of 131,072 samples", true, func(h *recordv1.SampleHeader) { h.Channels, h.SamplesPerChannel = 16, 131_072 })
	header("8 digests of evidence, one twice", true, func(h *recordv1.SampleHeader) {
		for len(h.Evidence) < 8 {
			h.Evidence = append(h.Evidence, h.Evidence[0])
		}
	})
	header("status flags", true, func(h *recordv1.SampleHeader) { h.StatusFlags = 1<<32 - 1 })
	header("no network", false, func(h *recordv1.SampleHeader) { h.NetworkId = nil })
	header("a network of 33 bytes", false, func(h *recordv1.SampleHeader) { h.NetworkId = long })
	header("no meter", false, func(h *recordv1.SampleHeader) { h.MeterId = "" })
	header("a meter in capitals", false, func(h *recordv1.SampleHeader) { h.MeterId = "M-1" })
	header("counter 0", false, func(h *recordv1.SampleHeader) { h.Counter = 0 })
	header("previous of 31 bytes", false, func(h *recordv1.SampleHeader) { h.Previous = h.Previous[1:] })
	header("previous all zero", false, func(h *recordv1.SampleHeader) { h.Previous = make([]byte, 32) })
	header("no capture time", false, func(h *recordv1.SampleHeader) { h.CapturedAtUnixNano = 0 })
	header("a capture before 1970", false, func(h *recordv1.SampleHeader) { h.CapturedAtUnixNano = -1 })
	header("no clock", false, func(h *recordv1.SampleHeader) { h.ClockSync = 0 })
	header("no known block", false, func(h *recordv1.SampleHeader) { h.KnownBlock = nil })
	header("one channel", false, func(h *recordv1.SampleHeader) { h.Channels = 1 })
	header("17 channels", false, func(h *recordv1.SampleHeader) { h.Channels = 17 })
	header("no samples", false, func(h *recordv1.SampleHeader) { h.SamplesPerChannel = 0 })
	header("131,073 samples", false, func(h *recordv1.SampleHeader) { h.SamplesPerChannel = 131_073 })
	header("no rate", false, func(h *recordv1.SampleHeader) { h.SampleRateMillihertz = 0 })
	header("no encoding", false, func(h *recordv1.SampleHeader) { h.Encoding = 0 })
	header("no raw digest", false, func(h *recordv1.SampleHeader) { h.RawDigest = nil })
	header("9 digests of evidence", false, func(h *recordv1.SampleHeader) {
		for len(h.Evidence) < 9 {
			h.Evidence = append(h.Evidence, h.Evidence[0])
		}
	})
	header("evidence without digest", false, func(h *recordv1.SampleHeader) { h.Evidence[0].Digest = nil })
	header("evidence of no bytes", false, func(h *recordv1.SampleHeader) { h.Evidence[0].Size = 0 })
	header("evidence of 64 MiB", true, func(h *recordv1.SampleHeader) { h.Evidence[0].Size = 64 << 20 })
	header("evidence of 64 MiB and a byte", false, func(h *recordv1.SampleHeader) { h.Evidence[0].Size = 64<<20 + 1 })
	for _, kind := range []string{"a/b", "image/svg+xml", "application/vnd.x-1.y", strings.Repeat("a", 62) + "/b"} {
		header("evidence of type "+kind, true, func(h *recordv1.SampleHeader) { h.Evidence[0].MediaType = kind })
	}
	for _, kind := range []string{"", "image", "/jpeg", "image/", "a/b/c", "Image/jpeg", "a/b;c=d", "a b/c", strings.Repeat("a", 63) + "/b"} {
		header("evidence of type "+kind+" ", false, func(h *recordv1.SampleHeader) { h.Evidence[0].MediaType = kind })
	}
	f.repeated("sample-header", "more than 1,024 bytes", m.Sample.Bytes[:len(m.Sample.Bytes)-34], append([]byte{0x72, 32}, m.Sample.RawDigest[:]...), 40, false)

	claim := func(name string, accepted bool, change func(c *recordv1.Claim)) {
		f.Helper()
		c := new(recordv1.Claim)
		if err := wire.Decode(m.Message.GetClaim(), c); err != nil {
			f.Fatal(err)
		}
		change(c)
		f.add("claim", name, wire.MustEncode(c), accepted)
	}
	claim("as it is", true, func(*recordv1.Claim) {})
	claim("another profile", true, func(c *recordv1.Claim) { c.ProfileVersion = 2 })
	claim("64 values", true, func(c *recordv1.Claim) { c.Result = statetest.Result(0, make([]int64, 64)...) })
	claim("execution failed", true, func(c *recordv1.Claim) { c.Result = statetest.Result(100) })
	claim("65 values", false, func(c *recordv1.Claim) { c.Result = statetest.Result(0, make([]int64, 65)...) })
	claim("execution failed with a value", false, func(c *recordv1.Claim) { c.Result = statetest.Result(99, 1); c.Result[0] = 100 })
	claim("code 101", false, func(c *recordv1.Claim) { c.Result = statetest.Result(99); c.Result[0] = 101 })
	claim("a result cut short", false, func(c *recordv1.Claim) { c.Result = c.Result[:len(c.Result)-1] })
	claim("a byte behind the result", false, func(c *recordv1.Claim) { c.Result = append(c.Result, 0) })
	claim("no result", false, func(c *recordv1.Claim) { c.Result = nil })
	claim("more fuel than the limit", false, func(c *recordv1.Claim) { c.FuelUsed = c.FuelLimit + 1 })
	claim("no input", false, func(c *recordv1.Claim) { c.Input = nil })
	claim("a registration of 31 bytes", false, func(c *recordv1.Claim) { c.Registration = c.Registration[1:] })

	measurement := func(name string, accepted bool, change func(m *recordv1.Measurement)) {
		f.Helper()
		c := proto.CloneOf(m.Message)
		change(c)
		f.add("measurement", name, wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: c}}), accepted)
	}
	measurement("as it is", true, func(*recordv1.Measurement) {})
	measurement("late", true, func(m *recordv1.Measurement) { m.Disposition = 2 })
	measurement("claim 1,023", true, func(m *recordv1.Measurement) { m.ClaimIndex = 1023 })
	measurement("claim 1,024", false, func(m *recordv1.Measurement) { m.ClaimIndex = 1024 })
	measurement("no disposition", false, func(m *recordv1.Measurement) { m.Disposition = 0 })
	measurement("no signature", false, func(m *recordv1.Measurement) { m.Signature = nil })
	measurement("a signature of 65 bytes", false, func(m *recordv1.Measurement) { m.Signature = append(m.Signature, 0) })
	measurement("no approval", false, func(m *recordv1.Measurement) { m.Approval = nil })
	measurement("no configuration", false, func(m *recordv1.Measurement) { m.Config = nil })
	measurement("no endorsement set", false, func(m *recordv1.Measurement) { m.EndorsementSet = nil })
	measurement("another sample's claim", false, func(m *recordv1.Measurement) { m.Claim[40] ^= 1 })
	measurement("another network's claim", false, func(m *recordv1.Measurement) { m.Claim[4] ^= 1 })
	f.add("measurement", "a block header", unhex("2a00"), false)
}

func (f *forms) bundles(b *recordv1.Bundle) {
	bundle := func(name string, accepted bool, change func(b *recordv1.Bundle)) {
		f.Helper()
		c := proto.CloneOf(b)
		c.Version = receipt.BundleVersion
		change(c)
		f.add("bundle", name, wire.MustEncode(c), accepted)
	}
	small := func(c *recordv1.Bundle) { proto.Reset(c); c.Version, c.Receipt = 1, []byte("r") }
	item := func(bytes, hashes, size int) *recordv1.ProvenRecord {
		p := &recordv1.ProvenRecord{Record: make([]byte, bytes)}
		for range hashes {
			p.Proof = append(p.Proof, make([]byte, size))
		}
		return p
	}
	bundle("as it is", true, func(*recordv1.Bundle) {})
	bundle("a receipt alone", true, small)
	bundle("a proof of 64 hashes", true, func(c *recordv1.Bundle) { small(c); c.Config = item(1, 64, 32) })
	bundle("version 2", false, func(c *recordv1.Bundle) { c.Version = 2 })
	bundle("no version", false, func(c *recordv1.Bundle) { c.Version = 0 })
	bundle("no receipt", false, func(c *recordv1.Bundle) { c.Receipt = nil })
	bundle("an empty item", false, func(c *recordv1.Bundle) { small(c); c.Config = item(0, 0, 0) })
	bundle("a proof of 65 hashes", false, func(c *recordv1.Bundle) { small(c); c.Config = item(1, 65, 32) })
	bundle("a hash of 31 bytes", false, func(c *recordv1.Bundle) { small(c); c.Config = item(1, 1, 31) })
	bundle("65 nodes", false, func(c *recordv1.Bundle) {
		small(c)
		for range 65 {
			c.Nodes = append(c.Nodes, item(1, 0, 0))
		}
	})
	bundle("65 rollovers", false, func(c *recordv1.Bundle) {
		small(c)
		for range 65 {
			c.Rollovers = append(c.Rollovers, item(1, 0, 0))
		}
	})
	f.repeated("bundle", "a module of 65,536 bytes", unhex("0801 12 01 72 52 80 80 04"), []byte{1}, 65_536, true)
	f.repeated("bundle", "a module of 65,537 bytes", unhex("0801 12 01 72 52 81 80 04"), []byte{1}, 65_537, false)
	f.repeated("bundle", "a raw vector of 524,289 bytes", unhex("0801 12 01 72 4a 81 80 20"), []byte{1}, 524_289, false)
}

func (f *forms) approvals(a *approval.Approval) {
	add := func(name string, change func(a *approval.Approval)) string {
		f.Helper()
		c := *a
		change(&c)
		b, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.add("approval", name, b, true)
		return string(b)
	}
	org := policy.Organisation
	text := add("as it is", func(*approval.Approval) {})
	add("the first in its chain", func(a *approval.Approval) { a.Sequence, a.Predecessor = 1, digest.Zero })
	add("no parameters and no refusals", func(a *approval.Approval) {
		a.Schema.Parameters, a.Schema.Refusals = []approval.Field{}, []approval.Refusal{}
	})
	add("a P-256 manufacturer", func(a *approval.Approval) {
		a.Manufacturer.Key, _ = signature.KeyOf(signature.P256, statetest.P256Key("maker").Public())
	})
	add("escapes", func(a *approval.Approval) { a.Manufacturer.Name = "\"\\/<>&\u2028\u2029\u0080é😀" })
	add("a policy of four levels", func(a *approval.Approval) {
		a.Policy = policy.OutOf(1, policy.OutOf(1, policy.OutOf(1, policy.OutOf(1, org("a"), org("b")))), org("c"))
	})
	add("one organisation", func(a *approval.Approval) { a.Policy = org("org-00") })
	for _, c := range []struct{ name, old, piece string }{
		{"white space", `{"_type"`, `{ "_type"`},
		{"a line end", `"disclosure":"public"}}`, `"disclosure":"public"}}` + "\n"},
		{"another order", `"name":"test","version":"1.0.0"`, `"version":"1.0.0","name":"test"`},
		{"an unknown field", `"profileVersion":1,`, `"profileVersion":1,"more":0,`},
		{"a field twice", `"profileVersion":1,`, `"profileVersion":1,"profileVersion":1,`},
		{"a field missing", `"profileVersion":1,`, ``},
		{"another type", `in-toto.io/Statement/v1`, `in-toto.io/Statement/v2`},
		{"another predicate type", `type-approval/v1`, `type-approval/v2`},
		{"a needless escape", `"Maker"`, `"\u004daker"`},
		{"a slash with an escape", `https://in-toto`, `https:\/\/in-toto`},
		{"a control character", `"Maker"`, `"Maker\u0001"`},
		{"DEL", `"Maker"`, "\"Maker\x7f\""},
		{"U+FFFD", `"Maker"`, "\"Maker\ufffd\""},
		{"half a surrogate pair", `"Maker"`, `"\ud800"`},
		{"not UTF-8", `"Maker"`, "\"\xff\""},
		{"an empty text", `"Maker"`, `""`},
		{"two module names", `"subject":[{"name":"test"`, `"subject":[{"name":"other"`},
		{"a number as a text", `"Maker"`, `7`},
		{"a number as an id", `"notifiedBody":"nb"`, `"notifiedBody":7`},
		{"a text of 129 bytes", `"Maker"`, `"` + strings.Repeat("m", 129) + `"`},
		{"capital hexadecimal", a.Module.String(), strings.ToUpper(a.Module.String())},
		{"a digest of zeros as module", a.Module.String(), digest.Zero.String()},
		{"a digest of zeros as report", a.TestReport.String(), digest.Zero.String()},
		{"sequence 1 with a predecessor", `"sequence":2`, `"sequence":1`},
		{"sequence 0", `"sequence":2`, `"sequence":0`},
		{"sequence above 2^53-1", `"sequence":2`, `"sequence":9007199254740992`},
		{"a number with a point", `"sequence":2`, `"sequence":2.0`},
		{"a number with an exponent", `"sequence":2`, `"sequence":2e0`},
		{"a number as text", `"sequence":2`, `"sequence":"2"`},
		{"a boolean as number", `"profileVersion":1`, `"profileVersion":true`},
		{"profile 0", `"profileVersion":1`, `"profileVersion":0`},
		{"no fuel", `"fuelLimit":1000000`, `"fuelLimit":0`},
		{"a time with a fraction", `00:00:00Z"`, `00:00:00.0Z"`},
		{"a time with an offset", `00:00:00Z"`, `00:00:00+00:00"`},
		{"the 30th of February", `"issuedAt":"2026-01-01`, `"issuedAt":"2026-02-30`},
		{"a time in 1969", `"issuedAt":"2026-01-01`, `"issuedAt":"1969-01-01`},
		{"a time after 2255", `"issuedAt":"2026-01-01`, `"issuedAt":"2256-01-01`},
		{"an end before its beginning", `"notAfter":"2027-01-01`, `"notAfter":"2025-01-01`},
		{"a body in capitals", `"notifiedBody":"nb"`, `"notifiedBody":"NB"`},
		{"a key for samples", `"publicKey":"A`, `"publicKey":"B`},
		{"scale 19", `"name":"length","unit":"mm","scale":0`, `"name":"length","unit":"mm","scale":19`},
		{"scale -19", `"name":"length","unit":"mm","scale":0`, `"name":"length","unit":"mm","scale":-19`},
		{"scale -0", `"name":"length","unit":"mm","scale":0`, `"name":"length","unit":"mm","scale":-0`},
		{"two values of one name", `"name":"length","unit":"mm"`, `"name":"speed","unit":"mm"`},
		{"refusals that descend", `"code":1,`, `"code":3,`},
		{"refusal code 0", `"code":1,`, `"code":0,`},
		{"refusal code 100", `"code":2,`, `"code":100,`},
		{"a list that is null", `"refusals":[{"code":1,"name":"MALFORMED_INPUT"},{"code":2,"name":"LOW_SNR"}]`, `"refusals":null`},
		{"a threshold of 0", `"threshold":2`, `"threshold":0`},
		{"a threshold above its branches", `"threshold":2`, `"threshold":5`},
		{"an organisation twice", `{"organisation":"org-01"}`, `{"organisation":"org-00"}`},
		{"an organisation with a threshold", `{"organisation":"org-01"}`, `{"organisation":"org-01","threshold":1}`},
		{"no branches", `{"organisation":"org-01"}`, `{"threshold":1,"of":[]}`},
		{"a policy of five levels", `{"organisation":"org-01"}`, strings.Repeat(`{"threshold":1,"of":[`, 4) + `{"organisation":"org-01"}` + strings.Repeat(`]}`, 4)},
		{"another disclosure", `"public"`, `"secret"`},
	} {
		f.replaced("approval", c.name, text, c.old, c.piece, false)
	}
	fields := func(n int, unit string) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"name":"f%d","unit":%q,"scale":0}`, i, unit))
		}
		return strings.Join(list, ",")
	}
	_, values, _ := strings.Cut(text, `"values":[`)
	values, _, _ = strings.Cut(values, "]")
	long := strings.Repeat("u", 128)
	organisations := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"organisation":"o%d"}`, i))
		}
		return strings.Join(list, ",")
	}
	_, branches, _ := strings.Cut(text, `"of":[`)
	branches, _, _ = strings.Cut(branches, "]")
	f.replaced("approval", "64 organisations", text, branches, organisations(64), true)
	f.replaced("approval", "65 organisations", text, branches, organisations(65), false)
	f.replaced("approval", "64 values", text, values, fields(64, "1"), true)
	f.replaced("approval", "65 values", text, values, fields(65, "1"), false)
	f.replaced("approval", "no values", text, values, "", false)
	f.replaced("approval", "64 parameters", text, `"parameters":[`, `"parameters":[`+fields(62, "1")+",", true)
	f.replaced("approval", "65 parameters", text, `"parameters":[`, `"parameters":[`+fields(63, "1")+",", false)
	f.replaced("approval", "more than 16,384 bytes", strings.Replace(text, values, fields(64, long), 1), `"parameters":[`, `"parameters":[`+fields(62, long)+",", false)
	f.add("approval", "two values of JSON", []byte(text+"{}"), false)
	f.add("approval", "no JSON", []byte("["), false)
	f.add("approval", "null", []byte("null"), false)
}

// texts are the notes, policies, trust bundles and DSSE files.
func (f *forms) texts(bundle *trust.Bundle, c *tlog.Certificate) {
	policyText := string(bundle.Newest().Policy.Text())
	note := string(c.Text())
	f.certificates(note)
	f.policies(policyText)
	open := string(bundle.Bytes())
	f.add("trust-bundle", "as it is", []byte(open), true)
	closed := strings.Replace(open, "epoch 0 10", "epoch 7 10", 1)
	f.add("trust-bundle", "closed", []byte(closed), true)
	next := strings.TrimPrefix(open, "lacre/trust/v1\n")
	f.add("trust-bundle", "two epochs", []byte(closed+next), true)
	for _, r := range []struct{ name, text string }{
		{"no epoch", "lacre/trust/v1\n"},
		{"another version", strings.Replace(open, "v1", "v2", 1)},
		{"an open epoch before another", open + next},
		{"epochs that do not ascend", closed + strings.TrimPrefix(closed, "lacre/trust/v1\n")},
		{"a line too few", strings.Replace(open, "epoch 0 10", "epoch 0 9", 1)},
		{"a line too many", strings.Replace(open, "epoch 0 10", "epoch 0 11", 1)},
		{"a leading zero", strings.Replace(open, "epoch 0 10", "epoch 00 10", 1)},
		{"a size above 2^63-1", strings.Replace(open, "epoch 0 10", "epoch 9223372036854775808 10", 1)},
		{"no final newline", strings.TrimSuffix(open, "\n")},
		{"a line behind", open + "\n"},
		{"two origins", closed + strings.ReplaceAll(next, "test.lacre", "west.lacre")},
	} {
		f.add("trust-bundle", r.name, []byte(r.text), false)
	}

	e, err := record.NewStatement(&recordv1.NodeRevocation{NodeId: "a"}, statetest.Key("a"), statetest.Key("b"))
	if err != nil {
		f.Fatal(err)
	}
	file, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	text := string(file)
	f.add("dsse", "as it is", file, true)
	_, list, _ := strings.Cut(text, "[")
	sig := text[strings.Index(text, `"sig":"`)+7:][:88]
	first := `{"keyid":"` + e.Signatures[0].KeyID + `","sig":"` + sig + `"}`
	for _, r := range []struct{ name, old, piece string }{
		{"white space", `,"payload"`, `, "payload"`},
		{"a final newline", `]}`, "]}\n"},
		{"another order of fields", `"keyid"`, `"sig":"","keyid"`},
		{"an unknown field", `]}`, `],"more":1}`},
		{"no payload", `"payload":"`, `"payload":"","x":"`},
		{"a signature twice", first, first + "," + first},
		{"an empty payload", text[strings.Index(text, `"payload":"`)+len(`"payload":"`) : strings.Index(text, `","signatures"`)], ``},
		{"no signatures", "[" + list, `[]}`},
		{"signatures that descend", list, strings.TrimSuffix(strings.TrimPrefix(list, first+","), "]}") + "," + first + "]}"},
		{"a key id in capitals", e.Signatures[0].KeyID, strings.ToUpper(e.Signatures[0].KeyID)},
		{"base64 without padding", `=="`, `"`},
		{"URL base64", sig, strings.Replace(sig, "+", "-", 1)},
		{"a type with a space", `"application/`, `"application /`},
		{"an empty type", e.PayloadType, ``},
		{"an escape", `application/`, `application\/`},
	} {
		f.replaced("dsse", r.name, text, r.old, r.piece, false)
	}
	f.add("dsse", "an empty list", []byte("[]"), false)
}
