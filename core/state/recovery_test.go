package state_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// pointOf names a block as a survivor does.
func pointOf(ref state.BlockRef) *recordv1.RecoveryPoint {
	return &recordv1.RecoveryPoint{Height: ref.Height, Header: ref.Header.Bytes(), Size: ref.Size, Root: ref.Root.Bytes()}
}

// elsewhere is a block of another chain at a height.
func elsewhere(height uint64, size uint64) *recordv1.RecoveryPoint {
	d := digest.Plain(fmt.Append(nil, "elsewhere", height))
	return &recordv1.RecoveryPoint{Height: height, Header: d.Bytes(), Size: size, Root: d.Bytes()}
}

// recovered is a replica with the keys that it gets by a recovery.
func recovered(r statetest.Replica) statetest.Replica {
	r.Cosigner, r.Log = statetest.Key("recovered/cosigner/"+r.ID), statetest.Key("recovered/log/"+r.ID)
	return r
}

// lockOf is a survivor's word; change, if given, alters it before it is signed.
func lockOf(n *statetest.Network, i int, change ...func(*recordv1.RecoveryLock)) *recordv1.Envelope {
	n.TB.Helper()
	r, head := n.Replicas[i], n.Store.Head()
	next := recovered(r).Message()
	lock := &recordv1.RecoveryLock{
		NetworkId: n.ID.Bytes(), Config: head.Config.Bytes(), NodeId: r.ID,
		Locked: pointOf(head), Certified: pointOf(n.Store.Blocks[head.CertifiedHeight]), Head: pointOf(head),
		AppliedIndex: 40 + uint64(i), CosignerKey: next.CosignerKey, LogKey: next.LogKey,
	}
	for _, f := range change {
		f(lock)
	}
	return signLock(n, lock, r.Cosigner)
}

func signLock(n *statetest.Network, lock *recordv1.RecoveryLock, by crypto.Signer) *recordv1.Envelope {
	e, err := record.SignStatement(record.TypeRecoveryLock, wire.MustEncode(lock), by)
	if err != nil {
		n.TB.Fatal(err)
	}
	return &recordv1.Envelope{PayloadType: e.PayloadType, Payload: e.Payload,
		Signatures: []*recordv1.EnvelopeSignature{{KeyId: e.Signatures[0].KeyID, Signature: e.Signatures[0].Sig}}}
}

// recoveryOf drafts the recovery that continues the head with the first so many
// replicas and the smallest quorum.
func recoveryOf(n *statetest.Network, replicas int, locks ...*recordv1.Envelope) *recordv1.NetworkConfig {
	c := nextConfig(n)
	p := pointOf(n.Store.Head())
	c.Recovery = &recordv1.Recovery{Height: p.Height, Header: p.Header, Size: p.Size, Root: p.Root, OrderingIndex: 100, Locks: locks}
	c.Replicas = nil
	for _, r := range n.Replicas[:replicas] {
		c.Replicas = append(c.Replicas, recovered(r).Message())
	}
	c.Quorum = uint32(replicas - (replicas-1)/3)
	return c
}

func signRecovery(n *statetest.Network, c *recordv1.NetworkConfig) []byte {
	var keys []crypto.Signer
	for _, r := range n.Replicas {
		if slices.ContainsFunc(c.Replicas, func(m *recordv1.Replica) bool { return m.NodeId == r.ID }) {
			keys = append(keys, recovered(r).Cosigner, recovered(r).Log)
		}
	}
	return signConfig(n, c, keys...)
}

// tryRecovery decides a recovery and leaves the network as it was.
func tryRecovery(n *statetest.Network, leaf []byte) (state.Outcome, *state.Sealed) {
	n.TB.Helper()
	b, err := state.BeginRecovery(n.Store, n.Store.Head(), state.Options{})
	if err != nil {
		n.TB.Fatal(err)
	}
	outcomes, err := b.Submit(statetest.Parse([][]byte{leaf}, nil))
	if err != nil {
		n.TB.Fatal(err)
	}
	if !outcomes[0].Accepted {
		return outcomes[0], nil
	}
	sealed, err := b.Seal()
	if err != nil {
		n.TB.Fatal(err)
	}
	return outcomes[0], sealed
}

// stuck is a network whose head nobody certifies any more.
func stuck(t testing.TB) (*statetest.Network, *statetest.Meter) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture())
	n.Apply(n.Begin())
	return n, m
}

// C8: three of four disks are gone. The survivor goes on from its head, alone,
// and what follows is certified by its new key.
func TestC8_OneSurvivorGoesOn(t *testing.T) {
	n, m := stuck(t)
	before := n.Store.Head()
	leaf := signRecovery(n, recoveryOf(n, 1, lockOf(n, 0)))
	outcome, sealed := tryRecovery(n, leaf)
	if !outcome.Accepted {
		t.Fatalf("refused: %s: %s", outcome.Reason, outcome.Detail)
	}
	again, err := state.Replay(n.Store, before, state.Options{}, sealed.Records, nil)
	if err != nil || again.Ref != sealed.Ref {
		t.Fatalf("replayed as %+v (%v)", again, err)
	}
	ref := n.Store.Apply(sealed)
	if ref.Height != before.Height+1 || ref.BlockTimeUnixNano != before.BlockTimeUnixNano || ref.CertifiedHeight != before.CertifiedHeight || ref.Size != before.Size+2 {
		t.Errorf("block %+v after %+v", ref, before)
	}
	if _, err := state.BeginEmpty(n.Store, ref, state.Options{}); err == nil {
		t.Error("a block follows a recovery without its certificate")
	}
	n.Replicas = []statetest.Replica{recovered(n.Replicas[0])}
	n.Apply(n.Begin())
	n.AcceptCaptures(m.Capture())
	// The replicas before cannot certify what follows.
	quorum, err := state.QuorumAt(n.Store, n.Store.Head().Height)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := quorum.Cosigner(state.CosignerName(quorum.Origin(), "replica-00")); !ok || !bytes.Equal(key.Public[:], n.Replicas[0].Cosigner.Public().(ed25519.PublicKey)) {
		t.Errorf("the quorum's key of replica-00 is %v, %v", key, ok)
	}
}

// C8: what may have been certified is continued, whatever the root keys sign.
func TestC8_ACertifiedBlockIsNeverDropped(t *testing.T) {
	n, _ := stuck(t)
	head := n.Store.Head()
	ahead := elsewhere(head.Height+1, head.Size+3)
	other := func(l *recordv1.RecoveryLock) {
		l.Locked, l.Head = elsewhere(head.Height, head.Size), elsewhere(head.Height, head.Size)
	}
	beyond := func(l *recordv1.RecoveryLock) { l.Locked, l.Head = ahead, ahead }
	for name, c := range map[string]struct {
		locks []*recordv1.Envelope
		want  string // of the refusal; "" for none
	}{
		"all there, two against two":     {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 2, other), lockOf(n, 3, other)}, ""},
		"two against one, one lost":      {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 2, other)}, ""},
		"one against two, one lost":      {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1, other), lockOf(n, 2, other)}, "may have been certified: with the 1 lost replicas that makes 3 cosignatures, the quorum is 3"},
		"one against one, two lost":      {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1, other)}, "may have been certified"},
		"one against three":              {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1, other), lockOf(n, 2, other), lockOf(n, 3, other)}, "may have been certified"},
		"a survivor has more, all there": {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 2), lockOf(n, 3, beyond)}, ""},
		"a survivor has more, two lost":  {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 3, beyond)}, "may have been certified"},
		"a certificate of more":          {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 2), lockOf(n, 3, func(l *recordv1.RecoveryLock) { l.Certified = ahead })}, "would drop it"},
		"a certificate of another chain": {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 2), lockOf(n, 3, func(l *recordv1.RecoveryLock) { l.Certified = elsewhere(1, 3) })}, "would drop it"},
		"one lags behind, three lost but for it": {[]*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1, func(l *recordv1.RecoveryLock) {
			l.Locked, l.Head = pointOf(n.Store.Blocks[1]), pointOf(n.Store.Blocks[1])
		})}, ""},
		"one that never signed": {[]*recordv1.Envelope{lockOf(n, 0, func(l *recordv1.RecoveryLock) { l.Locked = nil })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := tryRecovery(n, signRecovery(n, recoveryOf(n, len(c.locks), c.locks...)))
			if c.want == "" && !o.Accepted || c.want != "" && (o.Reason != reason.InvalidStatement || !strings.Contains(o.Detail, c.want)) {
				t.Errorf("%+v, want %q", o, c.want)
			}
		})
	}
}

// C8: what a recovery must be.
func TestC8_RecoveriesAreChecked(t *testing.T) {
	n, _ := stuck(t)
	stranger := statetest.Key("stranger")
	for name, c := range map[string]struct {
		change func(c *recordv1.NetworkConfig)
		want   reason.Reason
	}{
		"as it is":                         {func(*recordv1.NetworkConfig) {}, ""},
		"another height":                   {func(c *recordv1.NetworkConfig) { c.Recovery.Height-- }, reason.InvalidStatement},
		"another header":                   {func(c *recordv1.NetworkConfig) { c.Recovery.Header = elsewhere(1, 1).Header }, reason.InvalidStatement},
		"another size":                     {func(c *recordv1.NetworkConfig) { c.Recovery.Size++ }, reason.InvalidStatement},
		"another root":                     {func(c *recordv1.NetworkConfig) { c.Recovery.Root = elsewhere(1, 1).Root }, reason.InvalidStatement},
		"no root":                          {func(c *recordv1.NetworkConfig) { c.Recovery.Root = nil }, reason.Malformed},
		"no locks":                         {func(c *recordv1.NetworkConfig) { c.Recovery.Locks = nil }, reason.InvalidStatement},
		"a lock twice":                     {func(c *recordv1.NetworkConfig) { c.Recovery.Locks = append(c.Recovery.Locks, c.Recovery.Locks[1]) }, reason.InvalidStatement},
		"locks unsorted":                   {func(c *recordv1.NetworkConfig) { slices.Reverse(c.Recovery.Locks) }, reason.InvalidStatement},
		"ordering goes back":               {func(c *recordv1.NetworkConfig) { c.Recovery.OrderingIndex = 41 }, reason.InvalidStatement},
		"other limits":                     {func(c *recordv1.NetworkConfig) { c.Limits.MaxMissingRanges++ }, reason.InvalidStatement},
		"another organisation":             {func(c *recordv1.NetworkConfig) { c.Organisations = c.Organisations[:3] }, reason.InvalidStatement},
		"an old cosigner key":              {func(c *recordv1.NetworkConfig) { c.Replicas[1].CosignerKey = n.Replicas[1].Message().CosignerKey }, reason.InvalidStatement},
		"an old log key of another":        {func(c *recordv1.NetworkConfig) { c.Replicas[1].LogKey = n.Replicas[3].Message().LogKey }, reason.InvalidStatement},
		"a replica that is not registered": {func(c *recordv1.NetworkConfig) { c.Replicas[1].NodeId = "replica-09" }, reason.InvalidStatement},
		"keys that the lock does not name": {func(c *recordv1.NetworkConfig) {
			c.Recovery.Locks[1] = lockOf(n, 1, func(l *recordv1.RecoveryLock) { l.LogKey = statetest.Tagged(signature.Ed25519, stranger) })
		}, reason.InvalidStatement},
		"a lock of another network": {func(c *recordv1.NetworkConfig) {
			c.Recovery.Locks[1] = lockOf(n, 1, func(l *recordv1.RecoveryLock) { l.NetworkId = elsewhere(0, 1).Root })
		}, reason.WrongNetwork},
		"a lock of another configuration": {func(c *recordv1.NetworkConfig) {
			c.Recovery.Locks[1] = lockOf(n, 1, func(l *recordv1.RecoveryLock) { l.Config = elsewhere(0, 1).Root })
		}, reason.InvalidStatement},
		"a lock of no replica": {func(c *recordv1.NetworkConfig) {
			c.Recovery.Locks[1] = lockOf(n, 1, func(l *recordv1.RecoveryLock) { l.NodeId = "replica-09" })
		}, reason.InvalidStatement},
		"a lock without a head": {func(c *recordv1.NetworkConfig) {
			c.Recovery.Locks[1] = lockOf(n, 1, func(l *recordv1.RecoveryLock) { l.Head = nil })
		}, reason.Malformed},
		"a lock by a stranger": {func(c *recordv1.NetworkConfig) {
			lock := new(recordv1.RecoveryLock)
			if err := wire.Decode(c.Recovery.Locks[1].Payload, lock); err != nil {
				t.Fatal(err)
			}
			c.Recovery.Locks[1] = signLock(n, lock, stranger)
		}, reason.NotAuthorised},
		"a forged lock":          {func(c *recordv1.NetworkConfig) { c.Recovery.Locks[1].Signatures[0].Signature[3] ^= 1 }, reason.BadSignature},
		"a lock of another type": {func(c *recordv1.NetworkConfig) { c.Recovery.Locks[1].PayloadType = record.TypeNetworkConfig }, reason.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			config := recoveryOf(n, 2, lockOf(n, 0), lockOf(n, 1))
			c.change(config)
			keys := []crypto.Signer{recovered(n.Replicas[0]).Cosigner, recovered(n.Replicas[0]).Log, recovered(n.Replicas[1]).Cosigner, recovered(n.Replicas[1]).Log}
			keys = slices.DeleteFunc(keys, func(k crypto.Signer) bool { // an old key proves nothing, and may not sign
				return !slices.ContainsFunc(config.Replicas, func(r *recordv1.Replica) bool {
					tagged := statetest.Tagged(signature.Ed25519, k)
					return bytes.Equal(tagged, r.CosignerKey) || bytes.Equal(tagged, r.LogKey)
				})
			})
			if name == "an old log key of another" {
				keys = append(keys, n.Replicas[3].Log)
			}
			if o, _ := tryRecovery(n, signConfig(n, config, keys...)); o.Reason != c.want {
				t.Errorf("%q (%s), want %q", o.Reason, o.Detail, c.want)
			}
		})
	}
	// Half of the root keys are not enough; and it is never ordered, nor is anything else in its place.
	config := recoveryOf(n, 1, lockOf(n, 0))
	half := n.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), recovered(n.Replicas[0]).Cosigner, recovered(n.Replicas[0]).Log)
	if o, _ := tryRecovery(n, half); o.Reason != reason.NotAuthorised {
		t.Errorf("two of four root keys: %+v", o)
	}
	refuseStatement(t, n, signRecovery(n, config), reason.WrongPlace)
	if o, _ := tryRecovery(n, signConfig(n, nextConfig(n))); o.Reason != reason.WrongPlace {
		t.Errorf("an ordinary configuration in a recovery's block: %+v", o)
	}
}

// Who drafts a recovery learns the same from the locks.
func TestC8_PlanNamesTheLost(t *testing.T) {
	n, _ := stuck(t)
	other := func(l *recordv1.RecoveryLock) { l.Locked = elsewhere(l.Locked.Height, l.Locked.Size) }
	var locks []*envelope.Envelope
	for _, l := range []*recordv1.Envelope{lockOf(n, 0), lockOf(n, 1), lockOf(n, 3, other)} {
		locks = append(locks, record.ToEnvelope(l))
	}
	plan, err := state.PlanRecovery(n.Store, n.Store.Head(), locks, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := []bool{plan.Survivors[0].Kept, plan.Survivors[1].Kept, plan.Survivors[2].Kept}
	if !slices.Equal(plan.Lost, []string{"replica-02"}) || plan.OrderingIndex != 44 || !slices.Equal(kept, []bool{true, true, false}) {
		t.Errorf("plan %+v", plan)
	}
	if _, err := state.PlanRecovery(n.Store, n.Store.Head(), nil, state.Options{}); reason.Of(err) != reason.InvalidStatement {
		t.Errorf("without a lock: %v", err)
	}
}

// A follower of administrative records replays a recovery too.
func TestC8_FollowersReplayARecovery(t *testing.T) {
	n, _ := stuck(t)
	before := n.Store.Head()
	_, sealed := tryRecovery(n, signRecovery(n, recoveryOf(n, 1, lockOf(n, 0))))
	leaves := []state.Leaf{{Record: sealed.Records[0]}, {Record: sealed.Records[1]}}
	again, err := state.ReplayAdministrative(n.Store, before, state.Options{}, leaves)
	if err != nil || again.Ref != sealed.Ref {
		t.Errorf("replayed as %+v (%v), want %+v", again, err, sealed.Ref)
	}
	forged := proto.CloneOf(sealed.Header)
	forged.Writes[0] ^= 1
	leaf, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: forged}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Replay(n.Store, before, state.Options{}, [][]byte{sealed.Records[0], leaf}, nil); err == nil {
		t.Error("a forged header was replayed")
	}
}

// TestGoldenRecovery fixes the lock of a survivor and the recovery that carries it.
func TestGoldenRecovery(t *testing.T) {
	n, _ := stuck(t)
	lock := lockOf(n, 0)
	leaf := signRecovery(n, recoveryOf(n, 1, lock))
	outcome, sealed := tryRecovery(n, leaf)
	if !outcome.Accepted {
		t.Fatalf("refused: %s: %s", outcome.Reason, outcome.Detail)
	}
	header := n.Store.Apply(sealed).Header
	e := record.ToEnvelope(lock)
	golden.JSON(t, "recovery.json", map[string]any{
		"lock": e.Payload, "signed": e.PAE(), "signature": e.Signatures[0].Sig,
		"publicKey": statetest.Tagged(signature.Ed25519, n.Replicas[0].Cosigner), "record": leaf, "header": header.String(),
	})
}

func FuzzParseRecoveryLock(f *testing.F) {
	n, _ := stuck(f)
	f.Add(lockOf(n, 0).GetPayload())
	f.Fuzz(func(t *testing.T, b []byte) {
		lock, err := state.ParseRecoveryLock(&envelope.Envelope{PayloadType: record.TypeRecoveryLock, Payload: b})
		if err != nil {
			if reason.Of(err) == "" {
				t.Errorf("%x is refused without a reason: %v", b, err)
			}
			return
		}
		if again := wire.MustEncode(lock); !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x", b, again)
		}
	})
}
