package bench

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/sample"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// TestBacklogIsCapturedWhileCutOff: what a client captures while it is cut off
// has the time of its capture, names the block known before, is a chain, and
// comes at the pace of the others.
func TestBacklogIsCapturedWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := signing(t, "meter", 1)
		s.run.vectors, s.run.Outage = &pool{vectors: [][]byte{[]byte("raw")}}, 5*time.Second
		before := s.run.head.newest()
		time.AfterFunc(time.Second, func() { s.run.head.known.Store(&meter.KnownBlock{Height: before.Height + 1}) })
		l := &load{run: s.run}
		began := time.Now()
		shots := l.capture(t.Context(), s, 5*time.Second, func() float64 { return 2 })
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("cut off for %s, want 5 s", took)
		}
		if len(shots) != 11 {
			t.Fatalf("%d captured at 2/s in 5 s, want 11", len(shots))
		}
		previous := s.samples[0]
		for i, shot := range shots {
			signed, err := sample.Parse(shot.request.GetHeader())
			if err != nil {
				t.Fatal(err)
			}
			due := began.Add(time.Duration(i) * 500 * time.Millisecond)
			if signed.CapturedAtUnixNano != due.UnixNano() || signed.KnownHeight != before.Height || signed.Previous != previous {
				t.Errorf("sample %d is captured at %d, names block %d and follows %s; want %d, %d and %s", i,
					signed.CapturedAtUnixNano, signed.KnownHeight, signed.Previous.Short(), due.UnixNano(), before.Height, previous.Short())
			}
			previous = signed.Digest
		}
		if begun := s.run.tally.begun.Load(); begun != 11 {
			t.Errorf("%d begun, want 11: each must end", begun)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if shots := l.capture(ended, s, 5*time.Second, func() float64 { return 0 }); len(shots) != 1 || time.Since(began) != 5*time.Second {
			t.Errorf("%d captured after the end, want the one that was due", len(shots))
		}
	})
}

// TestBacklogIsForwarded: all of it is sent, a few at a time, and what has no
// receipt does not count.
func TestBacklogIsForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := signing(t, "meter", 0)
		s.run.vectors = &pool{vectors: [][]byte{[]byte("raw")}}
		s.run.backlog = backlog{latencies: newLatencies()}
		s.run.verifier, _ = somebodysReceipt(t)
		l := &load{run: s.run}
		shots := l.capture(t.Context(), s, time.Second, func() float64 { return 100 })
		door := &countingDoor{}
		s.door = door
		l.forward(t.Context(), s, shots, time.Now())
		if door.sent != len(shots) || door.most != forwarding {
			t.Errorf("%d of %d sent, at most %d at a time, want all, %d at a time", door.sent, len(shots), door.most, forwarding)
		}
		if n := s.run.tally.refusals["BAD_SIGNATURE"]; n != int64(len(shots)) || s.run.backlog.measurements.Load() != 0 || s.run.tally.inFlight.Load() != 0 {
			t.Errorf("%d refused, %d counted, %d in flight; want all refused", n, s.run.backlog.measurements.Load(), s.run.tally.inFlight.Load())
		}
	})
}

// countingDoor refuses everything after a second.
type countingDoor struct {
	mu               sync.Mutex
	sent, here, most int
}

func (d *countingDoor) submit(ctx context.Context, id digest.Digest, _ *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	d.mu.Lock()
	d.sent, d.here = d.sent+1, d.here+1
	d.most = max(d.most, d.here)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.here--
	}()
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	return refusal("BAD_SIGNATURE", true)(id)
}

// TestOptionsOfABacklog: what cannot be is said before anything starts.
func TestOptionsOfABacklog(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Options)
		offline int
		wrong   string
	}{
		{"none", func(*Options) {}, 0, ""},
		{"a tenth", func(o *Options) { o.Backlog = 0.1 }, 5, ""},
		{"one at the least", func(o *Options) { o.Backlog = 0.001 }, 1, ""},
		{"all", func(o *Options) { o.Backlog = 1 }, 50, "all of 50 clients"},
		{"more than all", func(o *Options) { o.Backlog = 1.5 }, 75, "a share of 1.5"},
		{"for no time", func(o *Options) { o.Backlog, o.Outage = 0.5, 0 }, 25, "an outage of 0s"},
		{"no endorser left", func(o *Options) { o.Network.Endorsers = 1 }, 0, "2 endorsements, want 1 to 1"},
		{"eight replicas", func(o *Options) { o.Network.Replicas = 8 }, 0, "8 replicas"},
		{"a leader of one", func(o *Options) { o.Network.Replicas, o.KillLeaderAfter = 1, time.Second }, 0, "no quorum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Defaults()
			c.change(&o)
			if got := o.offline(); got != c.offline {
				t.Errorf("%d clients are cut off, want %d", got, c.offline)
			}
			err := o.Check()
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("check gave %v, want %q", err, c.wrong)
			}
		})
	}
}
