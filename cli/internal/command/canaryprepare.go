package command

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/canary"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/runner"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// canaryPrepare is the command line of `canary prepare`.
type canaryPrepare struct {
	meterFlags
	id, body, module, out, draft string
	vectors                      int
	seed                         uint64
	files                        []string
	rate                         float64 // Hz
	read                         meter.ImportOptions
}

func newCanaryPrepare(a *app) *cobra.Command {
	var p canaryPrepare
	c := a.reading(&cobra.Command{
		Use:   "prepare METER",
		Short: "Make the secret vectors and draft the commitment",
		Long: `Takes recordings, or simulates vehicles over the meter's loops, runs the approved
module on each under the parameters that are in force now, and writes both to a
secret file; the draft of the commitment names its digest only. The vectors get the
meter's next counters, so the meter sends nothing else before.

Endorsers see the signals: simulated ones have a simulator's noise. A test that
they cannot tell from traffic is made of recordings (--csv) of the meter itself.`,
		Example: `  lacre canary prepare my-meter --id test-7 --vectors 20 --out secret.json --draft commitment.json
  lacre canary prepare my-meter --id test-8 --csv a.csv --csv b.csv --rate 1000 --out secret.json --draft commitment.json
  lacre approval sign commitment.json --key notified-body.pem --out commitment.dsse
  lacre approval submit commitment.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runCanaryPrepare(c.Context(), &p, args[0]) },
	})
	p.flags(c)
	p.trust.flags(c)
	f := c.Flags()
	f.StringVar(&p.id, "id", "", "name of the test; it is public from the commitment on")
	f.StringVar(&p.body, "notified-body", devnet.NotifiedBody, "id of the notified body")
	f.StringVar(&p.module, "module", builtIn, "file of the approved module, or \"speed\" for the built-in one")
	f.IntVar(&p.vectors, "vectors", 10, "number of simulated vectors, at most 256")
	f.Uint64Var(&p.seed, "seed", 0, "seed of the simulated passes (default: a random one)")
	f.StringArrayVar(&p.files, "csv", nil, "file of one recording, instead of a simulated one (repeat)")
	f.Float64Var(&p.rate, "rate", 0, "rows per second of the recordings in Hz")
	f.Float64Var(&p.read.Scale, "scale", 0, "samples per unit of the file; 0 lets the file decide")
	f.Float64Var(&p.read.Offset, "offset", 0, "value that becomes sample 0; only with --scale")
	f.BoolVar(&p.read.DecimalComma, "decimal-comma", false, "numbers are written as 0,25 and columns are separated by ;")
	f.StringVar(&p.out, "out", "", "secret file to write")
	f.StringVar(&p.draft, "draft", "", "file of the commitment to write, to be signed")
	return c
}

func (a *app) runCanaryPrepare(ctx context.Context, p *canaryPrepare, meterID string) error {
	switch {
	case p.id == "" || p.out == "" || p.draft == "":
		return usage("--id ID, --out FILE (the secret) and --draft FILE are needed")
	case p.vectors < 1:
		return usage("--vectors is %d, want at least 1", p.vectors)
	case (len(p.files) > 0) != (p.rate > 0):
		return usage("--csv FILE and --rate HZ go together")
	}
	t, err := p.prepare(ctx, meterID)
	if err != nil {
		return err
	}
	expectation, err := t.Expectation()
	if err != nil {
		return err
	}
	commitment := state.CanaryCommitment(expectation)
	message := &recordv1.CanaryCommitment{CanaryId: p.id, NotifiedBody: p.body, Commitment: commitment[:]}
	if message.Header, err = p.header(ctx, record.SubjectCanary(p.id)); err != nil {
		return err
	}
	if message.GetHeader().GetSequence() != 1 {
		return fmt.Errorf("canary %s is on the ledger already; choose another id", p.id)
	}
	if err := t.Write(p.out); err != nil {
		return err
	}
	if err := a.writeDraft(p.draft, record.TypeCanaryCommitment, message); err != nil {
		return err
	}
	first, last := t.Vectors[0].Counter, t.Vectors[len(t.Vectors)-1].Counter
	return a.print(struct {
		Canary     string        `json:"canary"`
		Meter      string        `json:"meter"`
		First      uint64        `json:"first_counter"`
		Last       uint64        `json:"last_counter"`
		Commitment digest.Digest `json:"commitment"`
	}{p.id, t.Meter, first, last, commitment},
		fmt.Sprintf("%d vectors for counters %d to %d of meter %s in %s; keep it secret until the reveal\ncommitment %s, to be signed, is drafted in %s\n",
			len(t.Vectors), first, last, t.Meter, p.out, commitment, p.draft))
}

// prepare makes the test under the parameters in force now, and under the fuel
// limit of the approval in force: what endorsers will compute with.
func (p *canaryPrepare) prepare(ctx context.Context, meterID string) (*canary.Test, error) {
	next, s, err := p.nextCounter(ctx, meterID)
	if err != nil {
		return nil, err
	}
	life, err := p.meterLife(ctx, s.NetworkID.String(), meterID)
	if err != nil {
		return nil, err
	}
	conditions := canary.Conditions{Meter: meterID, FirstCounter: next}
	if conditions.Module, err = readModule(p.module); err != nil {
		return nil, err
	}
	if conditions.Parameters, err = state.ParametersAt(life.meter, time.Now().UnixNano()); err != nil {
		return nil, err
	}
	module := digest.Plain(conditions.Module)
	algorithm, err := state.GetAlgorithm(life.snapshot, module)
	if err != nil {
		return nil, err
	}
	if algorithm == nil {
		return nil, fmt.Errorf("module %s is not approved", module)
	}
	terms, err := approval.ParseAccepted(algorithm.GetApprovalPayload())
	if err != nil {
		return nil, err
	}
	conditions.FuelLimit = terms.FuelLimit
	recordings, err := p.recordings(s, conditions.Parameters)
	if err != nil {
		return nil, err
	}
	engine, err := runner.New(ctx)
	if err != nil {
		return nil, err
	}
	defer engine.Close() //nolint:errcheck // its results are out.
	return canary.New(p.id, p.body, conditions, recordings, engine)
}

// recordings are [vector][channel][sample].
func (p *canaryPrepare) recordings(s *standing, in *claim.Parameters) ([][][]int16, error) {
	if s.SampleRateMillihertz != in.SampleRateMillihertz {
		return nil, fmt.Errorf("meter %s samples at %g Hz, its parameters in force are for %g Hz: its samples would be refused",
			s.MeterID, float64(s.SampleRateMillihertz)/1000, float64(in.SampleRateMillihertz)/1000)
	}
	if len(p.files) > 0 {
		if millihertz(p.rate) != in.SampleRateMillihertz {
			return nil, fmt.Errorf("--rate is %g Hz, meter %s samples at %g Hz: nothing is resampled", p.rate, s.MeterID, float64(in.SampleRateMillihertz)/1000)
		}
		list := make([][][]int16, len(p.files))
		for i, file := range p.files {
			var err error
			if list[i], err = importFile(file, p.read); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		return list, nil
	}
	if len(in.Values) != speed.ParameterCount {
		return nil, fmt.Errorf("meter %s has %d parameters, vehicles are simulated for the %d of the speed module; give recordings (--csv)", s.MeterID, len(in.Values), speed.ParameterCount)
	}
	seed := p.seed
	if seed == 0 {
		seed = rand.Uint64() //nolint:gosec // a simulator's seed; the salt keeps the expectation secret.
	}
	list := make([][][]int16, p.vectors)
	for i := range list {
		rng := sim.NewRand(seed, uint64(i))
		kmh := 20 + 130*rng.Float64() // not round: round speeds would show what is simulated
		pass := sim.Good(kmh, float64(in.SampleRateMillihertz)/1000, float64(in.Values[speed.ParameterSpacingMicrometres])/1e6, sim.Families, rng)
		pass.Channels = int(in.Channels)
		list[i] = sim.Pass(pass, rng).Samples
	}
	return list, nil
}
