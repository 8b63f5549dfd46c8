package state_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// stamped is a certificate of the head with one time stamp for each replica, in
// seconds after genesis.
func stamped(t *testing.T, n *statetest.Network, after ...uint64) []byte {
	t.Helper()
	head := n.Store.Head()
	quorum, err := state.QuorumAt(n.Store, head.Height)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := tlog.Checkpoint{Origin: quorum.Origin(), Size: head.Size, Root: head.Root}
	log, err := tlog.SignLog(n.Replicas[0].Log, checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	var cosignatures []tlog.Cosignature
	for i, s := range after {
		r := n.Replicas[i]
		c, err := tlog.Cosign(r.Cosigner, state.CosignerName(quorum.Origin(), r.ID), checkpoint, statetest.GenesisUnix+s)
		if err != nil {
			t.Fatal(err)
		}
		cosignatures = append(cosignatures, c)
	}
	c, err := tlog.NewCertificate(checkpoint, log, cosignatures)
	if err != nil {
		t.Fatal(err)
	}
	return c.Text()
}

func TestC4_BlockTimeIsTheMedianAndNeverFalls(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	for _, c := range []struct {
		stamps []uint64 // seconds after genesis
		want   int64
	}{
		{[]uint64{5, 9, 7}, 7},
		{[]uint64{1, 1 << 40, 8}, 8}, // one liar, fast
		{[]uint64{1, 9, 8}, 8},       // one liar, slow
		{[]uint64{2, 3, 4}, 8},       // all slow: time stays
		{[]uint64{20, 10, 10}, 10},
	} {
		head := n.Store.Head()
		b, err := state.Begin(n.Store, head, state.Options{}, head.Height, stamped(t, n, c.stamps...))
		if err != nil {
			t.Fatal(err)
		}
		if got := b.BlockTimeUnixNano(); got != (statetest.GenesisUnix+c.want)*second {
			t.Errorf("stamps %v: block time is genesis + %d s, want %d", c.stamps, got/second-statetest.GenesisUnix, c.want)
		}
		n.Apply(b)
	}
}

func TestC4_TimeStaysInRangeWhateverIsSigned(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	head := n.Store.Head()
	huge := uint64(1<<63 - 1 - statetest.GenesisUnix)
	b, err := state.Begin(n.Store, head, state.Options{}, head.Height, stamped(t, n, huge, huge, huge))
	if err != nil || b.BlockTimeUnixNano() < head.BlockTimeUnixNano {
		t.Errorf("block time is %d (%v)", b.BlockTimeUnixNano(), err)
	}
}

func TestC4_CertificateMustBeOfThisLedger(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	head := n.Store.Head()
	good := n.Certificate(head.Height)
	other := statetest.New(t, statetest.Options{Organisations: 5})
	for name, c := range map[string]struct {
		height uint64
		text   []byte
	}{
		"wrong height":        {head.Height - 1, good},
		"above the head":      {head.Height + 1, good},
		"other network":       {0, other.Certificate(0)},
		"too few":             {head.Height, stamped(t, n, 1, 2)},
		"one too many":        {head.Height, stamped(t, n, 1, 2, 3, 4)},
		"not a note":          {head.Height, []byte("certificate")},
		"none for new height": {head.Height, nil},
		"flipped signature":   {head.Height, flipLast(good)},
	} {
		if _, err := state.Begin(n.Store, head, state.Options{}, c.height, c.text); !errors.Is(err, state.ErrBadProposal) {
			t.Errorf("%s: %v, want %v", name, err, state.ErrBadProposal)
		}
	}
	if _, err := state.Begin(n.Store, head, state.Options{}, head.Height, good); err != nil {
		t.Error(err)
	}
}

// flipLast alters the last signature and leaves the base64 canonical.
func flipLast(certificate []byte) []byte {
	at := len(certificate) - 10
	swap := byte('A')
	if certificate[at] == 'A' {
		swap = 'B'
	}
	return []byte(string(certificate[:at]) + string(swap) + string(certificate[at+1:]))
}

func TestC4_OlderCertificateAddsNothing(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.NowUnix += 5
	n.Approve() // block 1 on a certificate of 0
	n.Apply(n.Begin())
	head := n.Store.Head()
	if head.CertifiedHeight != 1 {
		t.Fatalf("head is certified at %d", head.CertifiedHeight)
	}
	b, err := state.Begin(n.Store, head, state.Options{}, 0, []byte("not even read"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := b.Seal()
	if err != nil || sealed.Header.CertifiedHeight != 1 || len(sealed.Header.Certificate) != 0 || sealed.Ref.BlockTimeUnixNano != head.BlockTimeUnixNano {
		t.Errorf("header is %v (%v)", sealed.Header, err)
	}
}

func TestC4_RefreshedCertificateMovesTime(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.NowUnix += 5
	n.Apply(n.Begin())
	head := n.Store.Head() // certified height 0
	n.NowUnix += 5
	b, err := state.Begin(n.Store, head, state.Options{}, 0, n.Certificate(0))
	if err != nil || b.BlockTimeUnixNano() != n.NowUnix*second {
		t.Errorf("block time %d (%v), want %d", b.BlockTimeUnixNano(), err, n.NowUnix*second)
	}
}

func TestC5_BlocksRunAheadOnlySoFar(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	limit := n.Config.Limits.MaxUncertifiedBlocks
	for range limit {
		b, err := state.Begin(n.Store, n.Store.Head(), state.Options{}, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.Apply(b)
	}
	head := n.Store.Head()
	if _, err := state.Begin(n.Store, head, state.Options{}, 0, nil); !errors.Is(err, state.ErrTooFarAhead) {
		t.Errorf("block %d without a certificate: %v", head.Height+1, err)
	}
	if _, err := state.BeginEmpty(n.Store, head, state.Options{}); !errors.Is(err, state.ErrTooFarAhead) {
		t.Errorf("empty block %d without a certificate: %v", head.Height+1, err)
	}
	if _, err := state.Begin(n.Store, head, state.Options{}, 1, n.Certificate(1)); err != nil {
		t.Errorf("with a certificate of height 1: %v", err)
	}
}

func TestC5_EmptyBlockHasAHeaderOnly(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	head := n.Store.Head()
	b, err := state.BeginEmpty(n.Store, head, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if h := sealed.Header; len(sealed.Records) != 1 || h.RecordCount != 0 || h.CertifiedHeight != head.CertifiedHeight || h.BlockTimeUnixNano != head.BlockTimeUnixNano {
		t.Errorf("%d leaves, header %v", len(sealed.Records), h)
	}
}

// Every derived field follows from head, certificate and submissions.
func TestC5_HeaderChainsBlocks(t *testing.T) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture())
	for height := uint64(1); height < uint64(len(n.Store.Blocks)); height++ {
		before, ref := n.Store.Blocks[height-1], n.Store.Blocks[height]
		leaves := n.Store.BlockLeaves(height)
		r, err := record.Parse(leaves[len(leaves)-1])
		if err != nil {
			t.Fatal(err)
		}
		h := r.GetBlockHeader()
		if h.Height != height || !bytes.Equal(h.Previous, before.Header[:]) || h.FirstIndex != before.Size ||
			int(h.RecordCount) != len(leaves)-1 || ref.Size != before.Size+uint64(len(leaves)) {
			t.Errorf("header %d is %v after %+v", height, h, before)
		}
	}
}

// nextConfig is the configuration in force, to be changed and signed.
func nextConfig(n *statetest.Network) *recordv1.NetworkConfig {
	config, err := state.GetConfig(n.Store)
	if err != nil {
		n.TB.Fatal(err)
	}
	c := config.Message
	c.Header = n.Header(record.SubjectNetwork)
	return c
}

func signConfig(n *statetest.Network, c *recordv1.NetworkConfig, newKeys ...crypto.Signer) []byte {
	return n.Sign(c, append([]crypto.Signer{statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")}, newKeys...)...)
}

// joined replaces replica-03 by a newly registered replica-04 and applies the
// configuration that says so.
func joined(t testing.TB, n *statetest.Network) (joining statetest.Replica) {
	t.Helper()
	joining = statetest.NewReplica("replica-04", "org-03")
	n.Accept(n.Sign(n.Registration(joining.Node, 1, [32]byte{}), statetest.Root("org-03"), joining.Key))
	c := nextConfig(n)
	c.Replicas[3] = joining.Message()
	n.Accept(signConfig(n, c, joining.Cosigner, joining.Log))
	return joining
}

func TestC6_ChangeNeedsBothQuorums(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	joining := joined(t, n)
	old := n.Replicas
	head := n.Store.Head()
	if _, err := state.BeginEmpty(n.Store, head, state.Options{}); !errors.Is(err, state.ErrTooFarAhead) {
		t.Errorf("empty block on an uncertified change: %v", err)
	}
	if _, err := state.Begin(n.Store, head, state.Options{}, head.Height-1, n.Certificate(head.Height-1)); !errors.Is(err, state.ErrTooFarAhead) {
		t.Errorf("block on the certificate before the change: %v", err)
	}
	try := func(replicas ...statetest.Replica) error {
		quorum, err := state.QuorumAt(n.Store, head.Height)
		if err != nil {
			t.Fatal(err)
		}
		checkpoint := tlog.Checkpoint{Origin: quorum.Origin(), Size: head.Size, Root: head.Root}
		log, _ := tlog.SignLog(replicas[0].Log, checkpoint)
		var all []tlog.Cosignature
		for _, r := range replicas {
			c, err := tlog.Cosign(r.Cosigner, state.CosignerName(quorum.Origin(), r.ID), checkpoint, uint64(n.NowUnix))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		certificate, err := tlog.NewCertificate(checkpoint, log, all)
		if err != nil {
			t.Fatal(err)
		}
		_, err = state.Begin(n.Store, head, state.Options{}, head.Height, certificate.Text())
		return err
	}
	if err := try(old[0], old[1], old[3]); !errors.Is(err, state.ErrBadProposal) {
		t.Errorf("q of the old only: %v", err)
	}
	if err := try(old[0], old[1], joining); !errors.Is(err, state.ErrBadProposal) {
		t.Errorf("q of the new only: %v", err)
	}
	if err := try(old[0], old[1], old[2], joining); !errors.Is(err, state.ErrBadProposal) {
		t.Errorf("both with one to spare: %v", err)
	}
	if err := try(old[0], old[1], old[2]); err != nil {
		t.Errorf("three that are of both: %v", err)
	}
	if err := try(old[0], old[1], old[3], joining); err != nil {
		t.Errorf("two of both, one old, one new: %v", err)
	}
	n.Replicas = []statetest.Replica{old[0], old[1], old[2], joining}
	n.Apply(n.Begin())
	// From here the old replica counts no more.
	head = n.Store.Head()
	if err := try(old[0], old[1], old[3]); !errors.Is(err, state.ErrBadProposal) {
		t.Errorf("the replica that left still counts: %v", err)
	}
	if err := try(old[0], old[1], joining); err != nil {
		t.Errorf("the new quorum: %v", err)
	}
}

func TestC6_ConfigurationIsAloneInItsBlock(t *testing.T) {
	n, m := ready(t)
	change := signConfig(n, nextConfig(n))
	revoke := n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/gateway-00"), NodeId: "gateway-00"}, statetest.Root("org-00"))
	parsed := statetest.Parse([][]byte{change}, nil)
	if !parsed.IsNetworkConfig() || statetest.Parse([][]byte{revoke}, nil).IsNetworkConfig() {
		t.Error("IsNetworkConfig is wrong")
	}

	b := n.Begin()
	o1, _ := b.Submit(statetest.Parse([][]byte{revoke}, nil))
	o2, _ := b.Submit(parsed)
	wantReason(t, o1[0], "")
	wantReason(t, o2[0], reason.WrongPlace)

	batch := n.Batch(m.Capture())
	b = n.Begin()
	o1, _ = b.Submit(parsed)
	o2, _ = b.Submit(statetest.Parse([][]byte{revoke}, nil))
	o3, _ := b.Submit(statetest.Parse(batch.Records(), batch.Raw))
	wantReason(t, o1[0], "")
	wantReason(t, o2[0], reason.WrongPlace)
	wantReason(t, o3[0], reason.WrongPlace)
	wantReason(t, o3[1], reason.WrongPlace)
	sealed, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	n.Store.Apply(sealed)
	n.Apply(n.Begin())
	// The measurement names the configuration before: it must be made anew.
	wantReason(t, try(t, n, batch.Records(), batch.Raw)[1], reason.StaleConfig)
}

func TestC6_QuorumArithmetic(t *testing.T) {
	for replicas := 1; replicas <= 10; replicas++ {
		faulty := (replicas - 1) / 3
		for q := 0; q <= replicas+1; q++ {
			want := 2*q-replicas > faulty && q <= replicas-faulty
			n := &statetest.Network{TB: t, NowUnix: statetest.GenesisUnix}
			full := statetest.New(t, statetest.Options{Organisations: replicas})
			*n = *full
			n.Config.Quorum = uint32(q)
			_, err := state.Genesis(n.GenesisRecords(), statetest.GenesisUnix*second, state.Options{Verifier: yes{}})
			if (err == nil) != want {
				t.Errorf("quorum %d of %d: %v, want accepted %v", q, replicas, err, want)
			}
		}
	}
}

// yes says that every signature is good; for tests of what comes after.
type yes struct{}

func (yes) Verify(signature.Kind, signature.Key, []byte, []byte) bool { return true }

func TestC6_PoliciesOfAQuorum(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	quorum, err := state.QuorumAt(n.Store, 0)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := quorum.Policies()
	if err != nil || len(policies) != 1 {
		t.Fatalf("%d policies (%v)", len(policies), err)
	}
	c, err := tlog.ParseCertificate(n.Certificate(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := policies[0].Check(signature.Direct{}, c); err != nil {
		t.Errorf("the C2SP policy refuses what the quorum accepts: %v", err)
	}
	joined(t, n)
	quorum, err = state.QuorumAt(n.Store, n.Store.Head().Height)
	if err != nil {
		t.Fatal(err)
	}
	if policies, err = quorum.Policies(); err != nil || len(policies) != 2 || strings.Contains(string(policies[0].Text()), "replica-04") || !strings.Contains(string(policies[1].Text()), "replica-04") {
		t.Errorf("old and new policies are %v (%v)", policies, err)
	}
}

// listed answers only checks that were listed, and counts how often it is asked.
type listed struct {
	known []string
	asked int
}

func (l *listed) add(key, message, sig []byte) {
	l.known = append(l.known, string(key)+"|"+string(message)+"|"+string(sig))
}

func (l *listed) Verify(_ signature.Kind, key signature.Key, message, sig []byte) bool {
	l.asked++
	return slices.Contains(l.known, string(key.Bytes())+"|"+string(message)+"|"+string(sig))
}
