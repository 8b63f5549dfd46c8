package follower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

var quiet = slog.New(slog.DiscardHandler)

// within is how long a test waits for what must happen before it fails.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// populated has an approval, a meter and some measurements.
func populated(t *testing.T) *ledgertest.Ledger {
	t.Helper()
	l := ledgertest.New(t, statetest.Options{})
	l.Do(func(n *statetest.Network) {
		n.Approve()
		m := n.Register("meter-01")
		n.AcceptCaptures(m.Capture(), m.Capture())
	})
	return l
}

func networkID(l *ledgertest.Ledger) (id digest.Digest) {
	l.Do(func(n *statetest.Network) { id = n.ID })
	return id
}

func open(t *testing.T, l *ledgertest.Ledger, replicas ...*ledgertest.Replica) *Follower {
	t.Helper()
	c := Config{NetworkID: networkID(l).String()}
	for _, r := range replicas {
		c.Replicas = append(c.Replicas, Endpoint{Address: r.Address, SPKI: r.SPKI})
	}
	f, err := New(c, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func start(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func mustSee(t *testing.T, f *Follower, l *ledgertest.Ledger) *Snapshot {
	t.Helper()
	s, err := f.Wait(within(t), l.Height())
	if err != nil {
		t.Fatal(err)
	}
	if meter, err := state.GetMeter(s, "meter-01"); err != nil || meter == nil {
		t.Fatalf("meter-01 at height %d: %v, %v", s.Head().Height, meter, err)
	}
	return s
}

func TestFollowsWhatIsCertified(t *testing.T) {
	l := populated(t)
	f := open(t, l, l.Serve(t, "replica"))
	if _, err := f.Snapshot(); reason.Of(err) != reason.NotReady || rpcerror.Delay(err) == 0 {
		t.Errorf("before the first block: %v", err)
	}
	start(t, f.Run)
	before := mustSee(t, f, l)
	l.Do(func(n *statetest.Network) { n.Register("meter-02") })
	after := mustSee(t, f, l)
	if m, _ := state.GetMeter(after, "meter-02"); m == nil {
		t.Error("a new meter is not seen")
	}
	if m, _ := state.GetMeter(before, "meter-02"); m != nil {
		t.Error("a snapshot changed")
	}
	for height := range after.Head().Height + 1 {
		if ref, ok, _ := after.Block(height); !ok || ref.Height != height {
			t.Errorf("block %d: %v, %v", height, ref.Height, ok)
		}
	}
	if _, ok, _ := before.Block(after.Head().Height); ok {
		t.Error("a snapshot knows a later block")
	}
	if _, err := after.Record(0); reason.Of(err) != reason.NotFound {
		t.Errorf("a follower gave a record: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Wait(ctx, l.Height()+1); reason.Of(err) != reason.NotReady {
		t.Errorf("a block that never comes: %v", err)
	}
}

func TestFailover(t *testing.T) {
	l := populated(t)
	held := make(chan struct{})
	for _, c := range []struct {
		name string
		hook func(b *ledgerv1.StreamBlocksResponse) error
		stop bool
	}{
		{"the stream breaks off", func(b *ledgerv1.StreamBlocksResponse) error {
			if b.Height == 2 {
				return reason.New(reason.DataLoss, "block 2 is damaged")
			}
			return nil
		}, false},
		{"the replica falls quiet", func(b *ledgerv1.StreamBlocksResponse) error {
			if b.Height == 2 {
				<-held
			}
			return nil
		}, false},
		{"the replica is gone", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := l.Serve(t, "bad", func(r *ledgertest.Replica) { r.OnBlock = c.hook })
			f := open(t, l, bad, l.Serve(t, "good"))
			f.quiet = 100 * time.Millisecond
			if c.stop {
				bad.Stop()
			}
			stop := start(t, f.Run)
			mustSee(t, f, l)
			stop()
			if c.name == "the replica falls quiet" {
				close(held)
			}
		})
	}
}

// A machine that takes connections and says nothing, as behind a network that
// drops packets, holds neither the stream nor the readiness nor a submission.
func TestABlackHoleIsLeft(t *testing.T) {
	l := populated(t)
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hole.Close(); err != nil {
			t.Error(err)
		}
	})
	good := l.Serve(t, "good")
	f := open(t, l, &ledgertest.Replica{Address: hole.Addr().String(), SPKI: good.SPKI}, good)
	f.quiet, f.probe, f.doubt = time.Hour, time.Millisecond, time.Millisecond
	start(t, f.Run)
	if err := f.CatchUp(within(t)); err != nil {
		t.Fatal(err)
	}
	mustSee(t, f, l)
	f.preferred.Store(0)
	var leaf []byte
	l.Do(func(n *statetest.Network) {
		leaf = n.Sign(n.MeterRegistration("meter-09", statetest.Key("m9")), statetest.Body())
	})
	if response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}}); err != nil || !response.GetOutcomes()[0].GetAccepted() {
		t.Errorf("%v, %v", response, err)
	}
	if got := f.preferred.Load(); got != 1 {
		t.Errorf("replica %d is asked first the next time, want 1: the one that answered", got)
	}
}

func TestReadyAtTheCertifiedHeight(t *testing.T) {
	l := populated(t)
	bad := l.Serve(t, "boaster", func(r *ledgertest.Replica) { r.Exaggerate = 1 << 40 })
	f := open(t, l, bad, l.Serve(t, "honest"))
	f.quiet = 100 * time.Millisecond
	start(t, f.Run)
	if err := f.CatchUp(within(t)); err != nil {
		t.Fatal(err)
	}
	if s, err := f.Snapshot(); err != nil || s.Head().Height != l.Height() {
		t.Errorf("ready at height %d of %d: %v", s.Head().Height, l.Height(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.CatchUp(ctx); err == nil {
		t.Error("ready after the end")
	}
}

// A replica that hands a submission on says who leads, and the next one goes there
// at once: until that one is gone, or a name is nobody's here.
func TestSubmissionsGoToWhoLeads(t *testing.T) {
	l := populated(t)
	var nodes []statetest.Replica
	l.Do(func(n *statetest.Network) { nodes = n.Replicas })
	var leader atomic.Value // the node id that a replica names
	leader.Store("")
	var asked [3]atomic.Int32
	var gone atomic.Bool // of the second
	var replicas []*ledgertest.Replica
	for i := range asked {
		l.TLS(t, nodes[i].Node)
		replicas = append(replicas, l.Serve(t, nodes[i].ID, func(r *ledgertest.Replica) {
			r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
				asked[i].Add(1)
				if i == 1 && gone.Load() {
					return reason.New(reason.NotReady, "it is going away")
				}
				return nil
			}
			r.OnAnswer = func(a *ledgerv1.SubmitResponse) error {
				if named, _ := leader.Load().(string); named != nodes[i].ID {
					a.Leader = named
				}
				return nil
			}
		}))
	}
	f := open(t, l, replicas...)
	start(t, f.Run)
	mustSee(t, f, l)
	number := 0
	submit := func(want ...int32) {
		t.Helper()
		number++
		name := fmt.Sprintf("meter-9%d", number)
		var leaf []byte
		l.Do(func(n *statetest.Network) {
			leaf = n.Sign(n.MeterRegistration(name, statetest.Key(name)), statetest.Body())
		})
		if _, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}}); err != nil {
			t.Fatal(err)
		}
		for i := range asked {
			if got := asked[i].Load(); got != want[i] {
				t.Errorf("submission %d: replica %d was asked %d times by now, want %d", number, i, got, want[i])
			}
		}
	}
	submit(1, 0, 0) // the first of the configuration
	leader.Store(nodes[1].ID)
	submit(2, 0, 0) // it hands on, and says to whom
	submit(2, 1, 0)
	leader.Store(nodes[2].ID)
	submit(2, 2, 0)
	submit(2, 2, 1)
	leader.Store("somebody-else")
	submit(2, 2, 2)
	submit(2, 2, 3) // the name is nobody's here: who answered is asked again
	leader.Store(nodes[1].ID)
	submit(2, 2, 4)
	gone.Store(true)
	leader.Store("")
	submit(2, 3, 5) // the next after it
	submit(2, 3, 6)
}

func TestN1_RegistryFollowsTheLedger(t *testing.T) {
	l := populated(t)
	var gateway statetest.Node
	l.Do(func(n *statetest.Network) { gateway = n.Gateway })
	own := l.TLS(t, gateway)
	f := open(t, l, l.Serve(t, "replica"))
	if _, ok := f.Registry().Role(own.SPKI()); ok {
		t.Error("somebody is known before the first block")
	}
	start(t, f.Run)
	mustSee(t, f, l)
	if peer, ok := f.Registry().Role(own.SPKI()); !ok || peer.ID != gateway.ID || peer.Role != identity.RoleGateway || peer.Organisation != gateway.Organisation {
		t.Errorf("the gateway is %+v, %v", peer, ok)
	}
	l.Do(func(n *statetest.Network) {
		n.Accept(n.Sign(&recordv1.NodeRevocation{Header: n.Header(record.SubjectNode(gateway.ID)), NodeId: gateway.ID}, statetest.Root(gateway.Organisation)))
	})
	mustSee(t, f, l)
	if peer, ok := f.Registry().Role(own.SPKI()); ok {
		t.Errorf("a revoked gateway is %+v", peer)
	}
}

func TestConfigReportsEveryMistake(t *testing.T) {
	err := (&Config{NetworkID: "x", Replicas: []Endpoint{{SPKI: "y"}}}).Validate()
	if err == nil || !strings.Contains(err.Error(), "network_id") || !strings.Contains(err.Error(), "replicas[0].spki") {
		t.Error(err)
	}
	if err := (&Config{}).Validate(); err == nil || !strings.Contains(err.Error(), "at least one") {
		t.Error(err)
	}
}
