// Package runner lets a verifier run modules in the sandbox.
//
// Source: core/receipt, Runner; architecture, "The sandbox": every call is
// repeated on the interpreter, whose result counts.
package runner

import (
	"context"
	"errors"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/sandbox"
)

// Sandbox runs modules for package receipt. Make it with New, close it after use.
type Sandbox struct {
	engine *sandbox.Engine
}

var _ receipt.Runner = (*Sandbox)(nil)

// New starts the engines.
func New(ctx context.Context) (*Sandbox, error) {
	engine, err := sandbox.NewEngine(ctx, sandbox.Config{CrossCheck: sandbox.CrossCheckAlways})
	if err != nil {
		return nil, err
	}
	return &Sandbox{engine: engine}, nil
}

// Run implements receipt.Runner. A module that breaks the profile is an error:
// no endorser can have run it.
func (s *Sandbox) Run(module, input []byte, fuelLimit uint64) (result []byte, fuelUsed uint64, err error) {
	ctx := context.Background() // fuel bounds a call, and nothing else should
	program, err := s.engine.Load(ctx, module)
	if err != nil {
		return nil, 0, err
	}
	r, err := program.Run(input, fuelLimit)
	return r.Output, r.FuelUsed, errors.Join(err, program.Close(ctx))
}

// Close releases the engines.
func (s *Sandbox) Close() error { return s.engine.Close(context.Background()) }
