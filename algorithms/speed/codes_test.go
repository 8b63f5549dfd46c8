package speed_test

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// lane is what two loops at 2 m spacing see in 1,200 ms, at 1 kHz.
type lane struct {
	first, last func(ms float64) float64
	limit       float64 // of the amplifier; 0 for none
}

// smooth is a vehicle over a loop: it rises within width, stays, and falls within
// width; the loop's edges see it at on and off.
func smooth(height, on, off, width float64) func(float64) float64 {
	edge := func(x float64) float64 { return 1 / (1 + math.Exp(-8*x/width)) }
	return func(ms float64) float64 { return height * (edge(ms-on) - edge(ms-off)) }
}

func plus(a, b func(float64) float64) func(float64) float64 {
	return func(ms float64) float64 { return a(ms) + b(ms) }
}

// causes are signals that show each cause by itself. The vehicle needs 100 ms
// from loop to loop: 72 km/h.
func causes() map[uint32]lane {
	first, last := smooth(8000, 400, 600, 60), smooth(8000, 500, 700, 60)
	nothing := func(float64) float64 { return 0 }
	return map[uint32]lane{
		speed.Valid:          {first: first, last: last},
		speed.Saturation:     {first: smooth(60_000, 400, 600, 60), last: smooth(60_000, 500, 700, 60)},
		speed.Clipping:       {first: first, last: last, limit: 5000},
		speed.MissingEdge:    {first: first, last: smooth(8000, 500, 1300, 60)},
		speed.TwoVehicles:    {first: plus(first, smooth(8000, 800, 950, 60)), last: plus(last, smooth(8000, 900, 1050, 60))},
		speed.LaneChange:     {first: first, last: smooth(2000, 500, 700, 60)},
		speed.Reversal:       {first: smooth(8000, 400, 800, 60), last: last},
		speed.LowSNR:         {first: smooth(30, 400, 600, 60), last: smooth(30, 500, 700, 60)},
		speed.DeadChannel:    {first: first, last: nothing},
		speed.OutOfRange:     {first: last, last: smooth(8000, 505, 705, 60)},
		speed.SpeedsDisagree: {first: first, last: smooth(8000, 480, 730, 60)},
		speed.NoVehicle:      {first: nothing, last: nothing},
	}
}

// input samples the lane, with noise of two counts that repeats itself.
func (l lane) input(t *testing.T) []byte {
	t.Helper()
	in := abi.Input{SampleRateMillihertz: 1_000_000, Parameters: speed.DefaultParameters(2000), Samples: make([][]int16, 2)}
	top := 32767.0
	if l.limit > 0 {
		top = l.limit
	}
	for c, signal := range []func(float64) float64{l.first, l.last} {
		for i := range 1200 {
			noise := float64((i*7919+c*104_729)%5) - 2
			in.Samples[c] = append(in.Samples[c], int16(max(-32768, min(top, math.Round(signal(float64(i))+noise)))))
		}
	}
	b, err := abi.EncodeInput(in)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEveryCodeIsProvoked has a signal for every validity code of the schema, in
// the twin and in the module alike; docs/validity-codes.md names it.
func TestEveryCodeIsProvoked(t *testing.T) {
	r := newRunner(t)
	provoke := func(name string, code uint32, input []byte) {
		t.Run(name, func(t *testing.T) {
			for who, output := range map[string][]byte{"twin": speed.Measure(input), "module": r.run(t, input)} {
				out, err := abi.DecodeOutput(output)
				if err != nil || out.Code != code {
					t.Errorf("the %s gives code %d, %v; want %d (values %v)", who, out.Code, err, code, out.Values)
				}
			}
		})
	}
	signals := causes()
	provoke("VALID", speed.Valid, signals[speed.Valid].input(t))
	for _, refusal := range speed.Schema().Refusals {
		if refusal.Code == speed.MalformedInput {
			input := signals[speed.Valid].input(t)
			provoke(refusal.Name, refusal.Code, input[:len(input)-1])
			continue
		}
		signal, ok := signals[refusal.Code]
		if !ok {
			t.Errorf("no signal provokes %s", refusal.Name)
			continue
		}
		provoke(refusal.Name, refusal.Code, signal.input(t))
	}
}

var codeRow = regexp.MustCompile("(?m)^\\| (\\d+) \\| `([A-Z_]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")

// The page explains every code of the schema and the two that belong to none, in
// order, and no other; each row names the test that provokes it.
func TestValidityCodesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/validity-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ code, name, test string }
	want := []row{{"0", "VALID", "`TestEveryCodeIsProvoked/VALID`"}}
	for _, r := range speed.Schema().Refusals {
		want = append(want, row{fmt.Sprint(r.Code), r.Name, "`TestEveryCodeIsProvoked/" + r.Name + "`"})
	}
	want = append(want, row{fmt.Sprint(abi.CodeExecutionFailed), "EXECUTION_FAILED", "`TestExecutionFailedIsOneCode`"})
	var got []row
	for _, m := range codeRow.FindAllStringSubmatch(string(page), -1) {
		test := m[5]
		if i := strings.Index(test, "`"); i >= 0 {
			test = test[i:]
		}
		got = append(got, row{m[1], m[2], test})
		if len(strings.TrimSpace(m[3])) < 10 || len(strings.TrimSpace(m[4])) < 10 {
			t.Errorf("%s: neither cause nor remedy may be left out", m[2])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page has the rows\n%v\nthe schema\n%v", got, want)
	}
}
