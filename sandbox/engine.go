package sandbox

import (
	"context"
	"time"

	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// Config tunes an Engine. The zero value is usable.
type Config struct {
	// MaxInstances bounds the concurrent calls of one Program, and with it
	// memory: at most 2 x MaxInstances x 4 MiB per Program. Default GOMAXPROCS.
	MaxInstances int
	// InterpreterOnly never uses the compiler. Off amd64 this is always so.
	InterpreterOnly bool
	// CrossCheck chooses which compiled calls are repeated on the interpreter.
	CrossCheck CrossCheck
	// CrossCheckShare bounds budgeted cross-checks to this share of the CPU
	// (of GOMAXPROCS cores). Default 0.05.
	CrossCheckShare float64
	// OnDivergence, if set, is called synchronously by Run for a difference
	// between the engines; it becomes a SecurityEvent. It must not call Run.
	OnDivergence func(Divergence)

	// now is the clock of the cross-check budget; nil means time.Now.
	now func() time.Time
}

// CrossCheck chooses which compiled calls are repeated on the interpreter.
type CrossCheck uint8

// Cross-check modes.
const (
	// CrossCheckBudgeted repeats calls while the CPU budget lasts, refusals first.
	CrossCheckBudgeted CrossCheck = iota
	// CrossCheckAlways repeats every call: type tests and audits.
	CrossCheckAlways
	// CrossCheckNever repeats none: benchmarks.
	CrossCheckNever
)

// Divergence is a call on which compiler and interpreter disagreed.
type Divergence struct {
	Module      [32]byte // SHA-256 of the module
	Input       []byte   // exact input bytes; shared with the caller of Run, do not modify
	FuelLimit   uint64
	Compiled    Result // what the compiler produced; discarded
	Interpreted Result // what Run returned
}

// Engine holds the two WebAssembly engines. It is safe for concurrent use.
type Engine struct{}

// NewEngine starts the engines.
func NewEngine(ctx context.Context, config Config) (*Engine, error) { return nil, ErrEngine }

// Load checks a module against the profile, instruments and compiles it. The
// error is a *profile.Error for a module that breaks the profile.
func (e *Engine) Load(ctx context.Context, module []byte) (*Program, error) { return nil, ErrEngine }

// Close releases everything, programs included.
func (e *Engine) Close(ctx context.Context) error { return nil }

// Program is a loaded module. It is safe for concurrent use.
type Program struct{}

// Module describes the loaded module.
func (p *Program) Module() *profile.Module { return nil }

// Run executes measure once. input is not modified or retained.
func (p *Program) Run(input []byte, fuelLimit uint64) (Result, error) { return Result{}, ErrEngine }

// Close releases the program; calls in flight finish first.
func (p *Program) Close(ctx context.Context) error { return nil }
