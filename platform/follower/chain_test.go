package follower

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

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
	"github.com/lacre-metrology/lacre/platform/ledgertest"
)

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
