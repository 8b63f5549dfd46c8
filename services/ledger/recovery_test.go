package ledger

import (
	"crypto"
	"crypto/ed25519"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// recovery drafts and signs the recovery of the surviving replicas, from their
// own words, as continued by the first of them.
func (c *cluster) recovery(survivors ...string) *envelope.Envelope {
	c.t.Helper()
	var locks []*envelope.Envelope
	m := c.nextConfig()
	m.Recovery, m.Replicas = &recordv1.Recovery{}, nil
	signers := []crypto.Signer{statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")}
	for _, id := range survivors {
		n := c.nodes[id]
		lock, err := LockOf(n.config)
		c.must(err)
		locks = append(locks, lock)
		said, err := state.ParseRecoveryLock(lock)
		c.must(err)
		m.Recovery.Locks = append(m.Recovery.Locks, &recordv1.Envelope{PayloadType: lock.PayloadType, Payload: lock.Payload,
			Signatures: []*recordv1.EnvelopeSignature{{KeyId: lock.Signatures[0].KeyID, Signature: lock.Signatures[0].Sig}}})
		m.Replicas = append(m.Replicas, &recordv1.Replica{NodeId: id, Organisation: "org-" + strings.TrimPrefix(id, "replica-"), CosignerKey: said.CosignerKey, LogKey: said.LogKey})
		for _, path := range []string{nextKey(n.config.CosignerKey), nextKey(n.config.LogKey)} {
			key, err := identity.ReadKey(path)
			c.must(err)
			signers = append(signers, key)
		}
	}
	archive, err := OpenArchive(c.nodes[survivors[0]].config.DataDir)
	c.must(err)
	_, plan, err := archive.PlanRecovery(locks)
	c.must(err)
	c.must(archive.Close())
	p := recoveryPoint(plan.Continue)
	m.Recovery.Height, m.Recovery.Header, m.Recovery.Size, m.Recovery.Root, m.Recovery.OrderingIndex = p.Height, p.Header, p.Size, p.Root, plan.OrderingIndex
	n := len(survivors)
	m.Quorum = uint32(n - (n-1)/3)
	payload, err := wire.Encode(m)
	c.must(err)
	signed, err := record.SignStatement(record.TypeNetworkConfig, payload, signers...)
	c.must(err)
	return signed
}

// recovered takes the new keys of continued replicas into the mirror.
func (c *cluster) recovered(ids ...string) {
	c.t.Helper()
	var replicas []statetest.Replica
	for _, r := range c.mirror.Replicas {
		if slices.Contains(ids, r.ID) {
			for path, key := range map[string]*ed25519.PrivateKey{c.nodes[r.ID].config.CosignerKey: &r.Cosigner, c.nodes[r.ID].config.LogKey: &r.Log} {
				var err error
				*key, err = identity.ReadKey(path)
				c.must(err)
			}
			replicas = append(replicas, r)
		}
	}
	c.mirror.Replicas = replicas
}

// C8: three of four disks are gone. The survivor is continued by the root keys'
// word with everything that was acknowledged, measures on, and old and new
// receipts verify from the bundle pinned before.
func TestC8_TheSurvivorOfFourGoesOn(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 3)
	c.same(four...)
	before := c.mirror.Store.Head()
	c.halt(four...)
	last := four[0]
	signed := c.recovery(last)
	n := c.nodes[last]
	for range 2 { // the second time as after a crash
		r, err := recoverBy(n.config, signed, n.clock, n.log)
		if err != nil || r.Height <= before.Height {
			t.Fatalf("recovered as %+v: %v", r, err)
		}
	}
	c.recovered(last)
	c.start(last)
	via = c.leader(last)
	c.sync(via)
	c.measure(via, m, 2)
	c.same(last)
	c.everyReceipt(last, m.ID, []uint64{1, 2, 3, 4, 5}, 2)
	if r, err := recoverBy(n.config, signed, n.clock, n.log); err == nil {
		t.Errorf("a running replica was recovered: %+v", r)
	}
	c.halt(last)
	if r, err := recoverBy(n.config, signed, n.clock, n.log); err != nil || !r.Done {
		t.Errorf("recovered again as %+v: %v", r, err)
	}
	c.start(last)
	c.measure(c.leader(last), m, 1)
}

// C8: a recovery that half of the root keys signed, or of another block, changes
// nothing; nor does an ordinary configuration.
func TestC8_RecoverRefusesAndChangesNothing(t *testing.T) {
	c, m := running(t)
	c.measure(c.leader(four...), m, 1)
	c.same(four...)
	c.halt(four...)
	n := c.nodes[four[1]]
	half := c.recovery(four[1])
	half.Signatures = slices.DeleteFunc(half.Signatures, func(s envelope.Signature) bool {
		key, err := identity.ReadKey(nextKey(n.config.CosignerKey))
		c.must(err)
		log, err := identity.ReadKey(nextKey(n.config.LogKey))
		c.must(err)
		return s.KeyID != keyID(t, key) && s.KeyID != keyID(t, log) && s.KeyID != keyID(t, statetest.Root("org-00"))
	})
	ordinary, err := record.NewStatement(c.nextConfig(), statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"))
	c.must(err)
	for name, x := range map[string]struct {
		signed *envelope.Envelope
		says   string
	}{
		"half of the root keys":     {half, "root keys in force"},
		"an ordinary configuration": {ordinary, "recovery is empty"},
		"of another replica":        {c.recovery(four[0]), "is none of the recovery's"},
	} {
		if _, err := recoverBy(n.config, x.signed, n.clock, n.log); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v, want %q", name, err, x.says)
		}
	}
	c.start(four...)
	c.measure(c.leader(four...), m, 1)
	c.same(four...)
}

func keyID(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	e, err := record.SignStatement(record.TypeRecoveryLock, []byte("x"), key)
	if err != nil {
		t.Fatal(err)
	}
	return e.Signatures[0].KeyID
}

// C8: one replica is lost and one lacks blocks, so that its newest is not the one
// that is continued. It is refused, begins anew with its new keys, keeps what it
// held, and is of the ledger again.
func TestC8_ASurvivorThatIsNotContinuedBeginsAnew(t *testing.T) {
	c, m := running(t)
	c.measure(c.leader(four...), m, 2)
	c.same(four...)
	leads := c.leader(four...)
	behind := slices.Max(slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == leads }))
	c.halt(behind)
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == behind })
	c.measure(c.leader(rest...), m, 2)
	c.same(rest...)
	c.halt(rest...)
	survivors := []string{rest[0], rest[1], behind} // rest[2] is lost
	signed := c.recovery(survivors...)
	n := c.nodes[behind]
	if _, err := recoverBy(n.config, signed, n.clock, n.log); err == nil || !strings.Contains(err.Error(), "--anew") {
		t.Errorf("recovered with %v, want to be told of --anew", err)
	}
	one := c.nodes[rest[0]]
	if err := RecoverAnew(one.config, signed, one.log); err == nil || !strings.Contains(err.Error(), "without --anew") {
		t.Errorf("the replica that is continued begins anew: %v", err)
	}
	half := *signed
	half.Signatures = signed.Signatures[1:]
	if err := RecoverAnew(n.config, &half, n.log); err == nil || !strings.Contains(err.Error(), "1 missing") {
		t.Errorf("begun anew without a signature: %v", err)
	}
	for _, id := range survivors[:2] {
		if _, err := recoverBy(c.nodes[id].config, signed, c.nodes[id].clock, c.nodes[id].log); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time as after a crash
		c.must(RecoverAnew(n.config, signed, n.log))
	}
	c.recovered(survivors...)
	c.start(survivors...)
	via := c.leader(survivors...)
	c.sync(via)
	c.measure(via, m, 2)
	c.same(survivors...)
	c.everyReceipt(behind, m.ID, []uint64{1, 2, 3, 4, 5, 6}, 2)
	old := n.config
	old.DataDir = t.TempDir()
	c.must(os.Rename(n.config.storeDir()+asideSuffix, old.storeDir()))
	archive, err := OpenArchive(old.DataDir)
	c.must(err)
	if report, err := archive.Verify(c.context(), nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("what it held: %v, %v", report, err)
	}
	c.must(archive.Close())
}
