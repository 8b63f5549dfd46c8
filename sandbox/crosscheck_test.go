package sandbox

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
)

// faulty is an engine that miscomputes: it changes what the real one gives.
type faulty struct {
	executor
	change func(Result) Result
	calls  int
}

func (f *faulty) execute(input []byte, fuelLimit uint64) (Result, error) {
	f.calls++
	r, err := f.executor.execute(input, fuelLimit)
	return f.change(r), err
}

// withFault puts a faulty engine in the compiler's place. It works off amd64
// too: the fault then wraps the interpreter.
func withFault(p *Program, change func(Result) Result) *faulty {
	f := &faulty{executor: p.compiled, change: change}
	if f.executor == nil {
		f.executor = p.authority
	}
	p.compiled = f
	return f
}

func TestCrossCheckInterpreterWins(t *testing.T) {
	faults := map[string]func(Result) Result{
		"value":   func(r Result) Result { r.Output = bytes.Clone(r.Output); r.Output[8] ^= 1; return r },
		"fuel":    func(r Result) Result { r.FuelUsed++; return r },
		"refusal": func(r Result) Result { return failed(Trapped, r.FuelUsed) },
		"outcome": func(r Result) Result { r.Outcome = MalformedOutput; return r },
	}
	for name, fault := range faults {
		var reported []Divergence
		e := newEngine(t, Config{CrossCheck: CrossCheckAlways, OnDivergence: func(d Divergence) { reported = append(reported, d) }})
		p := load(t, e, counting())
		honest, err := p.Run([]byte("in"), plenty)
		if err != nil || len(reported) != 0 {
			t.Fatalf("%v, %d divergences of an honest engine", err, len(reported))
		}
		compiler := withFault(p, fault)
		got, err := p.Run([]byte("in"), plenty)
		if err != nil || !got.Equal(honest) {
			t.Errorf("%s: %v, %v, want the interpreter's %v", name, got, err, honest)
		}
		if len(reported) != 1 {
			t.Fatalf("%s: %d divergences reported, want 1", name, len(reported))
		}
		d := reported[0]
		if d.Module != p.Module().Digest || string(d.Input) != "in" || d.FuelLimit != plenty ||
			!d.Interpreted.Equal(honest) || !d.Compiled.Equal(fault(honest)) {
			t.Errorf("%s: divergence %+v", name, d)
		}
		// From now on the compiler is not asked, neither here nor by another
		// program of the same module.
		again, err := p.Run(nil, plenty)
		if err != nil || !again.Equal(honest) || compiler.calls != 1 || !p.Stats().Interpreted {
			t.Errorf("%s: after the divergence: %v, %v, compiler called %d times", name, again, err, compiler.calls)
		}
		second := load(t, e, counting())
		withFault(second, fault)
		if r, err := second.Run(nil, plenty); err != nil || !r.Equal(honest) || !second.Stats().Interpreted {
			t.Errorf("%s: second program: %v, %v", name, r, err)
		}
		if other := load(t, e, w.Minimal().Encode()); other.compiled != nil && other.Stats().Interpreted {
			t.Errorf("%s: another module lost the compiler too", name)
		}
	}
}

func TestCrossCheckDistrust(t *testing.T) {
	e := newEngine(t, Config{CrossCheck: CrossCheckNever})
	p := load(t, e, counting())
	compiler := withFault(p, func(r Result) Result { return failed(Trapped, 0) })
	e.Distrust(p.Module().Digest)
	if r, err := p.Run(nil, plenty); err != nil || r.Code() != 0 || compiler.calls != 0 {
		t.Errorf("%v, %v, compiler called %d times", r, err, compiler.calls)
	}
}

func TestCrossCheckNever(t *testing.T) {
	p := load(t, newEngine(t, Config{CrossCheck: CrossCheckNever}), counting())
	compiler := withFault(p, func(r Result) Result { r.FuelUsed++; return r })
	if _, err := p.Run(nil, plenty); err != nil || compiler.calls != 1 || p.Stats().CrossChecks != 0 {
		t.Errorf("%v, %d compiled, stats %+v", err, compiler.calls, p.Stats())
	}
}

// broken is an engine that fails, which must never look like a result.
type broken struct{ executor }

func (broken) execute([]byte, uint64) (Result, error) { return Result{}, ErrEngine }
func (broken) close(context.Context) error            { return nil }

func TestCrossCheckEngineFailureIsNoResult(t *testing.T) {
	e := newEngine(t, Config{CrossCheck: CrossCheckAlways})
	p := load(t, e, counting())
	withFault(p, func(r Result) Result { return r })
	p.authority = broken{p.authority}
	if r, err := p.Run(nil, plenty); !errors.Is(err, ErrEngine) || r.Output != nil {
		t.Errorf("failing interpreter: %v, %v", r, err)
	}
	p.compiled, p.authority = broken{}, p.authority.(broken).executor
	if r, err := p.Run(nil, plenty); !errors.Is(err, ErrEngine) || r.Output != nil {
		t.Errorf("failing compiler: %v, %v", r, err)
	}
}

// clock is a clock that moves only when told.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// simulate offers calls at a fixed interval for a time, each refused or not by
// turn, each check taking cost. It returns the checks of refusals and of valid
// results.
func simulate(b *budget, c *clock, total, interval, cost time.Duration, refused func(int) bool) (refusals, valid int) {
	until := c.t.Add(total)
	for i := 0; c.t.Before(until); i++ {
		r := refused(i)
		if b.admit(r) {
			done := b.start(r)
			c.advance(cost)
			done()
			if r {
				refusals++
			} else {
				valid++
			}
		}
		c.advance(interval)
	}
	return refusals, valid
}

func TestCrossCheckBudgetBound(t *testing.T) {
	const share, total = 0.05, 100 * time.Second
	always := func(v bool) func(int) bool { return func(int) bool { return v } }
	alternate := func(i int) bool { return i%2 == 0 }
	for _, cost := range []time.Duration{time.Millisecond, 300 * time.Microsecond, 2 * time.Second} {
		for name, refused := range map[string]func(int) bool{"refusals": always(true), "valid": always(false), "both": alternate} {
			c := &clock{t: time.Unix(0, 0)}
			b := newBudget(share, c.now)
			refusals, valid := simulate(b, c, total, 100*time.Microsecond, cost, refused)
			spent := time.Duration(refusals+valid) * cost
			// What accrues in the time and the burst before it, and one check of
			// each kind that overdraws.
			limit := time.Duration(share*float64(total+cost+burst)) + 2*cost
			if spent > limit {
				t.Errorf("%s at %v: %v spent on checks in %v, want at most %v", name, cost, spent, total, limit)
			}
			if cost < time.Second && spent < time.Duration(share*float64(total))/6 {
				t.Errorf("%s at %v: only %v spent: the budget is not used", name, cost, spent)
			}
			if name == "both" && cost < time.Second && (refusals < 2*valid || valid == 0) {
				t.Errorf("both at %v: %d refusals and %d valid checked, want refusals first and valid ones not forgotten", cost, refusals, valid)
			}
		}
	}
}

// TestCrossCheckBudgetSurplus: what refusals leave goes to valid results.
func TestCrossCheckBudgetSurplus(t *testing.T) {
	const share, total, cost = 0.05, 100 * time.Second, time.Millisecond
	c := &clock{t: time.Unix(0, 0)}
	_, valid := simulate(newBudget(share, c.now), c, total, 100*time.Microsecond, cost, func(int) bool { return false })
	if spent := time.Duration(valid) * cost; spent < total*4/100 {
		t.Errorf("without refusals valid results got %v in %v, want nearly 5 %%", spent, total)
	}
}

// TestCrossCheckBudgeted: with the default mode, a fresh engine checks its first
// refusal and its first valid result.
func TestCrossCheckBudgeted(t *testing.T) {
	p := load(t, newEngine(t, Config{}), w.WithMeasure(nil, returns(0, w.I64Const(1))).Encode())
	refusing := load(t, p.engine, w.WithMeasure(nil, returns(7, w.I64Const(1))).Encode())
	for _, p := range []*Program{p, refusing} {
		withFault(p, func(r Result) Result { return r })
		if _, err := p.Run(nil, plenty); err != nil || p.Stats().CrossChecks != 1 {
			t.Errorf("%v, stats %+v, want one check", err, p.Stats())
		}
	}
}
