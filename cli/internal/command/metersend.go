package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/meter"
)

func degreesE7(degrees float64) int32 { return int32(math.Round(degrees * 1e7)) }

func millihertz(hz float64) uint64 { return uint64(math.Round(hz * 1000)) }

// sentSample is one sample's outcome.
type sentSample struct {
	Counter  uint64       `json:"counter"`
	Sample   string       `json:"sample"`
	Source   string       `json:"source,omitempty"` // the file it came from
	TruthKmh *float64     `json:"truth_kmh,omitempty"`
	SpeedKmh *float64     `json:"speed_kmh,omitempty"` // absent after a refusal
	U        *float64     `json:"speed_expanded_uncertainty_kmh,omitempty"`
	Code     string       `json:"code,omitempty"` // of the result; empty without a receipt
	Receipt  string       `json:"receipt,omitempty"`
	Refused  string       `json:"refused,omitempty"` // why the gateway refuses it for ever
	ticket   meter.Ticket // as recorded
}

func newMeterSend(a *app) *cobra.Command {
	var m meterFlags
	var files []string
	var rate float64
	var options meter.ImportOptions
	var beside attached
	var timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:   "send METER --csv FILE --rate HZ",
		Short: "Sign recordings from CSV files, send them and wait for the receipts",
		Long: `Reads a recording: one column for each channel, one row for each instant, any
numeric values, scaled and quantised to 16 bits; a header line and lines that
begin with # are skipped. The rate is that of the rows, and must be the meter's
registered one: nothing is resampled. meter/testdata/example.csv is an example.

Each sample is kept in the outbox until its receipt verifies; what has no answer
when the time is over is sent by the next "meter send" or "meter simulate".`,
		Example: `  lacre meter send my-meter --csv meter/testdata/example.csv --rate 1000
  lacre meter send my-meter --csv a.csv --csv b.csv --rate 1000 --scale 5000 --json
  lacre meter send my-meter --csv c.csv --rate 2000 --decimal-comma`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(files) == 0 || rate <= 0 {
				return usage("--csv FILE and --rate HZ are needed")
			}
			recordings := make([][][]int16, len(files))
			for i, file := range files {
				var err error
				if recordings[i], err = importFile(file, options); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			}
			return a.sendBeside(c.Context(), &m, &beside, args[0], timeout, len(files), func(s *standing, i int) (sentSample, [][]int16, error) {
				if s.SampleRateMillihertz != millihertz(rate) {
					return sentSample{}, nil, fmt.Errorf("--rate is %g Hz, meter %s is registered for %g Hz: register it for the recording's rate", rate, s.MeterID, float64(s.SampleRateMillihertz)/1000)
				}
				return sentSample{Source: files[i]}, recordings[i], nil
			})
		},
	})
	m.flags(c)
	m.trust.flags(c)
	beside.flags(c)
	f := c.Flags()
	f.StringArrayVar(&files, "csv", nil, "file of one recording (repeat)")
	f.Float64Var(&rate, "rate", 0, "rows per second in Hz")
	f.Float64Var(&options.Scale, "scale", 0, "samples per unit of the file; 0 lets the file decide")
	f.Float64Var(&options.Offset, "offset", 0, "value that becomes sample 0; only with --scale")
	f.BoolVar(&options.DecimalComma, "decimal-comma", false, "numbers are written as 0,25 and columns are separated by ;")
	f.DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the receipts")
	return c
}

func importFile(file string, options meter.ImportOptions) ([][]int16, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read.
	return meter.ImportCSV(f, options)
}

func newMeterSimulate(a *app) *cobra.Command {
	var m meterFlags
	var passes int
	var speeds []float64
	var seed uint64
	var fault string
	var severity float64
	var beside attached
	var timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:   "simulate METER",
		Short: "Let simulated vehicles pass a meter, and wait for the receipts",
		Long: `Simulates vehicles of known speed over the meter's loops (package
algorithms/sim), signs and sends the recordings, and compares what was measured
with the truth. With --fault the passes are faulty and should be refused.

Faults: ` + strings.Join(faultNames(), ", ") + `.`,
		Example: `  lacre meter simulate my-meter --passes 20
  lacre meter simulate my-meter --passes 5 --speed 80 --fault saturation --severity 0.8 --seed 7`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := faultNamed(fault)
			if err != nil {
				return err
			}
			if len(speeds) == 0 || passes < 1 {
				return usage("--speed and --passes must be positive")
			}
			if seed == 0 {
				seed = rand.Uint64() //nolint:gosec // a simulator's seed, printed so that the passes can be repeated.
			}
			a.say("seed %d", seed)
			return a.sendBeside(c.Context(), &m, &beside, args[0], timeout, passes, func(s *standing, i int) (sentSample, [][]int16, error) {
				rng := sim.NewRand(seed, uint64(i))
				conditions := sim.Good(speeds[i%len(speeds)], float64(s.SampleRateMillihertz)/1000, float64(s.SpacingMillimetres)/1000, sim.Families, rng)
				conditions.Channels, conditions.Fault, conditions.Severity = int(s.Channels), kind, severity
				recording := sim.Pass(conditions, rng)
				truth := recording.Truth.SpeedKmh
				return sentSample{TruthKmh: &truth}, recording.Samples, nil
			})
		},
	})
	m.flags(c)
	m.trust.flags(c)
	beside.flags(c)
	f := c.Flags()
	f.IntVar(&passes, "passes", 10, "number of passes")
	f.Float64SliceVar(&speeds, "speed", []float64{30, 50, 80, 110, 140}, "speeds in km/h, driven in turn")
	f.Uint64Var(&seed, "seed", 0, "seed of the passes (default: a random one, printed)")
	f.StringVar(&fault, "fault", "", "a fault of every pass")
	f.Float64Var(&severity, "severity", 1, "of the fault: 0 invisible to 1 gross")
	f.DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the receipts")
	return c
}

func faultNames() []string {
	names := make([]string, len(sim.Faults))
	for i, f := range sim.Faults {
		names[i] = f.String()
	}
	return names
}

func faultNamed(name string) (sim.Fault, error) {
	if name == "" {
		return sim.NoFault, nil
	}
	i := slices.Index(faultNames(), name)
	if i < 0 {
		return 0, usage("--fault is %q, want one of %s", name, strings.Join(faultNames(), ", "))
	}
	return sim.Faults[i], nil
}

// sendBeside records n samples, one after the other, with evidence beside each if
// there is any, waits for the answers and prints them.
func (a *app) sendBeside(ctx context.Context, m *meterFlags, beside *attached, id string, timeout time.Duration, n int, next func(*standing, int) (sentSample, [][]int16, error)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	bar := progress.New(a.err, "answered")
	defer bar.Stop()
	var mu sync.Mutex
	answered := 0
	step := func() {
		mu.Lock()
		defer mu.Unlock()
		answered++
		bar.Set(min(answered, n), n)
	}
	hooks := meter.Config{
		OnReceipt: func(meter.Receipt) { step() },
		OnAlarm: func(alarm meter.Alarm) {
			if alarm.Kind == meter.AlarmRefused {
				step()
			}
		},
	}
	if err := beside.configure(&hooks); err != nil {
		return err
	}
	opened, s, err := m.open(ctx, id, hooks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	sent := make([]sentSample, 0, n)
	for i := range n {
		one, channels, err := next(s, i)
		if err != nil {
			return err
		}
		pieces, err := beside.seal(opened)
		if err != nil {
			return err
		}
		ticket, err := opened.Record(ctx, meter.Capture{Channels: channels, Evidence: pieces, CapturedAt: time.Now()})
		if err != nil {
			return unanswered(opened, err)
		}
		one.Counter, one.Sample, one.ticket = ticket.Counter, ticket.Sample.String(), ticket
		sent = append(sent, one)
	}
	refused := 0
	for i := range sent {
		if err := sent[i].wait(ctx, opened); err != nil {
			return unanswered(opened, err)
		}
		if sent[i].Refused != "" {
			refused++
		}
	}
	if err := opened.Flush(ctx); err != nil { // what earlier runs left behind
		return unanswered(opened, err)
	}
	if err := a.delivered(ctx, opened); err != nil {
		return err
	}
	bar.Stop()
	if err := a.print(sent, sentText(sent)); err != nil {
		return err
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d samples were refused; \"lacre meter outbox %s\" shows why", refused, len(sent), id)
	}
	return nil
}

// unanswered adds why there is no answer, as far as the meter knows.
func unanswered(m *meter.Meter, err error) error {
	stats := m.Stats()
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	last := stats.LastError
	if last == "" {
		last = "the gateway has not answered yet"
	}
	return fmt.Errorf("%w; %d samples wait in the outbox, and the next send sends them (last: %s)", err, stats.Pending, last)
}

// wait fills in the answer.
func (s *sentSample) wait(ctx context.Context, m *meter.Meter) error {
	got, err := m.Wait(ctx, s.ticket)
	var refusal *meter.RefusedError
	if errors.As(err, &refusal) {
		s.Refused = string(refusal.Refused.Reason) + ": " + refusal.Refused.Detail
		return nil
	}
	if err != nil {
		return err
	}
	r, err := receipt.Parse(got.Text)
	if err != nil {
		return err
	}
	s.Receipt, s.Code = got.Path, campaign.CodeName(r.Result.Code)
	if r.Result.Code == speed.Valid && len(r.Result.Values) == speed.ValueCount {
		value := float64(r.Result.Values[speed.ValueSpeed]) / 1000
		u := float64(r.Result.Values[speed.ValueSpeedUncertainty]) / 1000
		s.SpeedKmh, s.U = &value, &u
	}
	return nil
}

func sentText(sent []sentSample) string {
	var b strings.Builder
	for _, s := range sent {
		fmt.Fprintf(&b, "%6d  ", s.Counter)
		switch {
		case s.Refused != "":
			fmt.Fprintf(&b, "refused by the gateway: %s", s.Refused)
		case s.SpeedKmh == nil:
			fmt.Fprintf(&b, "%s", s.Code)
		default:
			fmt.Fprintf(&b, "measured %.3f km/h, U %.3f (k=2)", *s.SpeedKmh, *s.U)
		}
		if s.TruthKmh != nil {
			fmt.Fprintf(&b, ", truth %.3f km/h", *s.TruthKmh)
		}
		if s.Source != "" {
			fmt.Fprintf(&b, ", %s", s.Source)
		}
		if s.Receipt != "" {
			fmt.Fprintf(&b, "\n        receipt %s", s.Receipt)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
