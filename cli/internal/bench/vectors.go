package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/core/vector"
)

// pool holds raw vectors, encoded before the clock starts. Each is a simulated
// pass with a noise of its own; a run that needs more than there are begins
// again, with other headers, counters and signatures.
type pool struct {
	vectors [][]byte
	next    atomic.Uint64
}

// take gives the next vector.
func (p *pool) take() []byte { return p.vectors[(p.next.Add(1)-1)%uint64(len(p.vectors))] }

// meanBytes is the mean size of an encoded vector.
func (p *pool) meanBytes() float64 {
	total := 0
	for _, v := range p.vectors {
		total += len(v)
	}
	return float64(total) / float64(len(p.vectors))
}

// vectorsPerSecond is how many vectors are prepared for each second of load.
const vectorsPerSecond, maxVectors = 2000, 1 << 17

func (o Options) vectorCount() int {
	n := int((o.Duration + o.Warmup).Seconds() * max(vectorsPerSecond, o.Rate))
	return min(max(n, o.Profiles), maxVectors)
}

// newPool simulates passes and encodes variants of them, on all cores.
func newPool(ctx context.Context, o Options) (*pool, error) {
	encoding, err := o.encoding()
	if err != nil {
		return nil, err
	}
	passes := make([][][]int16, o.Profiles)
	err = parallel(ctx, runtime.NumCPU(), o.Profiles, func(i int) (err error) {
		passes[i], err = o.simulate(i)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := &pool{vectors: make([][]byte, o.vectorCount())}
	err = parallel(ctx, runtime.NumCPU(), len(p.vectors), func(i int) (err error) {
		p.vectors[i], err = vector.Encode(encoding, variant(passes[i%len(passes)], sim.NewRand(o.Seed+1, uint64(i))))
		return err
	})
	return p, err
}

// simulate draws vehicles until one passes within the samples of a capture, and
// fills up with the quiet after it.
func (o Options) simulate(i int) ([][]int16, error) {
	const tries = 100
	rng := sim.NewRand(o.Seed, uint64(i))
	rate := float64(o.sampleRateMillihertz()) / 1000
	for range tries {
		c := sim.Good(110+70*rng.Float64(), rate, spacingMillimetres/1000., sim.Families, rng)
		c.Channels = o.Channels
		r := sim.Pass(c, rng)
		if n := len(r.Samples[0]); n <= o.Samples {
			return fill(r.Samples, o.Samples), nil
		}
	}
	return nil, fmt.Errorf("none of %d simulated vehicles passes within %d samples of %d channels", tries, o.Samples, o.Channels)
}

// quiet is how many samples at the end of a simulated pass show no vehicle.
const quiet = 24

// fill lengthens channels to n samples: the quiet end, forwards and backwards.
func fill(channels [][]int16, n int) [][]int16 {
	for c, s := range channels {
		end := s[max(0, len(s)-quiet):]
		for i := 0; len(s) < n; i++ {
			at := i % (2 * len(end))
			if at >= len(end) {
				at = 2*len(end) - 1 - at
			}
			s = append(s, end[len(end)-1-at])
		}
		channels[c] = s
	}
	return channels
}

// variant is the same pass with other noise of at most one count, which is below
// that of the simulated converter.
func variant(channels [][]int16, rng *rand.Rand) [][]int16 {
	out := make([][]int16, len(channels))
	for c, s := range channels {
		out[c] = make([]int16, len(s))
		for i, x := range s {
			y := int32(x) + int32(rng.IntN(3)) - 1
			out[c][i] = int16(min(max(y, -32768), 32767))
		}
	}
	return out
}

// parallel calls f for 0 to n-1, width at a time, until one fails or ctx ends.
func parallel(ctx context.Context, width, n int, f func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(width, n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// rawBytes is the size of an unencoded vector.
func (o Options) rawBytes() int { return 2 * o.Channels * o.Samples }
