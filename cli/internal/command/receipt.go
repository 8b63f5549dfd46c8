package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/runner"
	"github.com/lacre-metrology/lacre/core/receipt"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newReceipt(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "receipt",
		Short: "Receipts: get one, verify one offline",
	}, newReceiptGet(a), newReceiptVerify(a), newReceiptShow(a))
}

// measurementKey reads METER COUNTER.
func measurementKey(args []string) (*ledgerv1.MeasurementKey, error) {
	counter, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return nil, usage("COUNTER is %q, want a number: the meter's counter of the sample", args[1])
	}
	return &ledgerv1.MeasurementKey{MeterId: args[0], Counter: counter}, nil
}

func newReceiptGet(a *app) *cobra.Command {
	var t target
	var out string
	c := a.reading(&cobra.Command{
		Use:   "get METER COUNTER",
		Short: "Get the receipt of a measurement from the ledger",
		Long: `Asks a replica for the receipt of a meter's sample. Nothing of the answer is
believed here: "lacre receipt verify" judges it.`,
		Example: `  lacre receipt get my-meter 1 --out receipt.tlog
  lacre receipt get my-meter 1 --json`,
		Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			key, err := measurementKey(args)
			if err != nil {
				return err
			}
			var text []byte
			err = t.call(c.Context(), recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
				response, err := ledgerv1.NewLedgerServiceClient(c).GetReceipt(ctx, &ledgerv1.GetReceiptRequest{Measurement: key})
				text = response.GetReceipt()
				return err
			})
			if err != nil {
				return err
			}
			if !a.json || out != "" {
				if err := a.writeFile(out, text); err != nil || !a.json {
					return err
				}
			}
			r, err := receipt.Parse(text)
			if err != nil {
				return err
			}
			return a.print(struct {
				Receipt string          `json:"receipt"`
				Summary receipt.Summary `json:"summary"` // as the receipt says; not verified
			}{string(text), receipt.Describe(r, nil)}, "")
		},
	})
	t.flags(c)
	c.Flags().StringVar(&out, "out", "", "file to write (default: stdout)")
	return c
}

func newBundle(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "bundle",
		Short: "Bundles: a receipt with all that is needed to run the module again",
	}, newBundleGet(a))
}

func newBundleGet(a *app) *cobra.Command {
	var t target
	var out, module string
	var without bool
	c := a.reading(&cobra.Command{
		Use:   "get METER COUNTER",
		Short: "Get the bundle of a measurement from the ledger",
		Long: `Asks a replica for a measurement's receipt together with endorsements,
registration, approval, configuration and raw vector, each with its own proof.
With --module the bundle also carries the module.

A raw vector that expired by a decision on the ledger is refused, with the
decision: ask a replica that keeps raw vectors, or take the bundle without. It
verifies all the same, but nobody computes the result again from it.`,
		Example: `  lacre bundle get my-meter 1 --out bundle
  lacre receipt verify bundle --trust trust --module speed
  lacre bundle get my-meter 1 --without-raw-vector --out bundle`,
		Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			key, err := measurementKey(args)
			if err != nil {
				return err
			}
			if out == "" && !a.json {
				return usage("--out FILE is needed: a bundle is binary (\"--out -\" is stdout)")
			}
			var encoded []byte
			err = t.call(c.Context(), recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
				response, err := ledgerv1.NewLedgerServiceClient(c).GetBundle(ctx, &ledgerv1.GetBundleRequest{Measurement: key, WithoutRawVector: without})
				encoded = response.GetBundle()
				return err
			})
			if err != nil {
				return err
			}
			if module != "" {
				if encoded, err = withModule(encoded, module); err != nil {
					return err
				}
			}
			if out != "" {
				if err := a.writeFile(out, encoded); err != nil {
					return err
				}
			}
			if !a.json {
				return nil
			}
			return a.print(struct {
				Bundle []byte `json:"bundle"` // base64
			}{encoded}, "")
		},
	})
	t.flags(c)
	c.Flags().StringVar(&out, "out", "", "file to write")
	c.Flags().StringVar(&module, "module", "", "file of a module to add, or \"speed\" for the built-in one")
	c.Flags().BoolVar(&without, "without-raw-vector", false, "leave the raw vector out")
	return c
}

// builtIn is the name of the built-in module where a file is expected.
const builtIn = speed.Name

// readModule reads a module's file, or gives the built-in one.
func readModule(name string) ([]byte, error) {
	if name == builtIn {
		return speed.Module(), nil
	}
	return os.ReadFile(name)
}

// withModule puts a module into a bundle.
func withModule(encoded []byte, name string) ([]byte, error) {
	b, err := receipt.ParseBundle(encoded)
	if err != nil {
		return nil, err
	}
	if b.Module, err = readModule(name); err != nil {
		return nil, err
	}
	return receipt.BuildBundle(b)
}

func newReceiptVerify(a *app) *cobra.Command {
	var t trustFlags
	var now todayFlags
	var module string
	c := a.reading(&cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a receipt or a bundle, offline",
		Long: `Judges a receipt (C2SP tlog-proof) or a bundle, step by step, with nothing but the
file and the trust bundle. No connection is made, unless --today asks a replica how
the meter stands now: its ledger is followed from the genesis block under its
certificates, so that no statement is missing. A receipt proves that its
measurement is certified; a bundle, that its result was endorsed; a bundle with
the module, that running the module again gives the same bytes.

Exit code: 0 verified, 1 refuted, 2 undecidable.`,
		Example: `  lacre receipt verify receipt.tlog --trust trust
  lacre receipt verify bundle --trust trust --module speed.wasm
  lacre receipt verify bundle --trust trust --pin DIGEST --module speed --json
  lacre receipt verify bundle --trust trust --today --server ledger.example:7411 --spki HEX`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runVerify(c.Context(), args[0], &t, &now, module, true)
		},
	})
	t.flags(c)
	now.flags(c)
	c.Flags().StringVar(&module, "module", "", "file of the module to run again, or \"speed\" for the built-in one (bundles only)")
	return c
}

func newReceiptShow(a *app) *cobra.Command {
	var t trustFlags
	var now todayFlags
	var module string
	c := a.reading(&cobra.Command{
		Use:   "show FILE",
		Short: "Show the forensic record of a bundle, verified offline",
		Long: `Verifies a bundle as "receipt verify" does, and shows the measurement without the
steps: the measured value always with its considered one or with why there is
none, and all that a court or an expert asks for (docs/forensic-record.md). What
is not verified is shown as a claim. How the meter stood at the measurement and at
the checkpoint is in the bundle; --today asks a replica for what came since.

Exit code: 0 verified, 1 refuted, 2 undecidable.`,
		Example: `  lacre receipt show bundle --trust trust
  lacre receipt show bundle --trust trust --module speed --json
  lacre receipt show bundle --trust trust --today`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runVerify(c.Context(), args[0], &t, &now, module, false)
		},
	})
	t.flags(c)
	now.flags(c)
	c.Flags().StringVar(&module, "module", "", "file of the module to run again, or \"speed\" for the built-in one (bundles only)")
	return c
}

// verdict is the outcome of `receipt verify`.
type verdict struct {
	File string `json:"file"`
	Kind string `json:"kind"` // receipt or bundle
	receipt.Report
	Summary *receipt.Summary `json:"summary,omitempty"` // of what could be decoded
	Today   *today           `json:"today,omitempty"`   // if it was asked for
}

func (a *app) runVerify(ctx context.Context, file string, t *trustFlags, now *todayFlags, module string, steps bool) (err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	verifier := receipt.Verifier{}
	if verifier.Trust, err = t.read(nil); err != nil {
		return err
	}
	v := verdict{File: file, Kind: "receipt"}
	var r *receipt.Receipt
	var contents *receipt.Contents
	if isBundle(content) {
		v.Kind = "bundle"
		engine, err := runner.New(ctx)
		if err != nil {
			return err
		}
		defer engine.Close() //nolint:errcheck // its results are out.
		verifier.Runner = engine
		if module != "" {
			if with, err := withModule(content, module); err == nil {
				content = with
			} else if os.IsNotExist(err) {
				return err
			} // else the bundle is not in its form, and the report says so
		}
		if contents, v.Report = verifier.Bundle(content); contents != nil {
			r = contents.Receipt
		}
	} else {
		if module != "" {
			return usage("--module needs a bundle: %s is a receipt, which has no raw vector; \"lacre bundle get\" fetches one", file)
		}
		r, v.Report = verifier.Receipt(content)
	}
	if r != nil {
		s := receipt.Describe(r, contents)
		v.Summary = &s
	}
	if !steps {
		v.Steps = []receipt.Step{}
	}
	var unasked error
	if now.ask && v.Verdict == receipt.Verified {
		v.Today, unasked = now.of(ctx, r)
	}
	if err := a.print(v, v.text()); err != nil {
		return err
	}
	if unasked != nil {
		return fmt.Errorf("verified, but how the meter stands today is not known: %w", unasked)
	}
	if verifier.Trust == nil {
		a.say("without --trust nobody can say who certifies; the digest to compare is printed by \"lacre trust show\"")
	}
	return exit(exitOf(v.Verdict))
}

// isBundle tells the two apart by how a receipt begins. A receipt damaged there
// is refuted as a bundle, which is as well.
func isBundle(content []byte) bool { return !bytes.HasPrefix(content, []byte("c2sp.org/")) }

func exitOf(v receipt.Verdict) int {
	switch v {
	case receipt.Verified:
		return ExitOK
	case receipt.Refuted:
		return ExitRefuted
	}
	return ExitUndecidable
}

// text is the report, what it is about, and what it proves and does not. What
// is not verified is shown as a claim.
func (v *verdict) text() string {
	var b strings.Builder
	b.WriteString(v.String())
	if v.Summary == nil {
		return b.String()
	}
	if v.Verdict != receipt.Verified {
		fmt.Fprintf(&b, "\nThe %s claims the following; it is not verified:\n", v.Kind)
		s := *v.Summary
		s.Proves = nil
		b.WriteString(s.String())
		return b.String()
	}
	b.WriteString("\n" + v.Summary.String())
	if v.Today != nil {
		b.WriteString(v.Today.String())
	}
	return b.String()
}
