package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/sandbox"
)

// job is one measurement to run again.
type job struct {
	*measurement
	parameters *claim.Parameters // in force at the capture
	raw        []byte            // as the meter signed it
	withheld   bool              // the module, by the approval
}

// runners re-execute on a bounded queue.
type runners struct {
	find    func(Finding)
	modules func(digest.Digest) ([]byte, bool) // public ones
	escrow  func(digest.Digest) ([]byte, bool) // withheld ones
	engine  *sandbox.Engine
	queue   chan job
	wait    sync.WaitGroup
	done    atomic.Uint64 // re-executions that were compared
	failure atomic.Pointer[error]

	mu       sync.Mutex
	programs map[lookup]*program // guarded by mu
	inputs   sync.Map            // *byte of an input in flight: its *measurement, for divergences
}

// lookup is where a module is looked for: an approval may be renewed with another
// disclosure.
type lookup struct {
	module   digest.Digest
	withheld bool
}

// program is a module, loaded once; sandboxed is nil when it cannot be run.
type program struct {
	once      sync.Once
	sandboxed *sandbox.Program
}

// queuePerWorker keeps workers busy while a block is replayed; a job holds one
// raw vector.
const queuePerWorker = 16

func newRunners(ctx context.Context, options *Options, find func(Finding)) (*runners, error) {
	r := &runners{
		find: find, modules: orNone(options.Modules), escrow: orNone(options.Escrow),
		queue: make(chan job, queuePerWorker*options.Workers), programs: make(map[lookup]*program),
	}
	config := options.Engine
	own := config.OnDivergence
	config.OnDivergence = func(d sandbox.Divergence) {
		r.diverged(d)
		if own != nil {
			own(d)
		}
	}
	engine, err := sandbox.NewEngine(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	r.engine = engine
	for range options.Workers {
		r.wait.Go(func() {
			for j := range r.queue {
				if err := r.run(ctx, j); err != nil {
					r.failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	return r, nil
}

func orNone(find func(digest.Digest) ([]byte, bool)) func(digest.Digest) ([]byte, bool) {
	if find == nil {
		return func(digest.Digest) ([]byte, bool) { return nil, false }
	}
	return find
}

// submit queues a job, and waits while the queue is full.
func (r *runners) submit(ctx context.Context, j job) error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	select {
	case r.queue <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish waits for the queued jobs and returns the first failure.
func (r *runners) finish(ctx context.Context) error {
	close(r.queue)
	r.wait.Wait()
	err := r.engine.Close(context.WithoutCancel(ctx))
	if failure := r.failure.Load(); failure != nil {
		err = errors.Join(*failure, err)
	}
	return err
}

// run compares one re-execution with the claim. An error is the engine's.
func (r *runners) run(ctx context.Context, j job) error {
	wrong := func(kind Kind, claimed, found string, detail string) {
		f := j.finding(kind, "%s", detail)
		f.Endorsers, f.Claimed, f.Found = j.endorsers, claimed, found
		r.find(f)
	}
	input, err := claim.Input(j.parameters, j.Sample, j.raw)
	if err != nil {
		wrong(WrongInput, j.Claim.Input.String(), "none", "sample and parameters give no input: "+err.Error())
		return nil //nolint:nilerr // it is the claim's fault, and it is reported as a finding.
	}
	if got := claim.InputDigest(input); got != j.Claim.Input {
		wrong(WrongInput, j.Claim.Input.String(), got.String(), "raw vector and parameters give another input of the module")
		return nil
	}
	program, err := r.program(ctx, j)
	if err != nil || program == nil {
		return err
	}
	r.inputs.Store(&input[0], j.measurement)
	result, err := program.Run(input, j.Claim.FuelLimit)
	r.inputs.Delete(&input[0])
	if err != nil {
		return fmt.Errorf("audit: run module %s on record %d: %w", j.Claim.Algorithm.Short(), j.index, err)
	}
	r.done.Add(1)
	if !bytes.Equal(result.Output, j.Claim.Result) {
		wrong(WrongResult, describe(j.Claim.Result), describe(result.Output), "the module gives another result than the endorsers signed")
	} else if result.FuelUsed != j.Claim.FuelUsed {
		wrong(WrongFuel, fmt.Sprint(j.Claim.FuelUsed), fmt.Sprint(result.FuelUsed), "the module uses other fuel than the endorsers signed")
	}
	return nil
}

// describe shows result bytes.
func describe(result []byte) string {
	out, err := claim.ParseResult(result)
	if err != nil {
		return fmt.Sprintf("%x", result)
	}
	return fmt.Sprintf("code %d, values %v", out.Code, out.Values)
}

// program loads a module once. It is nil, with one finding for the module, when
// it is not at hand or the sandbox refuses it.
func (r *runners) program(ctx context.Context, j job) (*sandbox.Program, error) {
	want := j.Claim.Algorithm
	r.mu.Lock()
	at := lookup{want, j.withheld}
	p := r.programs[at]
	if p == nil {
		p = new(program)
		r.programs[at] = p
	}
	r.mu.Unlock()
	var failed error
	p.once.Do(func() {
		undecidable := func(kind Kind, format string, args ...any) {
			r.find(Finding{Kind: kind, Verdict: receipt.Undecidable, Detail: fmt.Sprintf("module %s: ", want) + fmt.Sprintf(format, args...)})
		}
		unavailable := func(format string, args ...any) { undecidable(ModuleUnavailable, format, args...) }
		find := r.modules
		if j.withheld {
			find = r.escrow
		}
		module, ok := find(want)
		if !ok && j.withheld {
			undecidable(ModuleWithheld, "withheld by its approval; the notified body holds a copy with which its measurements can be re-executed")
			return
		}
		if !ok {
			unavailable("not at hand, so its measurements were not re-executed")
			return
		}
		if got := digest.Plain(module); got != want {
			unavailable("the bytes at hand have SHA-256 %s", got)
			return
		}
		sandboxed, err := r.engine.Load(ctx, module)
		switch {
		case errors.Is(err, sandbox.ErrEngine) || errors.Is(err, sandbox.ErrClosed):
			failed = fmt.Errorf("audit: load module %s: %w", want.Short(), err)
		case err != nil:
			unavailable("the sandbox refuses it: %v", err)
		default:
			p.sandboxed = sandboxed
		}
	})
	return p.sandboxed, failed
}

// diverged is called by the engine on the goroutine that runs the input.
func (r *runners) diverged(d sandbox.Divergence) {
	f := Finding{Kind: EngineDivergence}
	if known, ok := r.inputs.Load(&d.Input[0]); ok {
		if m, ok := known.(*measurement); ok {
			f = m.finding(EngineDivergence, "")
		}
	}
	f.Verdict = receipt.Undecidable
	f.Detail = fmt.Sprintf("compiler and interpreter differ on module %s; the interpreter's result was compared", digest.Digest(d.Module).Short())
	f.Claimed, f.Found = "compiler "+d.Compiled.String(), "interpreter "+d.Interpreted.String()
	r.find(f)
}
