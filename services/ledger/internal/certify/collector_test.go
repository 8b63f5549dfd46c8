package certify

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// view is a ledger in memory as a collector of one of its replicas reads it.
type view struct {
	*statetest.Store
	self string
}

func (v view) QuorumAt(height uint64) (*state.Quorum, bool, error) {
	q, err := state.QuorumAt(v.Store, height)
	config, _ := state.GetConfig(v.Store)
	member := config.Replica(v.self) != nil
	if config.Previous != nil && height <= config.Height {
		member = slices.ContainsFunc(config.Previous.GetReplicas(), func(r *recordv1.Replica) bool { return r.GetNodeId() == v.self })
	}
	return q, member, err
}

func (v view) RootAt(size uint64) (digest.Digest, error) {
	if size > uint64(len(v.Hashes)) {
		return digest.Zero, errors.New("above the tree")
	}
	return tlog.RootOf(v.Hashes[:size]), nil
}

// gathering is a collector of replica-00 beside a network in memory.
type gathering struct {
	t         *testing.T
	n         *statetest.Network
	collector *Collector
	kept      []Certified
	alarms    []*DivergenceError
	doubles   []*DoubleSignError
	outvoted  []error
}

func gather(t *testing.T, n *statetest.Network, self string) *gathering {
	g := &gathering{t: t, n: n}
	g.collector = NewCollector(state.CosignerName(g.origin(), self), Certified{Block: n.Store.Head()}, view{n.Store, self}, signature.Direct{},
		func(c Certified) { g.kept = append(g.kept, c) }, Alarms{
			Diverged:     func(d *DivergenceError) { g.alarms = append(g.alarms, d) },
			DoubleSigned: func(d *DoubleSignError) { g.doubles = append(g.doubles, d) },
			Outvoted:     func(err error) { g.outvoted = append(g.outvoted, err) },
		})
	return g
}

func (g *gathering) origin() string {
	config, err := state.GetConfig(g.n.Store)
	if err != nil {
		g.t.Fatal(err)
	}
	return config.Origin()
}

// signed is a replica's word on a block of that size and root.
func (g *gathering) signed(r statetest.Replica, block state.BlockRef) Signed {
	g.t.Helper()
	checkpoint := tlog.Checkpoint{Origin: g.origin(), Size: block.Size, Root: block.Root}
	log, err := tlog.SignLog(r.Log, checkpoint)
	if err != nil {
		g.t.Fatal(err)
	}
	cosignature, err := tlog.Cosign(r.Cosigner, state.CosignerName(g.origin(), r.ID), checkpoint, uint64(g.n.NowUnix))
	if err != nil {
		g.t.Fatal(err)
	}
	return Signed{Height: block.Height, Checkpoint: checkpoint, Log: log, Cosignature: cosignature}
}

func (g *gathering) applied(block state.BlockRef, own *Signed) {
	g.t.Helper()
	if err := g.collector.Applied(block, own); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gathering) receive(s Signed) {
	g.t.Helper()
	if err := g.collector.Receive(s); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gathering) certified(height uint64) {
	g.t.Helper()
	newest := g.collector.Newest()
	if newest.Block.Height != height || len(newest.Text) == 0 {
		g.t.Fatalf("certified is %d with %d bytes of certificate, want %d", newest.Block.Height, len(newest.Text), height)
	}
	certificate, err := tlog.ParseCertificate(newest.Text)
	if err != nil {
		g.t.Fatal(err)
	}
	quorum, err := state.QuorumAt(g.n.Store, height)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := quorum.Check(signature.Direct{}, certificate); err != nil {
		g.t.Fatal(err)
	}
}

func TestQuorumCertifiesWhateverTheOrder(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	r := n.Replicas
	block := n.Apply(n.Begin())
	// Two come before this replica has the block, one of them twice.
	g.receive(g.signed(r[3], block))
	g.receive(g.signed(r[1], block))
	g.receive(g.signed(r[1], block))
	if g.collector.Newest().Block.Height != 0 {
		t.Fatal("a block is certified that is not applied here (rule C2)")
	}
	own := g.signed(r[0], block)
	g.applied(block, &own)
	g.certified(1)
	first := g.collector.Newest()
	// A late one changes nothing but what is seen of its signer.
	g.receive(g.signed(r[2], block))
	if got := g.collector.Seen(state.CosignerName(g.origin(), "replica-02")); got != 1 {
		t.Errorf("seen of replica-02 is %d, want 1", got)
	}
	n.NowUnix += 9
	for _, each := range r[1:] {
		g.receive(g.signed(each, block))
	}
	if got := g.collector.Newest(); !bytes.Equal(got.Text, first.Text) || len(g.kept) != 1 {
		t.Error("the first certificate of a height is replaced")
	}
	if got := Time(g.collector.Fresh().Text); got != uint64(n.NowUnix) {
		t.Errorf("fresh certificate is of %d, want %d", got, n.NowUnix)
	}
}

// A cosignature far behind the newest certificate still counts for rule C7 and
// is still compared.
func TestC7_LateCosignaturesAreSeen(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	var old state.BlockRef
	for i := range 3 {
		block := n.Apply(n.Begin())
		own := g.signed(n.Replicas[0], block)
		g.applied(block, &own)
		g.receive(g.signed(n.Replicas[1], block))
		g.receive(g.signed(n.Replicas[2], block))
		if i == 0 {
			old = block
		}
	}
	g.certified(3)
	g.receive(g.signed(n.Replicas[3], old))
	if got := g.collector.Seen(state.CosignerName(g.origin(), "replica-03")); got != 1 {
		t.Errorf("seen is %d, want 1", got)
	}
	forged := old
	forged.Root[0] ^= 1
	var divergence *DivergenceError
	if err := g.collector.Receive(g.signed(n.Replicas[3], forged)); !errors.As(err, &divergence) || len(g.alarms) != 1 {
		t.Errorf("a late divergent cosignature: %v, %d alarms", err, len(g.alarms))
	}
}

func TestDivergentCosignatureRaisesOneAlarmWithBothSides(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	future := n.Clone(t)
	block := future.Apply(future.Begin())
	other := block
	other.Root = digest.Plain([]byte("another tree"))
	g.receive(g.signed(n.Replicas[1], other)) // nothing to compare with yet
	n.Apply(n.Begin())
	own := g.signed(n.Replicas[0], block)
	g.applied(block, &own)
	if len(g.alarms) != 1 || g.alarms[0].Theirs.Checkpoint.Root != other.Root || g.alarms[0].OurRoot != block.Root || g.alarms[0].Ours != block {
		t.Fatalf("alarms are %+v", g.alarms)
	}
	n.NowUnix++ // refreshed
	if err := g.collector.Receive(g.signed(n.Replicas[1], other)); err == nil {
		t.Error("a divergent cosignature is taken")
	}
	if len(g.alarms) != 1 {
		t.Errorf("%d alarms for one tree", len(g.alarms))
	}
	// The same signature under a wrong height proves nothing.
	mislabelled := g.signed(n.Replicas[2], block)
	mislabelled.Height = 0
	if err := g.collector.Receive(mislabelled); !errors.Is(err, errMislabelled) || len(g.alarms) != 1 {
		t.Errorf("a wrong height: %v, %d alarms", err, len(g.alarms))
	}
	// A tree of another size is compared with this replica's own at that size.
	shorter := other
	shorter.Size--
	if err := g.collector.Receive(g.signed(n.Replicas[3], shorter)); err == nil || len(g.alarms) != 2 {
		t.Errorf("another size: %v, %d alarms", err, len(g.alarms))
	}
	g.receive(g.signed(n.Replicas[2], block))
	if g.collector.Newest().Block.Height != 0 {
		t.Error("a divergent voice counts for the quorum")
	}
	g.receive(g.signed(n.Replicas[3], block))
	g.certified(1)
}

func TestReceiveRefusesForgeries(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	block := n.Apply(n.Begin())
	g.applied(block, nil)
	stranger := g.signed(statetest.NewReplica("replica-09", "org-01"), block)
	if err := g.collector.Receive(stranger); reason.Of(err) != reason.NotAuthorised {
		t.Errorf("a stranger: %v", err)
	}
	forged := g.signed(n.Replicas[1], block)
	forged.Cosignature.TimestampUnix++
	if err := g.collector.Receive(forged); reason.Of(err) != reason.BadSignature {
		t.Errorf("a changed time stamp: %v", err)
	}
	far := block
	far.Height += ahead + 1
	if err := g.collector.Receive(g.signed(n.Replicas[1], far)); err != nil || len(g.collector.blocks) > 2 {
		t.Errorf("far ahead: %v, %d heights kept", err, len(g.collector.blocks))
	}
}

// A replica that keeps quiet learns of certificates all the same: otherwise it
// could neither lead nor become ready.
func TestC7_QuietReplicaStillCertifies(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	block := n.Apply(n.Begin())
	for _, r := range n.Replicas[1:] {
		g.receive(g.signed(r, block))
	}
	g.applied(block, nil)
	g.certified(1)
}

func TestC6_BothQuorumsCertifyAChange(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	old := n.Replicas
	joining := statetest.NewReplica("replica-04", "org-03")
	n.Accept(n.Sign(n.Registration(joining.Node, 1, digest.Zero), statetest.Root("org-03"), joining.Key))
	base := gather(t, n, "replica-00")
	atJoiner := gather(t, n, joining.ID)
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	config.Message.Header = n.Header(record.SubjectNetwork)
	config.Message.Replicas[3] = joining.Message()
	n.Accept(n.Sign(config.Message, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), joining.Cosigner, joining.Log))
	change := n.Store.Head()
	for _, g := range []*gathering{base, atJoiner} {
		own := g.signed(old[0], change)
		if g == atJoiner {
			own = g.signed(joining, change)
		}
		g.applied(change, &own)
		for _, r := range []statetest.Replica{old[0], old[1], old[3]} {
			g.receive(g.signed(r, change))
		}
		if g == base && g.collector.Newest().Block.Height == change.Height {
			t.Fatal("three of the old set certify a change that the new set has not cosigned")
		}
		g.receive(g.signed(joining, change))
		g.certified(change.Height)
	}
	// The joining replica's log key is not known to whoever knows the old set.
	certificate, err := tlog.ParseCertificate(atJoiner.collector.Newest().Text)
	if err != nil {
		t.Fatal(err)
	}
	quorum, err := state.QuorumAt(n.Store, change.Height)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := quorum.Policies()
	if err != nil {
		t.Fatal(err)
	}
	single, err := policies[0].Assemble(certificate.Checkpoint, certificate.Log, certificate.Cosignatures)
	if err == nil {
		err = policies[0].Check(signature.Direct{}, single)
	}
	if err != nil {
		t.Errorf("a verifier of the old set refuses the joining replica's certificate: %v", err)
	}
}

func TestC3_WaitReturnsWithTheCertificateOrNotAtAll(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	g := gather(t, n, "replica-00")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.collector.Wait(ended, 0); reason.Of(err) != reason.NotCertified {
		t.Errorf("the genesis block has no certificate yet: %v", err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := g.collector.Wait(context.Background(), 1)
		waited <- err
	}()
	block := n.Apply(n.Begin())
	own := g.signed(n.Replicas[0], block)
	g.applied(block, &own)
	g.receive(g.signed(n.Replicas[1], block))
	select {
	case err := <-waited:
		t.Fatalf("returned with %v before the quorum", err)
	default:
	}
	g.receive(g.signed(n.Replicas[2], block))
	if err := <-waited; err != nil {
		t.Error(err)
	}
}
