package claim

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func result(t testing.TB, code uint32, values ...int64) []byte {
	t.Helper()
	b, err := abi.EncodeOutput(abi.Output{Code: code, Values: values})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func example(t testing.TB) *Claim {
	return &Claim{
		NetworkID: digest.Plain([]byte("network")), Sample: digest.Plain([]byte("sample")),
		Algorithm: digest.Plain([]byte("module")), Registration: digest.Plain([]byte("registration")),
		ProfileVersion: ProfileVersion, FuelLimit: 5_000_000, FuelUsed: 123_456,
		Input: digest.Plain([]byte("input")), Result: result(t, 0, 83_512, -1, 4_200),
	}
}

func TestEncodeAndParseAreInverse(t *testing.T) {
	unused := example(t)
	unused.FuelUsed, unused.Result = 0, result(t, abi.CodeExecutionFailed)
	for _, c := range []*Claim{example(t), unused} {
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("parsed %+v (%v), want %+v", got, err, c)
		}
		if Hash(b) != tlog.LeafHash(b) {
			t.Error("a claim's hash is not its leaf hash")
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(change func(*Claim)) []byte {
		c := example(t)
		change(c)
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	u32 := func(v ...uint32) []byte {
		var b []byte
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  reason.Reason
	}{
		"empty":                {nil, reason.Malformed},
		"trailing byte":        {append(append([]byte(nil), good...), 0), reason.NotCanonical},
		"too long":             {make([]byte, MaxBytes+1), reason.TooLarge},
		"more fuel than limit": {encode(func(c *Claim) { c.FuelUsed = c.FuelLimit + 1 }), reason.Malformed},
		"no result":            {encode(func(c *Claim) { c.Result = nil }), reason.Malformed},
		"short result":         {encode(func(c *Claim) { c.Result = u32(0) }), reason.Malformed},
		"count beyond bytes":   {encode(func(c *Claim) { c.Result = u32(0, 1) }), reason.Malformed},
		"count far beyond":     {encode(func(c *Claim) { c.Result = u32(0, 1<<31) }), reason.Malformed},
		"reserved code":        {encode(func(c *Claim) { c.Result = u32(101, 0) }), reason.Malformed},
		"failure with a value": {encode(func(c *Claim) { c.Result = append(u32(100, 1), make([]byte, 8)...) }), reason.Malformed},
		"65 values":            {encode(func(c *Claim) { c.Result = append(u32(0, 65), make([]byte, 65*8)...) }), reason.Malformed},
	} {
		if _, err := Parse(c.bytes); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	huge := example(t)
	huge.Result = make([]byte, MaxBytes)
	if _, err := huge.Encode(); reason.Of(err) != reason.TooLarge {
		t.Errorf("a claim of more than %d bytes: %v", MaxBytes, err)
	}
}

// An endorsement is of one network, one module, one number and one order of claims.
func TestEndorsementMessageCoversTheBatch(t *testing.T) {
	a, b := Hash([]byte("a")), Hash([]byte("b"))
	network, module := digest.Plain([]byte("n")), digest.Plain([]byte("m"))
	seen := make(map[string]string)
	for name, m := range map[string][]byte{
		"a b":           EndorsementMessage(network, module, []digest.Digest{a, b}),
		"b a":           EndorsementMessage(network, module, []digest.Digest{b, a}),
		"a":             EndorsementMessage(network, module, []digest.Digest{a}),
		"node of a b":   EndorsementMessage(network, module, []digest.Digest{tlog.NodeHash(a, b)}),
		"none":          EndorsementMessage(network, module, nil),
		"other network": EndorsementMessage(module, module, []digest.Digest{a, b}),
		"other module":  EndorsementMessage(network, network, []digest.Digest{a, b}),
	} {
		if other, taken := seen[string(m)]; taken {
			t.Errorf("%q and %q sign the same", name, other)
		}
		seen[string(m)] = name
	}
}

func TestInput(t *testing.T) {
	channels := [][]int16{{1, 2, 3}, {-1, -2, -3}}
	raw, err := vector.Encode(recordv1.Encoding_ENCODING_INT16, channels)
	if err != nil {
		t.Fatal(err)
	}
	parameters := &Parameters{Channels: 2, SampleRateMillihertz: 1000, Values: []int64{7, -8}}
	s := func(change func(*sample.Header)) *sample.Sample {
		h := sample.Header{MeterID: "m", Channels: 2, SamplesPerChannel: 3, SampleRateMillihertz: 1000,
			Encoding: recordv1.Encoding_ENCODING_INT16, RawDigest: sample.DigestRaw(raw)}
		change(&h)
		return &sample.Sample{Header: h}
	}
	got, err := Input(parameters, s(func(*sample.Header) {}), raw)
	want, _ := abi.EncodeInput(abi.Input{SampleRateMillihertz: 1000, Parameters: []int64{7, -8}, Samples: channels})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("input %x (%v), want %x", got, err, want)
	}
	for name, c := range map[string]struct {
		change func(*sample.Header)
		want   reason.Reason
	}{
		"other raw vector": {func(h *sample.Header) { h.RawDigest[0] ^= 1 }, reason.DigestMismatch},
		"three channels":   {func(h *sample.Header) { h.Channels = 3 }, reason.WrongChannelCount},
		"other rate":       {func(h *sample.Header) { h.SampleRateMillihertz++ }, reason.WrongSampleRate},
		"other length":     {func(h *sample.Header) { h.SamplesPerChannel++ }, reason.Malformed},
	} {
		if _, err := Input(parameters, s(c.change), raw); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestGolden(t *testing.T) {
	b, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	network, module := example(t).NetworkID, example(t).Algorithm
	golden.JSON(t, "claim.json", map[string]any{
		"claim": b, "hash": Hash(b), "inputDigest": InputDigest([]byte("input")),
		"endorsementOfItTwice": EndorsementMessage(network, module, []digest.Digest{Hash(b), Hash(b)}),
	})
}

func FuzzParse(f *testing.F) {
	good, err := example(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if reason.Of(err) == "" {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted and encodes as %x (%v)", b, again, err)
		}
		result, err := ParseResult(c.Result)
		if err != nil {
			return
		}
		if again, err = abi.EncodeOutput(result); err != nil || !bytes.Equal(again, c.Result) {
			t.Fatalf("result %x encodes as %x (%v)", c.Result, again, err)
		}
	})
}
