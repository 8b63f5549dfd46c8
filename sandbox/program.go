package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// executor runs a module on one engine. It is the seam where a test puts an
// engine that computes wrongly.
type executor interface {
	// execute runs measure once on a pristine instance. An error means that the
	// engine failed, not the module. Calls may be concurrent.
	execute(input []byte, fuelLimit uint64) (Result, error)
	close(ctx context.Context) error
}

// Program is a loaded module. It is safe for concurrent use.
type Program struct {
	engine     *Engine
	module     *profile.Module
	authority  executor
	compiled   executor     // nil without compiler
	distrusted *atomic.Bool // shared by all programs of the digest: true keeps them on the interpreter

	running sync.RWMutex // read-held by each call, write-held by Close
	closed  bool         // guarded by running

	calls, checks, divergences atomic.Uint64
}

// Stats counts the calls of a Program since Load.
type Stats struct {
	Calls       uint64 // calls of Run that yielded a result
	CrossChecks uint64 // calls that were repeated on the interpreter
	Divergences uint64 // cross-checks that differed
	Interpreted bool   // the program runs on the interpreter alone
}

// Module describes the loaded module.
func (p *Program) Module() *profile.Module { return p.module }

// Stats returns the counters.
func (p *Program) Stats() Stats {
	return Stats{
		Calls: p.calls.Load(), CrossChecks: p.checks.Load(), Divergences: p.divergences.Load(),
		Interpreted: p.compiled == nil || p.distrusted.Load(),
	}
}

// Run executes measure once over the exact input bytes with at most fuelLimit
// fuel. Whatever the module does is a Result; an error (ErrClosed, ErrFuelLimit,
// ErrEngine) means that there is none and the caller abstains. Run takes no
// context: fuel bounds it. input is neither modified nor retained.
func (p *Program) Run(input []byte, fuelLimit uint64) (Result, error) {
	if fuelLimit > MaxFuel {
		return Result{}, fmt.Errorf("%w: %d, at most %d", ErrFuelLimit, fuelLimit, uint64(MaxFuel))
	}
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return Result{}, ErrClosed
	}
	result, err := p.run(input, fuelLimit)
	if err == nil {
		p.calls.Add(1)
	}
	return result, err
}

func (p *Program) run(input []byte, fuelLimit uint64) (Result, error) {
	if uint64(len(input)) > uint64(p.module.InputCap) {
		return failed(InputTooLarge, fuelLimit), nil
	}
	if p.compiled == nil || p.distrusted.Load() {
		return p.authority.execute(input, fuelLimit)
	}
	result, err := p.compiled.execute(input, fuelLimit)
	if err != nil || !p.shouldCheck(result) {
		return result, err
	}
	return p.crossCheck(input, fuelLimit, result)
}

// shouldCheck decides by load and clock whether a call is repeated; never what
// its result is.
func (p *Program) shouldCheck(result Result) bool {
	switch p.engine.config.CrossCheck {
	case CrossCheckAlways:
		return true
	case CrossCheckNever:
		return false
	default:
		return p.engine.budget.admit(result.Refused())
	}
}

// crossCheck repeats a compiled call on the interpreter, whose result counts.
// Calls that are already in flight on the compiler when the first difference
// shows still return its result: a sample is checked, not every call.
func (p *Program) crossCheck(input []byte, fuelLimit uint64, compiled Result) (Result, error) {
	done := p.engine.budget.start(compiled.Refused())
	interpreted, err := p.authority.execute(input, fuelLimit)
	done()
	if err != nil {
		return Result{}, err
	}
	p.checks.Add(1)
	if interpreted.Equal(compiled) {
		return compiled, nil
	}
	p.divergences.Add(1)
	p.distrusted.Store(true)
	if report := p.engine.config.OnDivergence; report != nil {
		report(Divergence{Module: p.module.Digest, Input: input, FuelLimit: fuelLimit, Compiled: compiled, Interpreted: interpreted})
	}
	return interpreted, nil
}

// Close waits for calls in flight and releases the program. A second Close does
// nothing.
func (p *Program) Close(ctx context.Context) error {
	p.running.Lock()
	defer p.running.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.engine.mu.Lock()
	delete(p.engine.programs, p)
	p.engine.mu.Unlock()
	return p.release(ctx)
}

func (p *Program) release(ctx context.Context) error {
	err := p.authority.close(ctx)
	if p.compiled != nil {
		err = errors.Join(err, p.compiled.close(ctx))
	}
	return err
}
