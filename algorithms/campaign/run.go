package campaign

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// Measure runs a module once over the exact input bytes, on the interpreter too
// if check says so. It is called from several goroutines at once. An error ends
// the campaign: it says that there is no result, never that the module failed.
type Measure func(input []byte, check bool) (Answer, error)

// Answer is what came of one call.
type Answer struct {
	Output []byte // result bytes; abi.CodeExecutionFailed without values where the module gave none
	Fuel   uint64 // used; 0 without a sandbox

	Failed        bool // trap, lack of fuel, malformed output, too small a capacity
	Checked       bool // both engines ran
	EnginesDiffer bool // in result bytes, fuel or outcome
	TwinCompared  bool
	TwinsDiffer   bool // the Go twin gave other bytes
}

// Twin is the Measure of a function, such as speed.Measure, without a sandbox.
func Twin(measure func(input []byte) []byte) Measure {
	return func(input []byte, _ bool) (Answer, error) { return Answer{Output: measure(input)}, nil }
}

// Options say how a campaign runs; none changes its report.
type Options struct {
	Workers  int                   // default GOMAXPROCS
	Progress func(done, total int) // passes; one call at a time
	// Checkpoint keeps finished cells, so that an interrupted campaign goes on.
	Checkpoint *Checkpoint
}

// Run runs a campaign. The error is the context's, one of the configuration, of
// the checkpoint or of measure, or says that the module's output is outside the
// schema; errors of measurement are in the report.
func Run(ctx context.Context, c Config, measure Measure, o Options) (Report, error) {
	if err := c.check(); err != nil {
		return Report{}, err
	}
	r := runner{Config: c, measure: measure, options: o}
	for _, g := range c.Grids {
		for _, cell := range g.cells() {
			r.units = append(r.units, unit{Cell: cell, passes: g.Passes, checkAll: len(g.Faults) > 0})
			r.total += g.Passes
		}
	}
	if err := r.run(ctx); err != nil {
		return Report{}, err
	}
	return newReport(c, r.units), nil
}

// unit is a cell's work and, when it is done, what came of it.
type unit struct {
	Cell
	passes   int
	checkAll bool
	tally    tally
}

type runner struct {
	Config
	measure Measure
	options Options
	units   []unit
	total   int // passes

	mu   sync.Mutex
	done int   // passes; guarded by mu
	err  error // the first; guarded by mu
}

func (r *runner) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// In an order drawn by lot, so that progress is even: a cell's cost depends on
	// where it lies.
	order := make([]int, len(r.units))
	lots := make([]uint64, len(r.units))
	for i := range order {
		order[i], lots[i] = i, number(r.units[i].Name())
	}
	slices.SortFunc(order, func(a, b int) int {
		if lots[a] < lots[b] {
			return -1
		}
		return 1
	})
	work := make(chan int)
	var workers sync.WaitGroup
	n := r.options.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range n {
		workers.Go(func() {
			for i := range work {
				if err := r.unit(ctx, &r.units[i]); err != nil {
					r.fail(err)
					cancel()
				}
			}
		})
	}
	for _, i := range order {
		if ctx.Err() != nil {
			break
		}
		work <- i
	}
	close(work)
	workers.Wait()
	if r.err != nil {
		return r.err
	}
	return ctx.Err()
}

func (r *runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// unit runs one cell, or takes it from the checkpoint.
func (r *runner) unit(ctx context.Context, u *unit) error {
	name := u.Name()
	if !r.options.Checkpoint.load(name, u.passes, &u.tally) {
		for i := range u.passes {
			if err := ctx.Err(); err != nil {
				return err
			}
			pass := u.passName(i)
			conditions, rng := u.draw(r.Seed, r.Families, pass)
			check := u.checkAll || number("check/"+pass)%uint64(r.CheckOneIn) == 0
			out, err := u.tally.one(u.Cell, pass, sim.Pass(conditions, rng), check, r.measure)
			if err != nil {
				return fmt.Errorf("pass %s of seed %d: %w", pass, r.Seed, err)
			}
			u.tally.addKind(conditions.Vehicle.String(), CodeName(out.Code), 1)
			u.tally.addKind(conditions.Family.String(), CodeName(out.Code), 1)
		}
		u.tally.finish()
		if err := r.options.Checkpoint.save(name, &u.tally); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += u.passes
	if r.options.Progress != nil {
		r.options.Progress(r.done, r.total)
	}
	return nil
}

// one measures a recording with the default parameters at the cell's spacing,
// and counts. An output has all values, but for the two that come of no run of
// the module.
func (t *tally) one(cell Cell, pass string, r sim.Recording, check bool, measure Measure) (abi.Output, error) {
	if 2*len(r.Samples)*len(r.Samples[0]) > maxVectorBytes {
		out := abi.Output{Code: speed.MalformedInput}
		t.add(pass, r.Truth, out)
		return out, nil
	}
	input, err := abi.EncodeInput(abi.Input{
		SampleRateMillihertz: uint64(math.Round(r.RateHz * 1000)),
		Parameters:           speed.DefaultParameters(int64(math.Round(cell.SpacingM * 1000))),
		Samples:              r.Samples,
	})
	if err != nil {
		return abi.Output{}, err
	}
	answer, err := measure(input, check)
	if err != nil {
		return abi.Output{}, err
	}
	out, err := abi.DecodeOutput(answer.Output)
	if err != nil {
		return abi.Output{}, err
	}
	if len(out.Values) != speed.ValueCount && (out.Code != abi.CodeExecutionFailed || len(out.Values) != 0) {
		return abi.Output{}, fmt.Errorf("code %d came with %d values, the schema has %d", out.Code, len(out.Values), speed.ValueCount)
	}
	t.count(pass, answer)
	t.add(pass, r.Truth, out)
	return out, nil
}

// Repeated is one pass, run alone.
type Repeated struct {
	Name       string     `json:"pass"`
	Seed       uint64     `json:"seed"`
	OneSample  float64    `json:"one_sample_error"`
	Conditions sim.Config `json:"conditions"`
	Truth      sim.Truth  `json:"truth"`
	Samples    int        `json:"samples_per_channel"`
	Code       string     `json:"code"`
	Values     []int64    `json:"values"` // in the order of the schema
	// Of an accepted value: its error, signed, and the stated expanded uncertainty.
	ErrorKmh float64 `json:"error_kmh"`
	UKmh     float64 `json:"expanded_uncertainty_kmh"`
	MPEKmh   float64 `json:"maximum_permissible_error_kmh"`
	Answer   Answer  `json:"-"`
}

// Repeat runs the pass of a name, on both engines where there are two.
func Repeat(c Config, name string, measure Measure) (Repeated, error) {
	cell, err := c.parsePass(name)
	if err != nil {
		return Repeated{}, err
	}
	conditions, rng := cell.draw(c.Seed, c.Families, name)
	recording := sim.Pass(conditions, rng)
	r := Repeated{
		Name: name, Seed: c.Seed, OneSample: cell.OneSample(), Conditions: conditions,
		Truth: recording.Truth, Samples: len(recording.Samples[0]), MPEKmh: MPE(recording.Truth.SpeedKmh),
	}
	var t tally
	out, err := t.one(cell, name, recording, true, func(input []byte, check bool) (Answer, error) {
		a, err := measure(input, check)
		r.Answer = a
		return a, err
	})
	if err != nil {
		return Repeated{}, err
	}
	r.Code, r.Values = CodeName(out.Code), out.Values
	if out.Code == speed.Valid {
		r.ErrorKmh, r.UKmh = speedError(recording.Truth, out), float64(out.Values[speed.ValueSpeedUncertainty])/1000
	}
	return r, nil
}
