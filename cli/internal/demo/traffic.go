package demo

import (
	"context"
	"crypto"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// sensor is one meter of the demonstration: its SDK client, and the truth that
// only the simulator knows.
type sensor struct {
	id    string
	key   crypto.Signer
	tls   *identity.Node
	meter *meter.Meter

	mu     sync.Mutex
	passes map[uint64]pass // by counter
}

type pass struct {
	truth    sim.Truth
	recorded time.Time
	answered time.Time
	result   abi.Output
}

// speedsKmh are driven in turn: 10 to 150 km/h.
func speedsKmh() []float64 {
	var list []float64
	for v := 10.0; v <= 150; v += 5 {
		list = append(list, v)
	}
	return list
}

// drive lets vehicles of known speed pass all meters and waits for the receipts.
func (d *demo) drive(ctx context.Context) error {
	d.say("traffic    %d simulated passes of known speed, seed %d", d.Passes, d.Seed)
	gateway, err := d.network.Node(devnet.Gateway)
	if err != nil {
		return err
	}
	spki, err := digest.Parse(gateway.SPKI)
	if err != nil {
		return err
	}
	networkID, err := digest.Parse(d.network.NetworkID)
	if err != nil {
		return err
	}
	var done int
	var counting sync.Mutex
	for _, s := range d.meters {
		s.passes = make(map[uint64]pass)
		s.meter, err = meter.Open(ctx, meter.Config{
			NetworkID: networkID, MeterID: s.id, Channels: 2, SampleRateMillihertz: sampleRateMillihertz, Signer: s.key,
			Endpoints: []string{gateway.Address}, TLS: s.tls.ClientTLS(identity.Pin(identity.SPKI(spki))), Trust: d.trust,
			Dir: filepath.Join(d.network.MeterDir(s.id), "outbox"), Tracer: d.Tracer,
			OnReceipt: func(r meter.Receipt) {
				now := time.Now()
				s.mu.Lock()
				p := s.passes[r.Counter]
				p.answered = now
				if m, err := receipt.Parse(r.Text); err == nil {
					p.result = m.Result
				}
				s.passes[r.Counter] = p
				s.mu.Unlock()
				counting.Lock()
				done++
				d.Progress(done, d.Passes)
				counting.Unlock()
			},
		})
		if err != nil {
			return err
		}
	}
	started := time.Now()
	failures := make(chan error, len(d.meters))
	for i, s := range d.meters {
		go func() { failures <- d.record(ctx, i, s) }()
	}
	for range d.meters {
		if err := <-failures; err != nil {
			return err
		}
	}
	elapsed := time.Since(started)
	for _, s := range d.meters { // after Close no callback runs any more
		if err := s.meter.Close(); err != nil {
			return err
		}
	}
	d.judge(elapsed)
	return nil
}

// record simulates and records one meter's share and flushes its outbox.
func (d *demo) record(ctx context.Context, i int, s *sensor) error {
	speeds := speedsKmh()
	for n := i; n < d.Passes; n += len(d.meters) {
		rng := sim.NewRand(d.Seed, uint64(n))
		recording := sim.Pass(sim.Good(speeds[n%len(speeds)], sampleRateMillihertz/1000, spacingMillimetres/1000., families(rng), rng), rng)
		now := time.Now()
		ticket, err := s.meter.Record(ctx, meter.Capture{Channels: recording.Samples, CapturedAt: now, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED})
		if err != nil {
			return fmt.Errorf("meter %s: %w", s.id, err)
		}
		s.mu.Lock()
		p := s.passes[ticket.Counter]
		p.truth, p.recorded = recording.Truth, now
		s.passes[ticket.Counter] = p
		s.mu.Unlock()
	}
	if err := s.meter.Flush(ctx); err != nil {
		return fmt.Errorf("meter %s: %w", s.id, err)
	}
	return nil
}

// families takes every pulse shape, the one held out from tuning as well.
func families(*rand.Rand) []sim.Family { return sim.Families }

// judge compares what was measured with the truth, and prints accuracy,
// throughput and latency.
func (d *demo) judge(elapsed time.Duration) {
	var accepted, within int
	var largest float64 // share of the permissible error
	var largestKmh, atKmh float64
	refusals := make(map[uint32]int)
	var latencies []time.Duration
	total := 0
	for _, s := range d.meters {
		for counter, p := range s.passes {
			total++
			if p.answered.IsZero() {
				d.hold(false, "meter %s counter %d has no receipt", s.id, counter)
				continue
			}
			latencies = append(latencies, p.answered.Sub(p.recorded))
			if p.result.Code != abi.CodeValid {
				refusals[p.result.Code]++
				continue
			}
			accepted++
			failure := math.Abs(float64(p.result.Values[speed.ValueSpeed])/1000 - math.Abs(p.truth.SpeedKmh))
			if share := failure / campaign.MPE(p.truth.SpeedKmh); share <= 1 {
				within++
				largest = max(largest, share)
			} else {
				largest = max(largest, share)
				d.hold(false, "meter %s counter %d measured %.3f km/h, the truth is %.3f", s.id, counter, float64(p.result.Values[speed.ValueSpeed])/1000, p.truth.SpeedKmh)
			}
			if failure > largestKmh {
				largestKmh, atKmh = failure, p.truth.SpeedKmh
			}
		}
	}
	d.hold(total == d.Passes, "%d passes were recorded, %d were driven", total, d.Passes)
	d.hold(accepted > 0, "no pass was measured")
	slices.Sort(latencies)
	d.say("accuracy   %d of %d measured, %.2f %% of them within the permissible error (3 km/h, 3 %% above 100)\n           largest error %.3f km/h at %.1f km/h; at most %.0f %% of the permissible error; on simulated loops",
		accepted, total, 100*float64(within)/float64(max(accepted, 1)), largestKmh, atKmh, 100*largest)
	for _, code := range sortedKeys(refusals) {
		d.say("refused    %d with %s", refusals[code], campaign.CodeName(code))
	}
	if len(refusals) == 0 {
		d.say("refused    none")
	}
	d.say("speed      %.0f measurements/s certified, latency p50 %s p90 %s p99 %s max %s",
		float64(total)/elapsed.Seconds(), percentile(latencies, 50), percentile(latencies, 90), percentile(latencies, 99), percentile(latencies, 100))
}

func sortedKeys(m map[uint32]int) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)].Round(time.Millisecond)
}
