package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/lacre-metrology/lacre/sandbox/fuel"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// pool executes one module on one engine, with as many instances as there are
// concurrent calls, up to its bound. An idle instance is always pristine.
type pool struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	module   *profile.Module
	state    []fuel.State
	image    []byte        // memory after instantiation, up to the last data byte
	slots    chan struct{} // one token for each running call

	mu   sync.Mutex
	idle []*instance // guarded by mu; last in, first out: the warmest first
}

// newPool compiles an instrumented module. The compiler may panic on what it
// does not expect; that must not take the node down.
func newPool(ctx context.Context, r wazero.Runtime, m *profile.Module, in fuel.Instrumented, bound int) (p *pool, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p, err = nil, fmt.Errorf("%w: compiling module %x: panic: %v", ErrEngine, m.Digest, cause)
		}
	}()
	compiled, err := r.CompileModule(ctx, in.Binary)
	if err != nil {
		return nil, fmt.Errorf("%w: compiling module %x: %w", ErrEngine, m.Digest, err)
	}
	return &pool{
		runtime: r, compiled: compiled, module: m, state: in.State,
		image: m.InitialData(), slots: make(chan struct{}, bound),
	}, nil
}

func (p *pool) execute(input []byte, fuelLimit uint64) (Result, error) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	in, err := p.take()
	if err != nil {
		return Result{}, err
	}
	result, reusable, err := in.call(p.module, input, fuelLimit)
	if !reusable {
		// Nothing depends on a discarded instance; its memory is garbage.
		_ = in.module.Close(context.Background())
		return result, err
	}
	in.restore(p.module, p.image, len(input))
	p.mu.Lock()
	p.idle = append(p.idle, in)
	p.mu.Unlock()
	return result, err
}

// take returns an idle instance or makes one.
func (p *pool) take() (*instance, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		in := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return in, nil
	}
	p.mu.Unlock()
	return p.instantiate()
}

func (p *pool) close(ctx context.Context) error {
	var errs []error
	p.mu.Lock()
	for _, in := range p.idle {
		errs = append(errs, in.module.Close(ctx))
	}
	p.idle = nil
	p.mu.Unlock()
	return errors.Join(append(errs, p.compiled.Close(ctx))...)
}

// instance is one instantiated module, used by one call at a time.
type instance struct {
	module    api.Module
	measure   api.Function
	fuel      api.MutableGlobal
	highWater api.MutableGlobal // of stores up to the input region's end
	top       api.MutableGlobal // of stores above it
	state     []stateGlobal
	memory    []byte // all of it, written through; memory never grows
	stack     [1]uint64
}

type stateGlobal struct {
	global api.MutableGlobal
	init   uint64
}

func (p *pool) instantiate() (*instance, error) {
	// Anonymous, so that instances do not collide; no start functions by name.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	module, err := p.runtime.InstantiateModule(context.Background(), p.compiled, config)
	if err != nil {
		return nil, fmt.Errorf("%w: instantiating module %x: %w", ErrEngine, p.module.Digest, err)
	}
	in := &instance{module: module, measure: module.ExportedFunction(profile.ExportMeasure)}
	memory, ok := module.Memory().Read(0, p.module.MemoryBytes)
	in.fuel, _ = module.ExportedGlobal(fuel.ExportFuel).(api.MutableGlobal)
	in.highWater, _ = module.ExportedGlobal(fuel.ExportHighWater).(api.MutableGlobal)
	in.top, _ = module.ExportedGlobal(fuel.ExportTop).(api.MutableGlobal)
	for _, s := range p.state {
		global, _ := module.ExportedGlobal(s.Export).(api.MutableGlobal)
		in.state = append(in.state, stateGlobal{global, s.Init})
		ok = ok && global != nil
	}
	if !ok || in.measure == nil || in.fuel == nil || in.highWater == nil || in.top == nil {
		return nil, errors.Join(fmt.Errorf("%w: module %x instantiated without its exports", ErrEngine, p.module.Digest), module.Close(context.Background()))
	}
	in.memory = memory
	return in, nil
}

// call runs measure. reusable is false after a trap, when the engine's own state
// is not to be trusted any more.
func (in *instance) call(m *profile.Module, input []byte, fuelLimit uint64) (result Result, reusable bool, err error) {
	copy(in.memory[m.InputPtr:m.InputPtr+m.InputCap], input)
	in.fuel.Set(fuelLimit)
	in.highWater.Set(uint64(m.InputPtr))
	in.top.Set(uint64(m.InputPtr + m.InputCap))
	in.stack[0] = uint64(len(input))
	err = in.measure.CallWithStack(context.Background(), in.stack[:])
	left := int64(in.fuel.Get())
	if err != nil {
		// There are no host functions and no deadline, so every error is a trap,
		// unless the engine was closed underneath.
		if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
			return Result{}, false, fmt.Errorf("%w: %w", ErrEngine, err)
		}
		if left < 0 {
			return failed(OutOfFuel, fuelLimit), false, nil
		}
		return failed(Trapped, fuelLimit), false, nil
	}
	output := in.memory[m.OutputPtr : m.OutputPtr+m.OutputCap]
	return judge(output, uint32(in.stack[0]), fuelLimit, uint64(left)), true, nil
}

// restore returns the instance to its state after instantiation: memory up to
// the highest byte of the input region that the host or the module wrote, memory
// above that region up to the highest byte that the module wrote, and every
// mutable global (the added ones are set before each call). What lies between is
// the unused rest of the input region, which is nearly all of it: a module that
// keeps its variables behind it must not pay for half a megabyte each time.
func (in *instance) restore(m *profile.Module, image []byte, inputBytes int) {
	written := max(m.InputPtr+uint32(inputBytes), uint32(in.highWater.Get()))
	in.restoreRange(image, 0, written)
	inputEnd, top := m.InputPtr+m.InputCap, uint32(in.top.Get())
	if top > inputEnd {
		in.restoreRange(image, max(written, inputEnd-min(inputEnd, straddle)), top)
	}
	for _, s := range in.state {
		s.global.Set(s.init)
	}
}

// straddle is how far below the input region's end a store may begin that ends above it.
const straddle = 7

// restoreRange gives memory in [from, to) the bytes of the image, which are zero
// beyond its end.
func (in *instance) restoreRange(image []byte, from, to uint32) {
	copied := copy(in.memory[from:to], image[min(int(from), len(image)):])
	clear(in.memory[int(from)+copied : to])
}
