package command

import (
	"bytes"
	"context"
	"errors"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/sandbox"
)

// moduleBench runs a module for a campaign: on the compiler, and where a check is
// asked for on the interpreter and on the Go twin too.
type moduleBench struct {
	name        string // sandbox or twin
	engines     []*sandbox.Engine
	compiler    *sandbox.Program // nil for the twin; the interpreter where there is no compiler
	interpreter *sandbox.Program
	compare     bool // the module has a twin
}

func newModuleBench(ctx context.Context, module []byte, twin bool) (*moduleBench, error) {
	b := &moduleBench{name: "sandbox", compare: bytes.Equal(module, speed.Module())}
	if twin {
		if !b.compare {
			return nil, usage("--twin is the built-in module's twin and of no other")
		}
		b.name = "twin"
		return b, nil
	}
	load := func(config sandbox.Config) (*sandbox.Program, error) {
		engine, err := sandbox.NewEngine(ctx, config)
		if err != nil {
			return nil, err
		}
		b.engines = append(b.engines, engine)
		program, err := engine.Load(ctx, module)
		if err != nil {
			return nil, &exitError{code: ExitRefuted, err: err}
		}
		return program, nil
	}
	var err error
	if b.compiler, err = load(sandbox.Config{CrossCheck: sandbox.CrossCheckNever}); err == nil {
		b.interpreter, err = load(sandbox.Config{InterpreterOnly: true})
	}
	if err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	return b, nil
}

// measure implements campaign.Measure. Where the engines differ, the
// interpreter's result counts, as it does in an endorser.
func (b *moduleBench) measure(input []byte, check bool) (campaign.Answer, error) {
	if b.compiler == nil {
		return campaign.Answer{Output: speed.Measure(input)}, nil
	}
	r, err := b.compiler.Run(input, statement.SpeedFuelLimit)
	if err != nil {
		return campaign.Answer{}, err
	}
	var a campaign.Answer
	if check && !b.compiler.Stats().Interpreted {
		interpreted, err := b.interpreter.Run(input, statement.SpeedFuelLimit)
		if err != nil {
			return campaign.Answer{}, err
		}
		a.Checked, a.EnginesDiffer = true, !interpreted.Equal(r)
		r = interpreted
	}
	a.Output, a.Fuel, a.Failed = r.Output, r.FuelUsed, r.Outcome != sandbox.Completed
	if check && b.compare && !a.Failed {
		a.TwinCompared, a.TwinsDiffer = true, !bytes.Equal(r.Output, speed.Measure(input))
	}
	return a, nil
}

func (b *moduleBench) close(ctx context.Context) error {
	var errs []error
	for _, e := range b.engines {
		errs = append(errs, e.Close(ctx))
	}
	return errors.Join(errs...)
}
