// Package canary prepares a notified body's test of the endorsers, and compares
// what they found.
//
// Source: core/state, canaries; the paper's audits of endorsers (section V).
//
// A test is a secret file: raw vectors, and the results that the approved module
// gives on them. Its digest is committed to on the ledger before a meter, which
// nobody can tell from any other, sends the vectors. Afterwards the file's
// expectation is revealed with a verdict on each vector.
//
// Invariants:
//   - The results are computed when the test is made, by the module itself in the
//     sandbox on the interpreter too: nothing of the ledger enters them.
//   - The transition judges again: a reveal with another verdict than Compare
//     gives is refused.
package canary

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/vector"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// Test is the content of the secret file.
type Test struct {
	ID           string        `json:"id"`
	NotifiedBody string        `json:"notified_body"`
	Meter        string        `json:"meter"`
	Algorithm    digest.Digest `json:"algorithm"`  // SHA-256 of the module
	Parameters   digest.Digest `json:"parameters"` // the statement that gives those of the results
	Salt         []byte        `json:"salt"`       // 32 bytes
	Vectors      []Vector      `json:"vectors"`    // ascending by counter, without a gap
}

// Vector is one raw vector and the result that it must give.
type Vector struct {
	Counter  uint64    `json:"counter"`
	Channels [][]int16 `json:"channels"` // [channel][sample]
	Result   []byte    `json:"result"`   // the module's exact output
}

// Conditions are what a canary meter's measurements are computed under.
type Conditions struct {
	Meter        string
	Parameters   *claim.Parameters // in force at the captures
	FirstCounter uint64            // of the meter's next sample
	Module       []byte
	FuelLimit    uint64 // of the approval
}

// New computes the results of recordings, each [channel][sample].
func New(id, notifiedBody string, c Conditions, recordings [][][]int16, runner receipt.Runner) (*Test, error) {
	t := &Test{ID: id, NotifiedBody: notifiedBody, Meter: c.Meter, Algorithm: digest.Plain(c.Module), Parameters: c.Parameters.Statement, Salt: make([]byte, 32)}
	rand.Read(t.Salt) // never fails
	if c.Parameters.Algorithm != t.Algorithm {
		return nil, fmt.Errorf("module %s is given, the parameters in force of meter %s name %s", t.Algorithm.Short(), t.Meter, c.Parameters.Algorithm.Short())
	}
	for i, channels := range recordings {
		input, err := abi.EncodeInput(abi.Input{
			SampleRateMillihertz: c.Parameters.SampleRateMillihertz, Parameters: c.Parameters.Values, Samples: channels,
		})
		if err != nil {
			return nil, fmt.Errorf("vector %d: %w", i+1, err)
		}
		result, _, err := runner.Run(c.Module, input, c.FuelLimit)
		if err != nil {
			return nil, fmt.Errorf("vector %d: %w", i+1, err)
		}
		t.Vectors = append(t.Vectors, Vector{Counter: c.FirstCounter + uint64(i), Channels: channels, Result: result})
	}
	return t, nil
}

// Expectation is the exact bytes that are committed to.
func (t *Test) Expectation() ([]byte, error) {
	e := &recordv1.CanaryExpectation{Salt: t.Salt}
	for _, v := range t.Vectors {
		raw, err := vector.Encode(recordv1.Encoding_ENCODING_RICE, v.Channels)
		if err != nil {
			return nil, fmt.Errorf("counter %d: %w", v.Counter, err)
		}
		d := sample.DigestRaw(raw)
		e.Vectors = append(e.Vectors, &recordv1.CanaryVector{MeterId: t.Meter, Counter: v.Counter, RawDigest: d[:], Result: v.Result})
	}
	b, err := wire.Encode(e)
	if err != nil {
		return nil, err
	}
	_, err = state.ParseCanaryExpectation(b)
	return b, err
}

// Compare gives the verdict on a vector from the measurement's verified receipt;
// nil when the ledger has none of that counter.
func Compare(v *recordv1.CanaryVector, r *receipt.Receipt) recordv1.CanaryVerdict {
	switch {
	case r == nil:
		return recordv1.CanaryVerdict_CANARY_VERDICT_MISSING
	case bytes.Equal(r.Sample.RawDigest[:], v.GetRawDigest()) && bytes.Equal(r.Claim.Result, v.GetResult()):
		return recordv1.CanaryVerdict_CANARY_VERDICT_MATCH
	}
	return recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH
}

// Write writes the secret file, for its owner only. It never overwrites.
func (t *Test) Write(path string) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.CreateFile(path, append(b, '\n'), 0o600)
}

// Read reads a secret file.
func Read(path string) (*Test, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := new(Test)
	if err := json.Unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(t.Vectors) == 0 {
		return nil, fmt.Errorf("%s holds no test vectors; \"lacre canary prepare\" writes them", path)
	}
	return t, nil
}
