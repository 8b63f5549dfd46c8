package governance_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// decided is a network that was changed and then let the raw vectors of its first
// block expire, and the proof of that.
func decided(t *testing.T) (*changed, *recordv1.ProvenExpiry) {
	t.Helper()
	c := newChanged(t)
	c.change(func(m *recordv1.NetworkConfig) { m.Limits.RawVectorRetentionNano = statetest.Second })
	c.NowUnix += 2
	c.Apply(c.Begin())
	index := c.Accept(c.Expiry(1, "org-00", "org-02", "org-03"))
	return c, &recordv1.ProvenExpiry{
		Configurations: c.history, Decision: (&receipttest.Network{Network: c.Network}).Prove(index),
		Certificate: c.Certificate(c.Store.Head().Height, c.Replicas[1:]...),
	}
}

func TestS4_AnExpiryIsProvenFromTheFoundingBundle(t *testing.T) {
	c, p := decided(t)
	for i, pinned := range c.pinned {
		got, err := governance.VerifyExpiry(p, pinned)
		if err != nil || got.GetBelowHeight() != 1 || got.GetRule() != "storage limitation" {
			t.Errorf("from the bundle after %d changes: %v (%v)", i, got, err)
		}
	}
	b, err := governance.EncodeExpiry(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := governance.ParseExpiry(b)
	if err != nil || !proto.Equal(again, p) {
		t.Errorf("it came back otherwise (%v)", err)
	}
}

func TestS4_AnExpiryIsBelievedInNothing(t *testing.T) {
	c, proven := decided(t)
	prover := &receipttest.Network{Network: c.Network}
	for name, x := range map[string]struct {
		change func(p *recordv1.ProvenExpiry)
		says   string
	}{
		"nothing":                {func(p *recordv1.ProvenExpiry) { proto.Reset(p) }, "0 configurations"},
		"no certificate":         {func(p *recordv1.ProvenExpiry) { p.Certificate = nil }, "certificate"},
		"an altered certificate": {func(p *recordv1.ProvenExpiry) { p.Certificate[len(p.Certificate)-40] ^= 1 }, ""},
		"the replicas before":    {func(p *recordv1.ProvenExpiry) { p.Configurations.Configurations = p.Configurations.Configurations[:1] }, "replica-04"},
		"an older tree": {func(p *recordv1.ProvenExpiry) {
			p.Certificate = c.Certificate(c.Store.Head().Height-1, c.Replicas[1:]...)
		}, ""},
		"another proof":            {func(p *recordv1.ProvenExpiry) { p.Decision.Proof[0][3] ^= 1 }, ""},
		"another leaf":             {func(p *recordv1.ProvenExpiry) { p.Decision.Record[len(p.Decision.Record)-1] ^= 1 }, ""},
		"another statement":        {func(p *recordv1.ProvenExpiry) { p.Decision = prover.Prove(0) }, "network-config"},
		"no statement":             {func(p *recordv1.ProvenExpiry) { p.Decision = prover.Prove(c.Store.Head().Size - 1) }, "type"},
		"a decision not certified": {func(p *recordv1.ProvenExpiry) { p.Decision.Record = c.Expiry(2, "org-00", "org-02", "org-03") }, ""},
	} {
		p := proto.CloneOf(proven)
		x.change(p)
		got, err := governance.VerifyExpiry(p, c.pinned[0])
		if !errors.Is(err, governance.ErrExpiry) || !strings.Contains(err.Error(), x.says) || got != nil {
			t.Errorf("%s: %v, want %q", name, err, x.says)
		}
	}
}

// A quorum that certifies a decision which no majority signed convinces nobody.
func TestS4_ACertifiedExpiryStillTakesAMajority(t *testing.T) {
	c, p := decided(t)
	leaf := c.Expiry(2, "org-00", "org-01")
	head := c.Store.Head()
	ref := head
	ref.Height, ref.FirstIndex, ref.Size = head.Height+1, head.Size, head.Size+1
	c.Store.Apply(&state.Sealed{Records: [][]byte{leaf}, LeafHashes: []digest.Digest{tlog.LeafHash(leaf)}, Ref: ref})
	p.Decision = (&receipttest.Network{Network: c.Network}).Prove(head.Size)
	p.Certificate = c.Certificate(ref.Height, c.Replicas[1:]...)
	if got, err := governance.VerifyExpiry(p, c.pinned[0]); got != nil || !errors.Is(err, governance.ErrExpiry) || !strings.Contains(err.Error(), "1 signatures of the 4 root keys in force are missing") {
		t.Errorf("two of four: %v, %v", got, err)
	}
}

// TestGoldenExpiry fixes the proof of a decision, for another implementer.
func TestGoldenExpiry(t *testing.T) {
	c, p := decided(t)
	b, err := governance.EncodeExpiry(p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(p.Decision.Record)
	if err != nil {
		t.Fatal(err)
	}
	golden.JSON(t, "expiry.json", map[string]any{
		"pinned": string(c.pinned[0].Bytes()), "proof": b, "decision": r.GetStatement().GetPayload(),
		"digest": record.ToEnvelope(r.GetStatement()).Digest(),
	})
}

func FuzzParseExpiry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x00, 0x12, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := governance.ParseExpiry(b)
		if err != nil {
			return
		}
		again, err := governance.EncodeExpiry(p)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x (%v)", b, again, err)
		}
	})
}
