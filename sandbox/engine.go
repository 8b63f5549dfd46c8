package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/lacre-metrology/lacre/sandbox/fuel"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// CrossCheckShare is the share of a machine's CPU that cross-checks may take.
const CrossCheckShare = 0.05

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
	// (of GOMAXPROCS cores). Default CrossCheckShare.
	CrossCheckShare float64
	// OnDivergence, if set, is called by Run, on its goroutine, for a difference
	// between the engines; it becomes a SecurityEvent. It may be called
	// concurrently, and more than once for a module when calls overlap. It must
	// not close the program or the engine, which wait for calls in flight.
	OnDivergence func(Divergence)
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
	Input       []byte   // exact input bytes; Run's argument itself, do not modify or retain
	FuelLimit   uint64
	Compiled    Result // what the compiler produced; discarded
	Interpreted Result // what Run returns
}

// Engine holds the two WebAssembly engines. It is safe for concurrent use.
type Engine struct {
	config      Config
	interpreter wazero.Runtime
	compiler    wazero.Runtime // nil when only the interpreter is used
	budget      *budget

	mu         sync.Mutex
	closed     bool                      // guarded by mu
	programs   map[*Program]struct{}     // guarded by mu
	distrusted map[[32]byte]*atomic.Bool // guarded by mu; the flags are shared with programs
}

// NewEngine starts the engines: the interpreter, and on amd64 the compiler. The
// compiler of wazero v1.12.0 has known integer miscompiles on arm64
// (wazero#2508), and an open report on the optimising compiler at large
// (wazero#2516): hence the cross-check.
func NewEngine(ctx context.Context, config Config) (*Engine, error) {
	if config.MaxInstances <= 0 {
		config.MaxInstances = runtime.GOMAXPROCS(0)
	}
	if config.CrossCheckShare == 0 {
		config.CrossCheckShare = CrossCheckShare
	}
	if config.CrossCheckShare < 0 || config.CrossCheckShare > 1 {
		return nil, fmt.Errorf("%w: CrossCheckShare is %v, must be in 0 to 1", ErrEngine, config.CrossCheckShare)
	}
	e := &Engine{
		config:      config,
		interpreter: wazero.NewRuntimeWithConfig(ctx, runtimeConfig(wazero.NewRuntimeConfigInterpreter())),
		budget:      newBudget(config.CrossCheckShare*float64(runtime.GOMAXPROCS(0)), time.Now),
		programs:    make(map[*Program]struct{}),
		distrusted:  make(map[[32]byte]*atomic.Bool),
	}
	if runtime.GOARCH == "amd64" && !config.InterpreterOnly {
		e.compiler = newCompiler(ctx)
	}
	return e, nil
}

// newCompiler returns nil where the processor or the operating system does not
// admit the compiler, which wazero says by panicking.
func newCompiler(ctx context.Context) (r wazero.Runtime) {
	defer func() {
		if recover() != nil {
			r = nil
		}
	}()
	return wazero.NewRuntimeWithConfig(ctx, runtimeConfig(wazero.NewRuntimeConfigCompiler()))
}

// runtimeConfig has what both engines share. WithCloseOnContextDone stays off:
// it makes a call ten times slower, and fuel bounds a call anyway. No
// compilation cache: code on disk would be an unapproved input.
func runtimeConfig(c wazero.RuntimeConfig) wazero.RuntimeConfig {
	return c.WithCoreFeatures(api.CoreFeaturesV1).
		WithMemoryLimitPages(profile.MaxMemoryPages).
		WithMemoryCapacityFromMax(true).
		WithDebugInfoEnabled(false).
		WithCloseOnContextDone(false)
}

// Load checks a module against the profile, adds fuel and compiles it. The error
// is a *profile.Error for a module that breaks the profile, ErrClosed, or wraps
// ErrEngine. When only the compiler fails, the program runs on the interpreter.
func (e *Engine) Load(ctx context.Context, module []byte) (*Program, error) {
	if e.isClosed() {
		return nil, ErrClosed
	}
	checked, err := profile.Check(module)
	if err != nil {
		return nil, err
	}
	instrumented := fuel.Instrument(checked)
	authority, err := newPool(ctx, e.interpreter, checked, instrumented, e.config.MaxInstances)
	if err != nil {
		return nil, err
	}
	p := &Program{engine: e, module: checked, authority: authority}
	if e.compiler != nil {
		if compiled, err := newPool(ctx, e.compiler, checked, instrumented, e.config.MaxInstances); err == nil {
			p.compiled = compiled
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed { // meanwhile
		return nil, errors.Join(ErrClosed, p.release(ctx))
	}
	p.distrusted = e.flag(checked.Digest)
	e.programs[p] = struct{}{}
	return p, nil
}

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Distrust keeps the module with this digest on the interpreter, as a divergence
// does: for a module whose divergence was recorded before this process started.
func (e *Engine) Distrust(digest [32]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flag(digest).Store(true)
}

// flag returns the distrust flag of a digest. Called with mu held.
func (e *Engine) flag(digest [32]byte) *atomic.Bool {
	if e.distrusted[digest] == nil {
		e.distrusted[digest] = new(atomic.Bool)
	}
	return e.distrusted[digest]
}

// Close closes every program, waiting for calls in flight, and both engines.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	programs := make([]*Program, 0, len(e.programs))
	for p := range e.programs {
		programs = append(programs, p)
	}
	e.mu.Unlock()
	var errs []error
	for _, p := range programs {
		errs = append(errs, p.Close(ctx))
	}
	errs = append(errs, e.interpreter.Close(ctx))
	if e.compiler != nil {
		errs = append(errs, e.compiler.Close(ctx))
	}
	return errors.Join(errs...)
}
