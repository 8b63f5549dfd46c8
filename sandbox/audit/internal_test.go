package audit

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/sandbox"
)

// Which findings are kept does not depend on the order in which workers add them.
func TestFindingsBeyondTheBoundAreCounted(t *testing.T) {
	const seed, all = 11, MaxFindings + 500
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	var want []Finding
	for range 3 {
		var f findings
		for _, i := range random.Perm(all) {
			f.add(Finding{Kind: DataLoss, Height: uint64(i / 10), Index: uint64(i)})
		}
		got, omitted := f.sorted()
		if len(got) != MaxFindings || omitted != all-MaxFindings || f.total() != all || got[MaxFindings-1].Index != MaxFindings-1 {
			t.Fatalf("%d kept, %d omitted, the last is record %d", len(got), omitted, got[len(got)-1].Index)
		}
		if want != nil && !reflect.DeepEqual(got, want) {
			t.Error("another order keeps other findings")
		}
		want = got
	}
}

// A difference between the engines is a finding on the measurement that was run.
func TestDivergenceNamesTheMeasurement(t *testing.T) {
	var f findings
	r := &runners{find: f.add}
	input := []byte("input")
	m := &measurement{Measurement: &receipt.Measurement{Sample: &sample.Sample{Header: sample.Header{MeterID: "m-1", Counter: 7}}}, height: 3, index: 41}
	r.inputs.Store(&input[0], m)
	r.diverged(sandbox.Divergence{Input: input, Compiled: sandbox.Result{FuelUsed: 1}, Interpreted: sandbox.Result{FuelUsed: 2}})
	list, _ := f.sorted()
	if len(list) != 1 || list[0].Kind != EngineDivergence || list[0].Verdict != receipt.Undecidable || list[0].Index != 41 ||
		list[0].Meter != "m-1" || list[0].Counter != 7 || list[0].Claimed == list[0].Found {
		t.Errorf("%+v", list)
	}
}

func FuzzParseState(f *testing.F) {
	s := newState()
	s.values["m/m-1"] = []byte("value")
	s.tree.Append(tlog.LeafHash([]byte("leaf")))
	s.blocks = []state.BlockRef{{Size: 1, Root: s.tree.Root(), Header: digest.Plain([]byte("header"))}}
	s.leaves = []digest.Digest{digestOf([]digest.Digest{tlog.LeafHash([]byte("leaf"))})}
	s.certify(0)
	f.Add(s.Bytes()[:len(s.Bytes())-32])
	f.Add([]byte(stateMagic))
	f.Add(bytes.Replace(s.Bytes()[:len(s.Bytes())-32], []byte("\x01\x05m/m-1"), []byte("\x81\x00\x05m/m-1"), 1)) // a padded number
	f.Fuzz(func(t *testing.T, body []byte) {
		// The sum at the end is added here, or no input would reach the parser.
		sum := digest.Plain(body)
		file := slices.Concat(body, sum[:])
		parsed, err := ParseState(file)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatal(err)
			}
			return
		}
		if again := parsed.Bytes(); !bytes.Equal(again, file) {
			t.Fatalf("%x is read and written as %x", file, again)
		}
	})
}
