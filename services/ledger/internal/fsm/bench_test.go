package fsm

import (
	"context"
	"fmt"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// BenchmarkApply is what a measurement costs one replica between the ordered
// entry and the durable, cosigned block: decoding, digests, signatures, the
// transition, the tree, segments and bbolt, fsync included. Blocks of 64 and of
// 512 measurements, each by a meter of its own, with raw vectors of 780 bytes.
// Nothing is in the cache of signatures, as in a replica that follows.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{64, 512} {
		b.Run(fmt.Sprintf("measurements=%d", size), func(b *testing.B) {
			r := newReplica(b, statetest.New(b, statetest.Options{}))
			meters := r.meters(size)
			b.ReportAllocs()
			var spent time.Duration
			for b.Loop() {
				b.StopTimer()
				entry := r.measurements(meters)
				r.machine.cache = signature.NewCache(1 << 16)
				before := benchtest.CPU(b)
				b.StartTimer()
				var applied propose.Applied
				pprof.Do(b.Context(), pprof.Labels("measured", "yes"), func(context.Context) { applied = r.apply(entry) })
				b.StopTimer()
				spent += benchtest.CPU(b) - before
				b.StartTimer()
				if applied.Ignored != nil || !applied.Results[0][size].Accepted {
					b.Fatalf("applied as %+v", applied)
				}
			}
			benchtest.Report(b, spent, size)
		})
	}
}

// meters approves the module and registers so many meters, in the mirror and in
// the machine.
func (r *replica) meters(count int) []*statetest.Meter {
	n := r.n
	both := func(leaf []byte) {
		entry := r.entry(&replicav1.Submission{Records: [][]byte{leaf}})
		n.Accept(leaf)
		if applied := r.apply(entry); applied.Ignored != nil || !applied.Results[0][0].Accepted {
			r.t.Fatalf("applied as %+v", applied)
		}
	}
	both(n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker()))
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		r.t.Fatal(err)
	}
	n.Approval = digest.Digest(value.GetApproval())
	meters := make([]*statetest.Meter, count)
	for i := range meters {
		id := fmt.Sprintf("meter-%04d", i)
		key := statetest.Key("meter/" + id)
		both(n.Sign(n.MeterRegistration(id, key), statetest.Body()))
		meters[i] = &statetest.Meter{Network: n, ID: id, Key: key, Counter: 1}
	}
	return meters
}

// measurements is an entry with one measurement of each meter, which the mirror
// has accepted.
func (r *replica) measurements(meters []*statetest.Meter) []byte {
	n := r.n
	captures := make([]*statetest.Capture, len(meters))
	for i, m := range meters {
		raw := make([]byte, 780)
		raw[0], raw[1] = byte(m.Counter), byte(i)
		captures[i] = m.Capture(func(h *sample.Header) { h.RawDigest = sample.DigestRaw(raw) })
		captures[i].Raw = raw
	}
	batch := n.Batch(captures...)
	records := batch.Records()
	entry := r.entry(&replicav1.Submission{Records: records, RawVectors: batch.Raw})
	if outcomes := n.Submit(records, batch.Raw); !outcomes[len(meters)].Accepted {
		r.t.Fatalf("refused: %+v", outcomes[len(meters)])
	}
	return entry
}
