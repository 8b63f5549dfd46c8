package governance_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
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
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// changed is a network that was changed twice: other limits, then another replica.
type changed struct {
	*statetest.Network
	history *recordv1.ConfigurationHistory
	pinned  []*trust.Bundle // after the founding and after each change
}

func newChanged(t *testing.T) *changed {
	n := statetest.New(t, statetest.Options{})
	c := &changed{Network: n, history: &recordv1.ConfigurationHistory{}}
	c.note(0, n.Replicas...)
	c.change(func(m *recordv1.NetworkConfig) { m.Limits.MaxMissingRanges++ })
	joining := statetest.NewReplica("replica-04", "org-03")
	c.Accept(c.Sign(c.Registration(joining.Node, 1, digest.Zero), statetest.Root("org-03"), joining.Key))
	old := n.Replicas
	c.change(func(m *recordv1.NetworkConfig) { m.Replicas[3] = joining.Message() }, joining.Cosigner, joining.Log)
	n.Replicas = []statetest.Replica{old[0], old[1], old[2], joining}
	c.Apply(c.Begin())
	return c
}

func (c *changed) change(f func(*recordv1.NetworkConfig), newKeys ...crypto.Signer) {
	c.TB.Helper()
	config, err := state.GetConfig(c.Store)
	if err != nil {
		c.TB.Fatal(err)
	}
	m := config.Message
	m.Header = c.Header(record.SubjectNetwork)
	f(m)
	index := c.Accept(c.Sign(m, append([]crypto.Signer{statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")}, newKeys...)...))
	c.note(index, c.Replicas[:3]...)
}

// note proves the configuration of the newest block by these replicas, and the
// bundle that a verifier has then.
func (c *changed) note(index uint64, replicas ...statetest.Replica) {
	c.TB.Helper()
	head := c.Store.Head()
	c.history.Configurations = append(c.history.Configurations, &recordv1.CertifiedConfiguration{
		Configuration: (&receipttest.Network{Network: c.Network}).Prove(index), Certificate: c.Certificate(head.Height, replicas...),
	})
	config, err := state.GetConfig(c.Store)
	if err != nil {
		c.TB.Fatal(err)
	}
	policy, err := state.PolicyOf(config.Message, c.ID)
	if err != nil {
		c.TB.Fatal(err)
	}
	var bundle *trust.Bundle
	if len(c.pinned) == 0 {
		bundle, err = trust.New(trust.Epoch{Policy: policy})
	} else {
		bundle, err = c.pinned[len(c.pinned)-1].Extend(head.Size, policy)
	}
	if err != nil {
		c.TB.Fatal(err)
	}
	c.pinned = append(c.pinned, bundle)
}

func TestC6_AHistoryExtendsEveryPinnedBundle(t *testing.T) {
	c := newChanged(t)
	newest := c.pinned[2]
	for i, pinned := range c.pinned {
		got, err := governance.Verify(c.history, pinned)
		if err != nil {
			t.Fatalf("from the bundle after %d changes: %v", i, err)
		}
		if got.Trust.Digest() != newest.Digest() || got.NetworkID != c.ID || got.InForce().Digest != c.Store.Head().Config {
			t.Errorf("from the bundle after %d changes: %s, want %s; in force %s", i, got.Trust.Digest(), newest.Digest(), got.InForce().Digest.Short())
		}
	}
	b, err := governance.Encode(c.history)
	if err != nil {
		t.Fatal(err)
	}
	again, err := governance.Parse(b)
	if err != nil || !proto.Equal(again, c.history) {
		t.Errorf("the history came back otherwise (%v)", err)
	}
}

func TestC6_AHistoryIsBelievedInNothing(t *testing.T) {
	c := newChanged(t)
	other := statetest.New(t, statetest.Options{Organisations: 5})
	otherPolicy, err := state.PolicyOf(other.Config, c.ID) // the same origin, other replicas
	if err != nil {
		t.Fatal(err)
	}
	epoch := func(i int) trust.Epoch { return c.pinned[2].Epochs()[i] }
	bundle := func(epochs ...trust.Epoch) *trust.Bundle {
		b, err := trust.New(epochs...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	moved := epoch(0)
	moved.LastSize++
	for name, x := range map[string]struct {
		pinned *trust.Bundle
		change func(h *recordv1.ConfigurationHistory)
		want   error
		says   string
	}{
		"empty":                 {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations = nil }, governance.ErrHistory, "0 configurations"},
		"the first missing":     {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations = h.Configurations[1:] }, governance.ErrHistory, "sequence is 2, want 1"},
		"one missing":           {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations = slices.Delete(h.Configurations, 1, 2) }, governance.ErrHistory, "sequence is 3, want 2"},
		"older than the bundle": {c.pinned[2], func(h *recordv1.ConfigurationHistory) { h.Configurations = h.Configurations[:2] }, governance.ErrGap, "3 epochs, the history gives 2"},
		"a signature missing":   {c.pinned[0], func(h *recordv1.ConfigurationHistory) { resign(t, c, h, 1) }, governance.ErrHistory, "1 signatures of the 4 root keys in force are missing"},
		"another leaf's proof":  {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations[2].Configuration.Proof[0][0] ^= 1 }, governance.ErrHistory, "configuration 3"},
		"another index":         {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations[2].Configuration.Index-- }, governance.ErrHistory, "configuration 3"},
		"the certificate before": {c.pinned[0], func(h *recordv1.ConfigurationHistory) {
			h.Configurations[2].Certificate = h.Configurations[1].Certificate
		}, governance.ErrHistory, "configuration 3"},
		"the old quorum only":      {c.pinned[0], func(h *recordv1.ConfigurationHistory) { h.Configurations[2].Certificate = onlyOld(t, c) }, governance.ErrHistory, "cosignatures that configuration 3 needs"},
		"another network":          {bundle(trust.Epoch{Policy: mustPolicy(t, other)}), func(*recordv1.ConfigurationHistory) {}, governance.ErrHistory, "the trust bundle is of"},
		"other first replicas":     {bundle(trust.Epoch{Policy: otherPolicy}), func(*recordv1.ConfigurationHistory) {}, governance.ErrHistory, "configuration 1"},
		"an epoch that ends later": {bundle(moved, epoch(1)), func(*recordv1.ConfigurationHistory) {}, governance.ErrFork, "epoch 0 ends at size"},
		"another second epoch":     {bundle(epoch(0), trust.Epoch{Policy: otherPolicy}), func(*recordv1.ConfigurationHistory) {}, governance.ErrFork, "epoch 1 is certified by"},
	} {
		h := proto.CloneOf(c.history)
		x.change(h)
		got, err := governance.Verify(h, x.pinned)
		if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) || got != nil {
			t.Errorf("%s: %v, want %v with %q", name, err, x.want, x.says)
		}
	}
}

func mustPolicy(t *testing.T, n *statetest.Network) *tlog.Policy {
	p, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// resign leaves out one root key's signature of a configuration. The proof is then
// of another leaf, but whose signatures are missing is said first.
func resign(t *testing.T, c *changed, h *recordv1.ConfigurationHistory, i int) {
	t.Helper()
	r, err := record.Parse(h.Configurations[i].Configuration.Record)
	if err != nil {
		t.Fatal(err)
	}
	r.GetStatement().Signatures = r.GetStatement().Signatures[1:]
	if h.Configurations[i].Configuration.Record, err = record.Encode(r); err != nil {
		t.Fatal(err)
	}
}

// onlyOld certifies the second change by replicas of which too few are new.
func onlyOld(t *testing.T, c *changed) []byte {
	t.Helper()
	certificate, err := tlog.ParseCertificate(c.history.Configurations[2].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	quorum, err := state.ChangeQuorum(c.ID, nil, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	var signed []tlog.Cosignature
	for _, r := range []statetest.Replica{c.Replicas[0], c.Replicas[1], statetest.NewReplica("replica-03", "org-03")} {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(quorum.Origin(), r.ID), certificate.Checkpoint, uint64(c.NowUnix))
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, s)
	}
	made, err := tlog.NewCertificate(certificate.Checkpoint, certificate.Log, signed)
	if err != nil {
		t.Fatal(err)
	}
	return made.Text()
}

// TestGoldenConfigurations fixes a history of two changes, and the bundle that it
// makes of the founding one.
func TestGoldenConfigurations(t *testing.T) {
	c := newChanged(t)
	b, err := governance.Encode(c.history)
	if err != nil {
		t.Fatal(err)
	}
	golden.JSON(t, "configurations.json", map[string]any{
		"pinned": string(c.pinned[0].Bytes()), "configurations": b, "extended": string(c.pinned[2].Bytes()),
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := governance.Parse(b)
		if err != nil {
			return
		}
		again, err := governance.Encode(h)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x (%v)", b, again, err)
		}
	})
}
