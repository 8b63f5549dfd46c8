package abi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
)

// goldenInput is the whole layout on one page: two parameters, two channels of
// three samples, 1 kHz.
const goldenInput = "01000000" + "30000000" + "02000000" + "03000000" + "40420f0000000000" + "02000000" + "00000000" +
	"80841e0000000000" + "ffffffffffffffff" +
	"0100" + "0200" + "0300" + "ffff" + "0080" + "ff7f"

var goldenStruct = Input{
	SampleRateMillihertz: 1_000_000,
	Parameters:           []int64{2_000_000, -1},
	Samples:              [][]int16{{1, 2, 3}, {-1, -32768, 32767}},
}

func TestInputGolden(t *testing.T) {
	want, err := hex.DecodeString(goldenInput)
	if err != nil {
		t.Fatal(err)
	}
	got, err := EncodeInput(goldenStruct)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("encoded %x, %v\nwant    %x", got, err, want)
	}
	if len(got) != InputSize(2, 2, 3) {
		t.Errorf("InputSize says %d, encoded %d bytes", InputSize(2, 2, 3), len(got))
	}
	back, err := DecodeInput(want)
	if err != nil || !reflect.DeepEqual(back, goldenStruct) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestInputRefusesEveryDamage(t *testing.T) {
	good, _ := hex.DecodeString(goldenInput)
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"short header":   func(b []byte) []byte { return b[:31] },
		"short":          func(b []byte) []byte { return b[:len(b)-1] },
		"long":           func(b []byte) []byte { return append(b, 0) },
		"version":        func(b []byte) []byte { b[0] = 2; return b },
		"header bytes":   func(b []byte) []byte { b[4]++; return b },
		"one channel":    func(b []byte) []byte { b[8] = 1; return b },
		"many channels":  func(b []byte) []byte { b[11] = 0xff; return b },
		"no samples":     func(b []byte) []byte { b[12] = 0; return b },
		"many samples":   func(b []byte) []byte { b[15] = 0xff; return b },
		"no rate":        func(b []byte) []byte { copy(b[16:24], make([]byte, 8)); return b },
		"parameters":     func(b []byte) []byte { b[24] = 1; return b },
		"2^31 of them":   func(b []byte) []byte { b[27] = 0x80; return b },
		"reserved":       func(b []byte) []byte { b[31] = 1; return b },
		"channels, size": func(b []byte) []byte { b[8], b[12] = 3, 4; return b },
	} {
		if in, err := DecodeInput(damage(bytes.Clone(good))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decoded %+v, error %v", name, in, err)
		}
	}
	for name, in := range map[string]Input{
		"nothing":          {},
		"one channel":      {SampleRateMillihertz: 1, Samples: [][]int16{{1}}},
		"unequal channels": {SampleRateMillihertz: 1, Samples: [][]int16{{1}, {1, 2}}},
		"longer first":     {SampleRateMillihertz: 1, Samples: [][]int16{{1, 2}, {1}}},
		"empty channels":   {SampleRateMillihertz: 1, Samples: [][]int16{{}, {}}},
		"no rate":          {Samples: [][]int16{{1}, {1}}},
	} {
		if b, err := EncodeInput(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: encoded %x, error %v", name, b, err)
		}
	}
}

func TestOutput(t *testing.T) {
	golden := "00000000" + "02000000" + "e803000000000000" + "ffffffffffffffff"
	want, _ := hex.DecodeString(golden)
	out := Output{Code: CodeValid, Values: []int64{1000, -1}}
	got, err := EncodeOutput(out)
	if err != nil || !bytes.Equal(got, want) || len(got) != OutputSize(2) {
		t.Fatalf("encoded %x, %v", got, err)
	}
	if back, err := DecodeOutput(want); err != nil || !reflect.DeepEqual(back, out) {
		t.Errorf("decoded %+v, %v", back, err)
	}
	failed, err := EncodeOutput(ExecutionFailed())
	if err != nil || hex.EncodeToString(failed) != "6400000000000000" {
		t.Errorf("EXECUTION_FAILED is %x, %v", failed, err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short header": want[:7], "short": want[:23], "long": append(bytes.Clone(want), 0),
		"code 101": {101, 0, 0, 0, 0, 0, 0, 0}, "failed with a value": append([]byte{100, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 8)...),
		"2^32-1 values": {0, 0, 0, 0, 255, 255, 255, 255},
	} {
		if out, err := DecodeOutput(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decoded %+v, error %v", name, out, err)
		}
	}
	if _, err := EncodeOutput(Output{Code: 101}); !errors.Is(err, ErrMalformed) {
		t.Errorf("code 101 encodes: %v", err)
	}
}

// FuzzDecodeInput: what decodes, encodes to the same bytes.
func FuzzDecodeInput(f *testing.F) {
	good, _ := hex.DecodeString(goldenInput)
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := DecodeInput(b)
		if err != nil {
			return
		}
		if again, err := EncodeInput(in); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", b, in, again, err)
		}
	})
}

// FuzzDecodeOutput: what decodes, encodes to the same bytes.
func FuzzDecodeOutput(f *testing.F) {
	f.Add([]byte{100, 0, 0, 0, 0, 0, 0, 0})
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := DecodeOutput(b)
		if err != nil {
			return
		}
		if again, err := EncodeOutput(out); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", b, out, again, err)
		}
	})
}
