package certify

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// A leader that gave this replica other entries than the rest cannot be seen in
// Raft, only in what a quorum signs: then this replica's own history is wrong. The
// trees can be of another size, so that no roots can be compared.
func TestAReplicaThatAQuorumContradictsIsToldSo(t *testing.T) {
	for name, change := range map[string]func(*state.BlockRef){
		"another root": func(b *state.BlockRef) { b.Root = digest.Plain([]byte("another tree")) },
		"larger": func(b *state.BlockRef) {
			b.Size += 3
			b.Root = digest.Plain([]byte("a larger tree"))
		},
		"smaller": func(b *state.BlockRef) {
			b.Size--
			b.Root = digest.Plain([]byte("a smaller tree"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := statetest.New(t, statetest.Options{})
			g := gather(t, n, "replica-00")
			block := n.Apply(n.Begin())
			own := g.signed(n.Replicas[0], block)
			g.applied(block, &own)
			other := block
			change(&other)
			for _, r := range n.Replicas[1:3] {
				if err := g.collector.Receive(g.signed(r, other)); err == nil {
					t.Errorf("%s's signature is taken", r.ID)
				}
			}
			third := other
			third.Root[0] ^= 1
			if err := g.collector.Receive(g.signed(n.Replicas[3], third)); err == nil || len(g.outvoted) != 0 {
				t.Fatalf("%v; told of %v before a quorum said the same", err, g.outvoted)
			}
			for range 2 {
				if err := g.collector.Receive(g.signed(n.Replicas[3], other)); err == nil {
					t.Error("the third signature is taken")
				}
			}
			if len(g.outvoted) != 1 || reason.Of(g.outvoted[0]) != reason.DataLoss {
				t.Errorf("told of %v, want DATA_LOSS once", g.outvoted)
			}
		})
	}
}

// A certificate that a proposal carried is judged by what the quorum signed, never
// by the height that the proposer says: else one liar could end every replica.
func TestARefusedCertificateIsJudgedByItsTree(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	first := n.Apply(n.Begin())
	g.applied(first, nil)
	second := n.Apply(n.Begin())
	g.applied(second, nil)
	certificate := func(change func(*state.BlockRef), replicas ...statetest.Replica) []byte {
		block := second
		change(&block)
		quorum, err := state.QuorumAt(n.Store, block.Height)
		if err != nil {
			t.Fatal(err)
		}
		var all []tlog.Cosignature
		for _, r := range replicas {
			all = append(all, g.signed(r, block).Cosignature)
		}
		s := g.signed(replicas[0], block)
		if made, err := quorum.Assemble(s.Checkpoint, s.Log, all); err == nil {
			return made.Text()
		}
		made, err := tlog.NewCertificate(s.Checkpoint, s.Log, all)
		if err != nil {
			t.Fatal(err)
		}
		return made.Text()
	}
	of := func(block state.BlockRef) func(*state.BlockRef) {
		return func(b *state.BlockRef) { *b = block }
	}
	another := func(b *state.BlockRef) { b.Root = digest.Plain([]byte("another tree")) }
	for _, harmless := range []struct {
		height uint64
		text   []byte
	}{
		{2, []byte("none")},
		{2, certificate(of(first), n.Replicas[1:]...)},  // of this history, under another block's height
		{1, certificate(of(second), n.Replicas[1:]...)}, // and the other way
		{1 << 40, certificate(of(second), n.Replicas[1:]...)},
		{2, certificate(another, n.Replicas[2:]...)}, // by two
	} {
		if err := g.collector.Refused(harmless.height, harmless.text); err != nil || len(g.outvoted) != 0 {
			t.Fatalf("%s\n%v, told of %v", harmless.text, err, g.outvoted)
		}
	}
	for range 2 {
		if err := g.collector.Refused(1, certificate(another, n.Replicas[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.outvoted) != 1 || reason.Of(g.outvoted[0]) != reason.DataLoss {
		t.Errorf("told of %v, want DATA_LOSS once", g.outvoted)
	}
}

// One replica that signs two trees is named once, with both signatures; one that
// signs another tree and nothing of this one may be honest.
func TestC1_ADoubleSignerIsNamedWithBothSignatures(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	block := n.Apply(n.Begin())
	own := g.signed(n.Replicas[0], block)
	g.applied(block, &own)
	other := block
	other.Root = digest.Plain([]byte("another tree"))
	liar := n.Replicas[1]
	if err := g.collector.Receive(g.signed(liar, other)); err == nil || len(g.doubles) != 0 {
		t.Fatalf("%v; blamed %v after one signature", err, g.doubles)
	}
	n.NowUnix++
	g.receive(g.signed(liar, block))
	if len(g.doubles) != 1 {
		t.Fatalf("blamed %d times, want once", len(g.doubles))
	}
	d := g.doubles[0]
	quorum, err := state.QuorumAt(n.Store, block.Height)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := quorum.Cosigner(state.CosignerName(g.origin(), liar.ID))
	for _, s := range []Signed{d.Agreed, d.Other} {
		if err := s.Cosignature.Verify(signature.Direct{}, key, s.Checkpoint); err != nil {
			t.Errorf("the evidence does not verify: %v", err)
		}
	}
	if d.Agreed.Checkpoint.Size != d.Other.Checkpoint.Size || d.Agreed.Checkpoint.Root == d.Other.Checkpoint.Root || d.OurRoot != block.Root {
		t.Errorf("the signatures do not exclude each other: %v", d)
	}
	for range 2 {
		n.NowUnix++
		_ = g.collector.Receive(g.signed(liar, other))
		g.receive(g.signed(liar, block))
	}
	if len(g.doubles) != 1 {
		t.Errorf("blamed %d times for the same", len(g.doubles))
	}
	if len(g.outvoted) != 0 {
		t.Errorf("one liar outvotes: %v", g.outvoted)
	}

	// A smaller tree that agrees excludes nothing: the fork may begin behind it.
	honest := n.Replicas[2]
	g.receive(g.signed(honest, block))
	next := n.Apply(n.Begin())
	mine := g.signed(n.Replicas[0], next)
	g.applied(next, &mine)
	forked := next
	forked.Root = digest.Plain([]byte("a fork behind it"))
	if err := g.collector.Receive(g.signed(honest, forked)); err == nil || len(g.doubles) != 1 {
		t.Errorf("%v; a fork is taken for double signing: %v", err, g.doubles)
	}
}
