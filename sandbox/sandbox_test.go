package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

const plenty = 1 << 20 // fuel that suffices for every module written by hand here

// executionFailed is the one output of every failure.
var executionFailed = []byte{100, 0, 0, 0, 0, 0, 0, 0}

func newEngine(t testing.TB, config Config) *Engine {
	t.Helper()
	e, err := NewEngine(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func load(t testing.TB, e *Engine, module []byte) *Program {
	t.Helper()
	p, err := e.Load(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// executors returns the engines of p by name: both on amd64.
func executors(p *Program) map[string]executor {
	all := map[string]executor{"interpreter": p.authority}
	if p.compiled != nil {
		all["compiler"] = p.compiled
	}
	return all
}

// output encodes result bytes.
func output(code uint32, values ...int64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, code)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(values)))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// returns is the tail of a measure that outputs {code, 1 value}, the value being
// the i64 that parts leave.
func returns(code int64, parts ...[]byte) []byte {
	return w.Cat(w.I32Const(w.OutputPtr), w.I64Const(1<<32|code), w.Store(0x37, 3, 0),
		w.I32Const(w.OutputPtr), w.Cat(parts...), w.Store(0x37, 3, 8), w.I32Const(16), w.End)
}

// raw is a measure that outputs header and returns length.
func raw(header int64, length int32) []byte {
	return w.WithMeasure(nil, w.I32Const(w.OutputPtr), w.I64Const(header), w.Store(0x37, 3, 0), w.I32Const(length), w.End).Encode()
}

func TestRunOutcomes(t *testing.T) {
	cases := []struct {
		name    string
		module  []byte
		input   []byte
		outcome Outcome
		output  []byte
	}{
		{"valid without values", w.Minimal().Encode(), nil, Completed, output(0)},
		{"refusal 99", w.WithMeasure(nil, returns(99, w.I64Const(-5))).Encode(), nil, Completed, output(99, -5)},
		{"length of the input", w.WithMeasure(nil, returns(0, w.Get(0), w.Op(0xad))).Encode(), make([]byte, 1234), Completed, output(0, 1234)},
		{"first input byte", w.WithMeasure(nil, returns(0, w.I32Const(w.InputPtr), w.Store(0x31, 0, 0))).Encode(), []byte{77}, Completed, output(0, 77)},
		{"code 100", raw(100, 8), nil, MalformedOutput, executionFailed},
		{"code of 32 bits", raw(0xffffffff, 8), nil, MalformedOutput, executionFailed},
		{"no length", raw(0, 0), nil, MalformedOutput, executionFailed},
		{"negative length", raw(0, -1), nil, MalformedOutput, executionFailed},
		{"length beyond the output region", raw(32<<32, 8+32*8), nil, MalformedOutput, executionFailed},
		{"value count that does not fit", raw(2<<32, 16), nil, MalformedOutput, executionFailed},
		{"value count that overflows", raw(0x20000000<<32, 8), nil, MalformedOutput, executionFailed},
		{"longest output", raw(31<<32, 8+31*8), nil, Completed, output(0, make([]int64, 31)...)},
		{"unreachable", w.WithMeasure(nil, w.Op(0x00), w.End).Encode(), nil, Trapped, executionFailed},
		{"division by zero", w.WithMeasure(nil, returns(0, w.I64Const(1), w.I64Const(0), w.Op(0x7f))).Encode(), nil, Trapped, executionFailed},
		{"division overflow", w.WithMeasure(nil, returns(0, w.I64Const(-1<<63), w.I64Const(-1), w.Op(0x7f))).Encode(), nil, Trapped, executionFailed},
		{"load outside memory", w.WithMeasure(nil, returns(0, w.I32Const(profile.PageBytes-7), w.Store(0x29, 0, 0))).Encode(), nil, Trapped, executionFailed},
		{"store outside memory", w.WithMeasure(nil, w.I32Const(-4), w.I64Const(1), w.Store(0x37, 0, 0), w.I32Const(8), w.End).Encode(), nil, Trapped, executionFailed},
		{"store whose end wraps", w.WithMeasure(nil, w.I32Const(-1), w.I64Const(1), w.Store(0x37, 0, 4096), w.I32Const(8), w.End).Encode(), nil, Trapped, executionFailed},
		{"store with a vast offset", w.WithMeasure(nil, w.I32Const(1), w.I64Const(1), w.Store(0x37, 0, 0xffffffff), w.I32Const(8), w.End).Encode(), nil, Trapped, executionFailed},
		{"endless loop", w.WithMeasure(nil, w.Block(0x03, w.Void, w.Idx(0x0c, 0)), w.Op(0x00), w.End).Encode(), nil, OutOfFuel, executionFailed},
		{"input at capacity", w.Minimal().Encode(), make([]byte, w.InputCap), Completed, output(0)},
		{"input beyond capacity", w.Minimal().Encode(), make([]byte, w.InputCap+1), InputTooLarge, executionFailed},
	}
	e := newEngine(t, Config{CrossCheck: CrossCheckAlways, OnDivergence: func(d Divergence) { t.Errorf("divergence %+v", d) }})
	for _, c := range cases {
		p := load(t, e, c.module)
		for range 2 { // the second call finds what the first left behind
			got, err := p.Run(c.input, plenty)
			if err != nil || got.Outcome != c.outcome || !bytes.Equal(got.Output, c.output) {
				t.Errorf("%s: %v, %v, want %s %x", c.name, got, err, c.outcome, c.output)
			}
			if (got.FuelUsed == plenty) != (c.outcome != Completed) {
				t.Errorf("%s: fuel %d of %d, want all of it for a failure only", c.name, got.FuelUsed, plenty)
			}
		}
	}
}

// TestRunDeepestCalls: the deepest chain of calls that the profile admits, each
// with the most locals, reaches no engine's stack limit.
func TestRunDeepestCalls(t *testing.T) {
	m := w.Minimal()
	locals := bytes.Repeat([]byte{w.I64}, profile.MaxLocals)
	next := m.AddFunction(w.TypeVoid, locals, w.End)
	for len(m.Functions) < profile.MaxFunctions {
		next = m.AddFunction(w.TypeVoid, locals, w.Call(next), w.End)
	}
	m.Functions[w.Measure].Body = w.Cat(w.Call(next), returns(0, w.I64Const(3)))
	p := load(t, newEngine(t, Config{}), m.Encode())
	for name, x := range executors(p) {
		got, err := x.execute(nil, plenty)
		if err != nil || !bytes.Equal(got.Output, output(0, 3)) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// counting is a module with state of every kind that an instance could keep: an
// i32 and an i64 global, a data byte, scratch memory, memory above the input
// region, and input bytes beyond the given length. Each call changes all of them
// and outputs their sum from before.
func counting() []byte {
	m := w.WithMeasure([]byte{w.I64})
	m.AddGlobal(w.I32, w.I32Const(-3))
	m.AddGlobal(w.I64, w.I64Const(1<<40))
	m.Data = []w.Data{{Offset: 100, Bytes: []byte{7}}}
	var code []byte
	code = w.Cat(code, w.GlobalGet(0), w.Op(0xac), w.GlobalGet(1), w.Op(0x7c), w.Set(1))
	for _, at := range countingCells {
		code = w.Cat(code, w.Get(1), w.I32Const(at), w.Store(0x29, 0, 0), w.Op(0x7c), w.Set(1))
	}
	code = w.Cat(code, w.GlobalGet(0), w.I32Const(11), w.Op(0x6a), w.GlobalSet(0), w.GlobalGet(1), w.I64Const(13), w.Op(0x7c), w.GlobalSet(1))
	for i, at := range countingCells {
		code = w.Cat(code, w.I32Const(at), w.I64Const(int64(1000+i)), w.Store(0x37, 0, 0))
	}
	m.Functions[w.Measure].Body = w.Cat(code, returns(0, w.Get(1)))
	return m.Encode()
}

// countingCells are the addresses that counting reads and then writes: data,
// scratch, input, the input's end, above the input, the last bytes of memory.
var countingCells = []int32{100, 2000, w.InputPtr + 64, w.InputPtr + w.InputCap - 8, w.InputPtr + w.InputCap + 8, profile.PageBytes - 8}

// TestRunRestoresState: two calls in a row on one instance give the same result,
// whatever the first wrote. Fails without the memory or the globals of restore.
func TestRunRestoresState(t *testing.T) {
	p := load(t, newEngine(t, Config{MaxInstances: 1, CrossCheck: CrossCheckNever}), counting())
	want := output(0, -3+1<<40+7)
	for name, x := range executors(p) {
		for call := range 3 {
			got, err := x.execute(nil, plenty)
			if err != nil || !bytes.Equal(got.Output, want) {
				t.Errorf("%s call %d: %v, %v, want %x", name, call, got, err, want)
			}
		}
		assertPristine(t, name, x.(*pool))
	}
}

// TestRunRestoresAroundTheInputsEnd: a store that ends at the input region's end,
// across it, or behind it leaves nothing, alone or after one far above.
func TestRunRestoresAroundTheInputsEnd(t *testing.T) {
	for shift := range int32(18) {
		for _, far := range []int32{0, 1} {
			at := w.InputPtr + w.InputCap - 9 + shift
			module := w.WithMeasure([]byte{w.I64},
				w.I32Const(at), w.Store(0x29, 0, 0), w.Set(1),
				w.I32Const(at), w.I64Const(-1), w.Store(0x37, 0, 0),
				w.I32Const(at+100*far), w.I64Const(-1), w.Store(0x37, 0, 0),
				returns(0, w.Get(1))).Encode()
			p := load(t, newEngine(t, Config{MaxInstances: 1, CrossCheck: CrossCheckNever}), module)
			for name, x := range executors(p) {
				for call := range 2 {
					if got, err := x.execute([]byte{1}, plenty); err != nil || !bytes.Equal(got.Output, output(0, 0)) {
						t.Errorf("%s call %d at %d: %v, %v, want 0", name, call, at, got, err)
					}
				}
				assertPristine(t, name, x.(*pool))
			}
		}
	}
}

// TestMarksAreExact: what is restored ends with the highest store up to the input
// region's end and with the highest above, whatever their order. Too high a mark
// would restore all the same and only cost more.
func TestMarksAreExact(t *testing.T) {
	const start, end = uint32(w.InputPtr), uint32(w.InputPtr + w.InputCap)
	cells := []uint32{2000, start - 8, start - 7, start + 64, end - 8, end - 7, end, end + 1000, profile.PageBytes - 8}
	e := newEngine(t, Config{MaxInstances: 1, CrossCheck: CrossCheckNever})
	for _, first := range cells {
		for _, second := range cells {
			highWater, top := start, end
			for _, cell := range []uint32{first, second} {
				if cell+8 <= end {
					highWater = max(highWater, cell+8)
				} else {
					top = max(top, cell+8)
				}
			}
			p := load(t, e, w.WithMeasure(nil,
				w.I32Const(int32(first)), w.I64Const(-1), w.Store(0x37, 0, 0),
				w.I32Const(int32(second)), w.I64Const(-1), w.Store(0x37, 0, 0), returns(0, w.I64Const(1))).Encode())
			for name, x := range executors(p) {
				if _, err := x.execute(nil, plenty); err != nil {
					t.Fatal(err)
				}
				in := x.(*pool).idle[0]
				if in.highWater.Get() != uint64(highWater) || in.top.Get() != uint64(top) {
					t.Errorf("%s, stores at %d and %d: marks %d and %d, want %d and %d",
						name, first, second, in.highWater.Get(), in.top.Get(), highWater, top)
				}
			}
		}
	}
}

// TestRunRestoresInput: a shorter input does not see the rest of a longer one.
func TestRunRestoresInput(t *testing.T) {
	module := w.WithMeasure(nil, returns(0, w.I32Const(w.InputPtr), w.Store(0x29, 0, 8))).Encode()
	p := load(t, newEngine(t, Config{MaxInstances: 1}), module)
	for name, x := range executors(p) {
		for i, input := range [][]byte{bytes.Repeat([]byte{1}, 100), {1, 2}} {
			got, err := x.execute(input, plenty)
			want := []int64{0x0101010101010101, 0}[i]
			if err != nil || !bytes.Equal(got.Output, output(0, want)) {
				t.Errorf("%s: %v, %v, want value %x", name, got, err, want)
			}
		}
	}
}

// assertPristine compares every idle instance with a new one.
func assertPristine(t testing.TB, name string, p *pool) {
	t.Helper()
	fresh, err := p.instantiate()
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.module.Close(context.Background())
	for _, in := range p.idle {
		if !bytes.Equal(in.memory, fresh.memory) {
			t.Errorf("%s: an idle instance's memory differs from a new one's", name)
		}
		for i := range in.state {
			if got, want := in.state[i].global.Get(), fresh.state[i].global.Get(); got != want {
				t.Errorf("%s: an idle instance's mutable global %d is %x, a new one's %x", name, i, got, want)
			}
		}
	}
}

// TestRunDiscardsAfterTrap: an instance that trapped serves no further call.
func TestRunDiscardsAfterTrap(t *testing.T) {
	module := w.WithMeasure(nil, w.Get(0), w.Block(0x04, w.Void, w.Op(0x00)), w.I32Const(w.OutputPtr), w.I64Const(0), w.Store(0x37, 0, 0), w.I32Const(8), w.End).Encode()
	p := load(t, newEngine(t, Config{MaxInstances: 1}), module)
	for name, x := range executors(p) {
		pool := x.(*pool)
		if _, err := pool.execute(nil, plenty); err != nil || len(pool.idle) != 1 {
			t.Fatalf("%s: %v, %d idle", name, err, len(pool.idle))
		}
		got, err := pool.execute([]byte{1}, plenty)
		if err != nil || got.Outcome != Trapped || len(pool.idle) != 0 {
			t.Errorf("%s: %v, %v, %d idle instances after a trap, want none", name, got, err, len(pool.idle))
		}
	}
}

func TestRunConcurrent(t *testing.T) {
	const instances = 2
	p := load(t, newEngine(t, Config{MaxInstances: instances, CrossCheck: CrossCheckAlways}), counting())
	var wg sync.WaitGroup
	for range 4 * instances {
		wg.Go(func() {
			for range 50 {
				if got, err := p.Run(make([]byte, 500), plenty); err != nil || got.Code() != 0 {
					t.Errorf("%v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	for name, x := range executors(p) {
		if n := len(x.(*pool).idle); n > instances {
			t.Errorf("%s: %d instances, want at most %d", name, n, instances)
		}
		assertPristine(t, name, x.(*pool))
	}
	if s := p.Stats(); s.Calls != 400 || s.Divergences != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestErrorsAreNotResults(t *testing.T) {
	ctx := context.Background()
	e := newEngine(t, Config{})
	p := load(t, e, w.Minimal().Encode())
	if _, err := p.Run(nil, MaxFuel+1); !errors.Is(err, ErrFuelLimit) {
		t.Errorf("fuel beyond the limit: %v", err)
	}
	if _, err := p.Run(nil, MaxFuel); err != nil {
		t.Errorf("the largest fuel limit: %v", err)
	}
	if _, err := e.Load(ctx, nil); !errors.Is(err, profile.ReasonMagic) {
		t.Errorf("load of nothing: %v", err)
	}
	if err := errors.Join(p.Close(ctx), p.Close(ctx)); err != nil {
		t.Error(err)
	}
	if _, err := p.Run(nil, plenty); !errors.Is(err, ErrClosed) {
		t.Errorf("run after close: %v", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	if _, err := e.Load(ctx, w.Minimal().Encode()); !errors.Is(err, ErrClosed) {
		t.Errorf("load after close: %v", err)
	}
	if _, err := NewEngine(ctx, Config{CrossCheckShare: 2}); !errors.Is(err, ErrEngine) {
		t.Errorf("share of 200 %%: %v", err)
	}
}

// TestLoadTwice: closing one of two programs of the same module leaves the other
// usable.
func TestLoadTwice(t *testing.T) {
	e := newEngine(t, Config{})
	a, b := load(t, e, counting()), load(t, e, counting())
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Run(nil, plenty); err != nil || got.Code() != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
