package follower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
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

// stream gives a follower the blocks of a ledger until one is refused.
func stream(t *testing.T, l *ledgertest.Ledger, id digest.Digest, tamper func(*ledgerv1.StreamBlocksResponse)) (*chain, error) {
	t.Helper()
	c := newChain(id, signature.Direct{})
	for height := range l.Height() + 1 {
		block := l.Block(height)
		tamper(block)
		if _, err := c.add(block); err != nil {
			return c, err
		}
	}
	return c, nil
}

func statement(b *ledgerv1.StreamBlocksResponse) *ledgerv1.Leaf {
	for _, l := range b.Leaves[:len(b.Leaves)-1] {
		if l.GetRecord() != nil {
			return l
		}
	}
	return nil
}

// withhold shows a statement's hash only, as if it were a measurement.
func withhold(b *ledgerv1.StreamBlocksResponse) {
	if l := statement(b); l != nil && b.Height > 0 {
		hash := tlog.LeafHash(l.GetRecord())
		l.Content = &ledgerv1.Leaf_Hash{Hash: hash[:]}
	}
}

func TestS6_FollowerFindsAWithheldStatement(t *testing.T) {
	l := populated(t)
	c, err := stream(t, l, networkID(l), withhold)
	var replay *state.ReplayError
	if !errors.As(err, &replay) || !strings.Contains(err.Error(), "admin") {
		t.Fatalf("a withheld statement gave: %v", err)
	}
	if c.certified.head.Height != 0 {
		t.Errorf("certified up to %d, the statement is withheld from block 1 on", c.certified.head.Height)
	}

	// And over the wire: the next replica is asked, and tells.
	var asked atomic.Int32
	liar := l.Serve(t, "liar", func(r *ledgertest.Replica) {
		r.OnBlock = func(b *ledgerv1.StreamBlocksResponse) error { asked.Add(1); withhold(b); return nil }
	})
	f := open(t, l, liar, l.Serve(t, "honest"))
	start(t, f.Run)
	mustSee(t, f, l)
	if asked.Load() == 0 {
		t.Error("the lying replica was never asked")
	}
}

// A leader that is not followed by its peers can order what it likes; it cannot
// certify it.
func TestForgedLeader(t *testing.T) {
	l := populated(t)
	var foreign []byte
	l.Do(func(n *statetest.Network) {
		// What the leader would like to be true, signed by itself.
		forger := statetest.Key("forger")
		foreign = n.Sign(n.MeterRegistration("meter-66", forger), forger)
	})
	recertify := func(b *ledgerv1.StreamBlocksResponse, change func(c *tlog.Certificate) []tlog.Cosignature) {
		c, err := tlog.ParseCertificate(b.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		made, err := tlog.NewCertificate(c.Checkpoint, c.Log, change(c))
		if err != nil {
			t.Fatal(err)
		}
		b.Certificate = made.Text()
	}
	for _, c := range []struct {
		name  string
		lie   func(b *ledgerv1.StreamBlocksResponse)
		below uint64 // blocks that may be certified before the lie shows
	}{
		{"a statement is put in", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				b.Leaves = append([]*ledgerv1.Leaf{{Content: &ledgerv1.Leaf_Record{Record: foreign}}}, b.Leaves...)
			}
		}, 2},
		{"a statement is exchanged", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				statement(b).Content = &ledgerv1.Leaf_Record{Record: foreign}
			}
		}, 2},
		{"a statement is left out", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				b.Leaves = b.Leaves[1:]
			}
		}, 2},
		{"a measurement's hash is another", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 3 {
				b.Leaves[1].GetHash()[7] ^= 1
			}
		}, 3},
		{"a measurement is left out", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 3 {
				b.Leaves = b.Leaves[1:]
			}
		}, 3},
		{"the header is another block's", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 3 {
				b.Leaves[len(b.Leaves)-1] = l.Block(2).Leaves[1]
			}
		}, 3},
		{"the header is withheld", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 3 {
				b.Leaves = b.Leaves[:len(b.Leaves)-1]
			}
		}, 3},
		{"a block has no leaves", func(b *ledgerv1.StreamBlocksResponse) { b.Leaves = nil }, 0},
		{"a leaf is empty", func(b *ledgerv1.StreamBlocksResponse) { b.Leaves[0].Content = nil }, 0},
		{"a hash is short", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 3 {
				b.Leaves[1].Content = &ledgerv1.Leaf_Hash{Hash: []byte{1}}
			}
		}, 3},
		{"a block is left out", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				proto.Reset(b)
				proto.Merge(b, l.Block(3))
			}
		}, 2},
		{"too few cosigned", func(b *ledgerv1.StreamBlocksResponse) {
			recertify(b, func(c *tlog.Certificate) []tlog.Cosignature { return c.Cosignatures[1:] })
		}, 0},
		{"a cosignature is of another checkpoint", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				before, err := tlog.ParseCertificate(l.Block(1).Certificate)
				if err != nil {
					t.Fatal(err)
				}
				recertify(b, func(c *tlog.Certificate) []tlog.Cosignature {
					return append(before.Cosignatures[:1:1], c.Cosignatures[1:]...)
				})
			}
		}, 2},
		{"the certificate is an earlier one", func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height == 2 {
				b.Certificate = l.Block(1).Certificate
			}
		}, 2},
		{"the certificate is none", func(b *ledgerv1.StreamBlocksResponse) { b.Certificate = []byte("certified, trust me\n") }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain, err := stream(t, l, networkID(l), c.lie)
			if err == nil {
				t.Fatal("nothing was noticed")
			}
			var got uint64
			if chain.certified != nil {
				got = chain.certified.head.Height + 1
			}
			if got != c.below {
				t.Errorf("%d blocks were taken for certified, want %d (%v)", got, c.below, err)
			}
		})
	}
}

// A certificate is not owed for every block: a later one covers it.
func TestLaterCertificateCoversEarlierBlocks(t *testing.T) {
	l := populated(t)
	last := l.Height()
	c, err := stream(t, l, networkID(l), func(b *ledgerv1.StreamBlocksResponse) {
		if b.Height != last {
			b.Certificate = nil
		}
	})
	if err != nil || c.certified == nil || c.certified.head.Height != last || c.ahead != nil {
		t.Errorf("certified %+v: %v", c.certified, err)
	}
}

func TestOtherNetworkIsFoundAtItsFirstBlock(t *testing.T) {
	l, other := populated(t), ledgertest.New(t, statetest.Options{Organisations: 7})
	_, err := stream(t, other, networkID(l), func(b *ledgerv1.StreamBlocksResponse) { b.Certificate = nil })
	if reason.Of(err) != reason.WrongNetwork {
		t.Errorf("uncertified blocks of another network: %v", err)
	}
	f := open(t, l, other.Serve(t, "stranger"), l.Serve(t, "honest"))
	start(t, f.Run)
	mustSee(t, f, l)
}

// reconfiguration is a ledger whose last but one block exchanged a replica.
type reconfiguration struct {
	*ledgertest.Ledger
	old     []statetest.Replica // the fourth left
	joining statetest.Replica
	changed uint64        // height of the block that brought the configuration
	trust   *trust.Bundle // what a verifier pins: the old policy up to that block, then the new
}

// reconfigured makes one; the block's log signature is by the replica that joins
// or by one that stays.
func reconfigured(t *testing.T, joiningSigns bool) *reconfiguration {
	t.Helper()
	l := populated(t)
	r := &reconfiguration{Ledger: l, joining: statetest.NewReplica("replica-04", "org-03")}
	l.Do(func(n *statetest.Network) {
		n.Accept(n.Sign(n.Registration(r.joining.Node, 1, digest.Zero), statetest.Root("org-03"), r.joining.Key))
		r.old = n.Replicas
	})
	policy := func(n *statetest.Network) *tlog.Policy {
		config, err := state.GetConfig(n.Store)
		if err != nil {
			t.Fatal(err)
		}
		p, err := state.PolicyOf(config.Message, n.ID)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	signers := []statetest.Replica{r.old[0], r.joining}
	if joiningSigns {
		slices.Reverse(signers)
	}
	var before *tlog.Policy
	l.Do(func(n *statetest.Network) {
		before = policy(n)
		config, err := state.GetConfig(n.Store)
		if err != nil {
			t.Fatal(err)
		}
		next := config.Message
		next.Header = n.Header(record.SubjectNetwork)
		next.Replicas[3] = r.joining.Message()
		n.Accept(n.Sign(next, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), r.joining.Cosigner, r.joining.Log))
	}, signers...)
	r.changed = l.Height()
	l.Do(func(n *statetest.Network) {
		var err error
		r.trust, err = trust.New(trust.Epoch{Policy: before, LastSize: n.Store.Head().Size}, trust.Epoch{Policy: policy(n)})
		if err != nil {
			t.Fatal(err)
		}
		n.Replicas = []statetest.Replica{r.old[0], r.old[1], r.old[2], r.joining}
		n.Register("meter-02")
	})
	return r
}

// Whoever holds the trust bundle believes the proof of the head, at every block.
func TestC6_HeadProofNeedsOnlyTheTrustBundle(t *testing.T) {
	for name, c := range map[string]struct {
		joiningSigns bool
		atChange     uint64 // how far the proof lags at the block of the configuration
	}{
		"log signature by a replica that stays": {false, 0},
		"log signature by the one that joins":   {true, 1}, // the bundle does not know its key for that block
	} {
		t.Run(name, func(t *testing.T) {
			l := reconfigured(t, c.joiningSigns)
			follower := newChain(networkID(l.Ledger), signature.Direct{})
			for height := range l.Height() + 1 {
				s, err := follower.add(l.Block(height))
				if err != nil {
					t.Fatal(err)
				}
				text, err := s.HeadProof()
				if err != nil {
					t.Fatal(err)
				}
				p, err := tlog.ParseProof(text)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := p.VerifyRecord(signature.Direct{}, l.trust)
				if err != nil {
					t.Fatalf("block %d: %v", height, err)
				}
				want := height
				if height == l.changed {
					want -= c.atChange
				}
				ref, ok, err := s.Block(want)
				if err != nil || !ok || record.HeaderDigest(leaf) != ref.Header || p.Certificate.Checkpoint.Size != ref.Size || p.Index != ref.Size-1 {
					t.Errorf("at block %d record %d of %d is proven, want the header of block %d: %v", height, p.Index, p.Certificate.Checkpoint.Size, want, err)
				}
			}
		})
	}
}

// One certificate for many blocks proves the newest header; one that no trust
// bundle accepts proves none.
func TestHeadProofOfTheFirstCertificate(t *testing.T) {
	l := reconfigured(t, true)
	for last, want := range map[uint64]reason.Reason{l.changed - 1: "", l.changed: reason.NotReady, l.changed + 1: ""} {
		follower := newChain(networkID(l.Ledger), signature.Direct{})
		for height := range last + 1 {
			block := l.Block(height)
			if height != last {
				block.Certificate = nil
			}
			if _, err := follower.add(block); err != nil {
				t.Fatal(err)
			}
		}
		text, err := follower.certified.HeadProof()
		if reason.Of(err) != want {
			t.Errorf("certified up to %d at once: %v, want %q", last, err, want)
		}
		if want != "" {
			continue
		}
		p, err := tlog.ParseProof(text)
		if err != nil {
			t.Fatal(err)
		}
		if leaf, err := p.VerifyRecord(signature.Direct{}, l.trust); err != nil || record.HeaderDigest(leaf) != follower.certified.head.Header {
			t.Errorf("certified up to %d at once: %v", last, err)
		}
	}
}

// The block of a configuration needs the old quorum and the new one.
func TestC6_FollowerWantsBothQuorums(t *testing.T) {
	l := reconfigured(t, true)
	c, err := stream(t, l.Ledger, networkID(l.Ledger), func(*ledgerv1.StreamBlocksResponse) {})
	if err != nil || c.certified.head.Height != l.Height() {
		t.Fatalf("the change as it should be: certified %d: %v", c.certified.head.Height, err)
	}
	only := func(replicas ...statetest.Replica) func(b *ledgerv1.StreamBlocksResponse) {
		return func(b *ledgerv1.StreamBlocksResponse) {
			if b.Height != l.changed {
				return
			}
			good, err := tlog.ParseCertificate(b.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			var all []tlog.Cosignature
			for _, r := range replicas {
				s, err := tlog.Cosign(r.Cosigner, state.CosignerName(good.Checkpoint.Origin, r.ID), good.Checkpoint, statetest.GenesisUnix)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, s)
			}
			made, err := tlog.NewCertificate(good.Checkpoint, good.Log, all)
			if err != nil {
				t.Fatal(err)
			}
			b.Certificate = made.Text()
		}
	}
	for name, signers := range map[string][]statetest.Replica{
		"old only": {l.old[0], l.old[1], l.old[3]}, "new only": {l.old[0], l.old[1], l.joining},
	} {
		if c, err := stream(t, l.Ledger, networkID(l.Ledger), only(signers...)); err == nil || c.certified.head.Height != l.changed-1 {
			t.Errorf("%s: certified %d, want %d: %v", name, c.certified.head.Height, l.changed-1, err)
		}
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

func TestSubmit(t *testing.T) {
	l := populated(t)
	refuse := func(why reason.Reason) func(context.Context, *ledgerv1.SubmitRequest) error {
		return func(context.Context, *ledgerv1.SubmitRequest) error { return reason.New(why, "") }
	}
	for _, c := range []struct {
		name      string
		configure func(r *ledgertest.Replica)
		want      reason.Reason // of the answer; "" if the second replica takes it
	}{
		{"not the leader", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotLeader) }, ""},
		{"not ready", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotReady) }, ""},
		{"damaged", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.DataLoss) }, ""},
		{"an internal error", func(r *ledgertest.Replica) {
			r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error { return errors.New("out of luck") }
		}, ""},
		{"an answer without outcomes", func(r *ledgertest.Replica) {
			r.OnSubmit = refuse(reason.NotReady)
			r.OnAnswer = func(a *ledgerv1.SubmitResponse) error { a.Outcomes = nil; return nil }
		}, ""},
		{"overloaded", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.Overloaded) }, reason.Overloaded},
		{"malformed", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.Malformed) }, reason.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, l, l.Serve(t, "first", c.configure), l.Serve(t, "second"))
			var leaf []byte
			l.Do(func(n *statetest.Network) {
				m := n.MeterRegistration("meter-"+digest.Plain([]byte(c.name)).String()[:8], statetest.Key(c.name))
				leaf = n.Sign(m, statetest.Body())
			})
			response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
			if reason.Of(err) != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if c.want == "" && !response.GetOutcomes()[0].GetAccepted() {
				t.Errorf("refused: %v", response)
			}
		})
	}
	all := open(t, l, l.Serve(t, "a", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotLeader) }),
		l.Serve(t, "b", func(r *ledgertest.Replica) {
			r.OnAnswer = func(a *ledgerv1.SubmitResponse) error { a.Outcomes = nil; return nil }
		}))
	if _, err := all.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{{1}}}); err == nil || rpcerror.IsPermanent(err) {
		t.Errorf("no replica can tell: %v", err)
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

// A machine that is gone ends no connection: it owes the answer, and does not say
// how it is. It is not waited for; the next submission goes past it.
func TestSubmitPassesAReplicaThatIsGone(t *testing.T) {
	l := populated(t)
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var asked atomic.Int32
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = silent
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error { asked.Add(1); return silent(ctx) }
	})
	f := open(t, l, first, l.Serve(t, "second"))
	f.doubt = time.Millisecond
	for _, name := range []string{"one", "two"} {
		var leaf []byte
		l.Do(func(n *statetest.Network) {
			leaf = n.Sign(n.MeterRegistration("meter-"+name, statetest.Key(name)), statetest.Body())
		})
		response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
		if err != nil || !response.GetOutcomes()[0].GetAccepted() {
			t.Fatalf("%s: %v, %v", name, response, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the replica that is gone was asked %d times, want once", n)
	}
}

// An election lasts longer than one submission. Whoever submits again does not wait
// for the old leader's machine each time: it is asked again only once it says how it
// is.
func TestSubmitRemembersWhoIsGone(t *testing.T) {
	l := populated(t)
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var asked atomic.Int32
	var back, elected atomic.Bool
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = func(ctx context.Context) error {
			if back.Load() {
				return nil
			}
			return silent(ctx)
		}
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error {
			if asked.Add(1); back.Load() {
				return nil
			}
			return silent(ctx)
		}
	})
	second := l.Serve(t, "second", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			if elected.Load() {
				return nil
			}
			return reason.New(reason.NotLeader, "an election is on")
		}
	})
	f := open(t, l, first, second)
	f.doubt = time.Millisecond
	ctx := within(t)
	submit := func(name string) error {
		var leaf []byte
		l.Do(func(n *statetest.Network) {
			leaf = n.Sign(n.MeterRegistration("meter-"+name, statetest.Key(name)), statetest.Body())
		})
		_, err := f.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
		return err
	}
	for range 3 {
		if err := submit("one"); err == nil {
			t.Fatal("a submission was taken while an election was on")
		}
	}
	elected.Store(true)
	if err := submit("one"); err != nil || asked.Load() != 1 {
		t.Errorf("%v; the replica that is gone was asked %d times, want once", err, asked.Load())
	}
	back.Store(true)
	elected.Store(false)
	for i := 0; submit(fmt.Sprint(i)) != nil; i++ { // it is found again while submissions come
		if ctx.Err() != nil {
			t.Fatal("the replica that is back was not asked again")
		}
	}
}

// While an election is on, and the old leader's machine is gone, nobody can tell:
// whoever submits is told so, and asks again.
func TestSubmitEndsWhenTheRestCannotTell(t *testing.T) {
	l := populated(t)
	over := make(chan struct{}) // a machine that is gone does not even say that it took too long
	defer close(over)
	silent := func(context.Context) error { <-over; return nil }
	gone := func(r *ledgertest.Replica) {
		r.OnStatus = silent
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error { return silent(ctx) }
	}
	electing := func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			return reason.New(reason.NotLeader, "an election is on")
		}
	}
	for name, order := range map[string][]func(*ledgertest.Replica){
		"first": {gone, electing, electing}, "in the middle": {electing, gone, electing}, "last": {electing, electing, gone},
	} {
		var replicas []*ledgertest.Replica
		for i, configure := range order {
			replicas = append(replicas, l.Serve(t, fmt.Sprintf("%s-%d", name, i), configure))
		}
		f := open(t, l, replicas...)
		f.doubt = time.Millisecond
		if name == "last" {
			f.patience, f.ping = time.Hour, time.Hour // the others have said that nobody leads: it is not even waited for whether it says how it is
		}
		ctx := within(t)
		response, err := f.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{{1}}})
		if err == nil || ctx.Err() != nil || rpcerror.IsPermanent(err) || !errors.Is(err, errGone) {
			t.Errorf("gone %s: %v, %v", name, response, err)
		}
	}
}

// A replica that is slow and says that it is well gets the submission alone.
func TestSubmitWaitsForAReplicaThatIsBusy(t *testing.T) {
	l := populated(t)
	pings := make(chan struct{}, 1)
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = func(ctx context.Context) error {
			select {
			case pings <- struct{}{}:
			case <-ctx.Done():
			}
			return nil
		}
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error {
			for range 5 { // it is asked again and again
				select {
				case <-pings:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
	})
	second := l.Serve(t, "second", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			t.Error("a busy replica's submission is handed to another")
			return nil
		}
	})
	f := open(t, l, first, second)
	f.doubt = time.Millisecond
	var leaf []byte
	l.Do(func(n *statetest.Network) {
		leaf = n.Sign(n.MeterRegistration("meter-slow", statetest.Key("slow")), statetest.Body())
	})
	if response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}}); err != nil || !response.GetOutcomes()[0].GetAccepted() {
		t.Errorf("%v, %v", response, err)
	}
}

func report(n *statetest.Network, detail string) *recordv1.EventReport {
	return &recordv1.EventReport{
		NetworkId: n.ID.Bytes(), Reporter: n.Gateway.ID, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE,
		Subject: record.SubjectMeter("meter-01"), Counter: 1, Detail: detail,
	}
}

func TestReporterRecordsOnceAndInTheEnd(t *testing.T) {
	l := populated(t)
	var network *statetest.Network
	l.Do(func(n *statetest.Network) { network = n })
	var calls atomic.Int32
	f := open(t, l, l.Serve(t, "replica", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			if calls.Add(1) <= 2 {
				return reason.New(reason.NotLeader, "an election is on")
			}
			return nil
		}
	}))
	r := NewReporter(f, network.Gateway.Key, quiet)
	for _, detail := range []string{"first", "first", "second"} {
		if err := r.Report(report(network, detail)); err != nil {
			t.Fatal(err)
		}
	}
	stop := start(t, r.Run)
	l.AwaitEvents(within(t), t, 2)
	// What is queued when the node stops is recorded before it has stopped.
	if err := r.Report(report(network, "third")); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := l.Events(t); len(got) != 3 {
		t.Errorf("%d events, want 3: %v", len(got), got)
	}
	for i := range maxReports + 1 {
		if err := r.Report(report(network, "again")); i == maxReports && (reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0) {
			t.Errorf("report %d with nobody to record it: %v", i, err)
		}
	}
}

// A refusal for good is logged and holds nothing up.
func TestReporterGivesUpWhatIsRefused(t *testing.T) {
	l := populated(t)
	var network *statetest.Network
	l.Do(func(n *statetest.Network) { network = n })
	f := open(t, l, l.Serve(t, "replica"))
	r := NewReporter(f, network.Gateway.Key, quiet)
	bad := report(network, "of a stranger")
	bad.Reporter = "nobody"
	for _, e := range []*recordv1.EventReport{bad, report(network, "good")} {
		if err := r.Report(e); err != nil {
			t.Fatal(err)
		}
	}
	start(t, r.Run)
	if got := l.AwaitEvents(within(t), t, 1); got[0].GetDetail() != "good" {
		t.Errorf("recorded %v", got)
	}
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
