package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Bounds of a configuration. With at most 32 replicas the joint certificate of
// a change (rule C6) fits the 64 cosignatures of a certificate.
const (
	MaxReplicas      = 32
	MaxOrganisations = 64
	MaxBodies        = 64
	MaxBodyKeys      = 16 // of a notified body
	// RecordVersion is the version of the record formats that this code knows. A
	// configuration may name a later one: its block is the last that this code
	// makes (Begin, docs/adr/0008).
	RecordVersion = 1

	minFutureBoundNano = 10_000_000_000                    // rule S2
	maxBoundNano       = 10 * 366 * 86_400 * 1_000_000_000 // ten years
	maxRetentionNano   = 10 * maxBoundNano                 // a hundred years
	maxMissingRanges   = 1024
	maxUncertified     = 1024
)

// networkConfig is the statement on "network" (rule C6).
type networkConfig struct{ *recordv1.NetworkConfig }

func (c networkConfig) check(st *statement) error {
	if err := st.wantSubject(record.SubjectNetwork); err != nil {
		return err
	}
	if err := c.checkOrganisations(); err != nil {
		return err
	}
	if err := c.checkReplicas(); err != nil {
		return err
	}
	if err := c.checkBodies(); err != nil {
		return err
	}
	if err := c.checkRecoveryForm(st); err != nil {
		return err
	}
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	l := c.GetLimits()
	switch {
	case c.GetRecordVersion() == 0:
		return invalid("record version 0; versions begin at 1")
	case st.sequence == 1 && c.GetRecordVersion() != RecordVersion:
		return invalid("a network founded with record version %d, this code knows %d", c.GetRecordVersion(), RecordVersion)
	case l.GetLatenessBoundNano() <= 0 || l.GetLatenessBoundNano() > maxBoundNano:
		return invalid("lateness bound of %d ns, want 1 ns to ten years", l.GetLatenessBoundNano())
	case l.GetFutureBoundNano() < minFutureBoundNano || l.GetFutureBoundNano() > maxBoundNano:
		return invalid("future bound of %d ns, want 10 s to ten years", l.GetFutureBoundNano())
	case l.GetMaxMissingRanges() == 0 || l.GetMaxMissingRanges() > maxMissingRanges:
		return invalid("%d missing ranges, want 1 to %d", l.GetMaxMissingRanges(), maxMissingRanges)
	case l.GetMaxUncertifiedBlocks() == 0 || l.GetMaxUncertifiedBlocks() > maxUncertified:
		return invalid("%d uncertified blocks, want 1 to %d", l.GetMaxUncertifiedBlocks(), maxUncertified)
	case l.GetRawVectorRetentionNano() < 0 || l.GetRawVectorRetentionNano() > maxRetentionNano:
		return invalid("raw vectors kept for %d ns, want 0 (for ever) to a hundred years", l.GetRawVectorRetentionNano())
	}
	return nil
}

func (c networkConfig) checkOrganisations() error {
	if n := len(c.GetOrganisations()); n == 0 || n > MaxOrganisations {
		return reason.New(reason.InvalidStatement, "%d organisations, want 1 to %d", n, MaxOrganisations)
	}
	var ids ascending
	var keys, evidenceKeys distinct
	for _, o := range c.GetOrganisations() {
		if err := errors.Join(ids.take(o.GetId()), keys.take(o.GetRootKey())); err != nil {
			return reason.New(reason.InvalidStatement, "organisations: %v", err)
		}
		if err := checkKey("root key of "+o.GetId(), o.GetRootKey(), signature.Ed25519, signature.P256); err != nil {
			return err
		}
		if len(o.GetEvidenceKey()) == 0 {
			continue
		}
		if err := evidence.CheckKey(o.GetEvidenceKey()); err != nil {
			return fmt.Errorf("organisation %s: %w", o.GetId(), err)
		}
		if err := evidenceKeys.take(o.GetEvidenceKey()); err != nil {
			return reason.New(reason.InvalidStatement, "evidence keys: %v", err)
		}
	}
	return nil
}

func (c networkConfig) checkBodies() error {
	if n := len(c.GetNotifiedBodies()); n == 0 || n > MaxBodies {
		return reason.New(reason.InvalidStatement, "%d notified bodies, want 1 to %d", n, MaxBodies)
	}
	var ids ascending
	var keys distinct
	for _, n := range c.GetNotifiedBodies() {
		if err := ids.take(n.GetId()); err != nil {
			return reason.New(reason.InvalidStatement, "notified bodies: %v", err)
		}
		count := len(n.GetKeys())
		if count == 0 || count > MaxBodyKeys || n.GetThreshold() == 0 || n.GetThreshold() > uint32(count) {
			return reason.New(reason.InvalidStatement, "notified body %s has %d keys, %d of which must sign: want 1 to %d keys and a threshold from 1 to their number",
				n.GetId(), count, n.GetThreshold(), MaxBodyKeys)
		}
		if o := n.GetOrganisation(); o != "" && (&Config{Message: c.NetworkConfig}).Organisation(o) == nil {
			return reason.New(reason.InvalidStatement, "%.80q acts for notified body %s, which is no organisation of the network", o, n.GetId())
		}
		for i, key := range n.GetKeys() {
			if i > 0 && bytes.Compare(n.GetKeys()[i-1], key) >= 0 {
				return reason.New(reason.InvalidStatement, "notified body %s: its keys are not in ascending order", n.GetId())
			}
			if err := keys.take(key); err != nil {
				return reason.New(reason.InvalidStatement, "notified body %s: %v", n.GetId(), err)
			}
			if err := checkKey("key of notified body "+n.GetId(), key, signature.Ed25519, signature.P256); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkReplicas also checks the arithmetic of the quorum: two quorums share
// more than the F replicas that may lie, and F missing ones do not stop one.
func (c networkConfig) checkReplicas() error {
	n := len(c.GetReplicas())
	if n == 0 || n > MaxReplicas {
		return reason.New(reason.InvalidStatement, "%d replicas, want 1 to %d", n, MaxReplicas)
	}
	var ids ascending
	for _, r := range c.GetReplicas() {
		if err := ids.take(r.GetNodeId()); err != nil {
			return reason.New(reason.InvalidStatement, "replicas: %v", err)
		}
		if (&Config{Message: c.NetworkConfig}).Organisation(r.GetOrganisation()) == nil {
			return reason.New(reason.InvalidStatement, "replica %s is of %.80q, which is no organisation of the network", r.GetNodeId(), r.GetOrganisation())
		}
	}
	q, faulty := int64(c.GetQuorum()), int64(n-1)/3
	if 2*q-int64(n) <= faulty || q > int64(n)-faulty {
		return reason.New(reason.InvalidStatement, "quorum %d of %d replicas with %d faulty: want 2q-n > F and q <= n-F", q, n, faulty)
	}
	// The policy's own check covers the name, the keys and that no key stands twice.
	if _, err := PolicyOf(c.NetworkConfig, digest.Zero); err != nil {
		var weak *signature.KeyError
		if errors.As(err, &weak) {
			return reason.New(reason.WeakKey, "replicas: %v", err)
		}
		return reason.New(reason.InvalidStatement, "replicas: %v", err)
	}
	return nil
}

// ascending takes ids in strictly ascending order.
type ascending struct{ last string }

func (a *ascending) take(id string) error {
	if err := record.CheckID(id); err != nil {
		return err
	}
	if id <= a.last {
		return reason.New(reason.InvalidStatement, "id %q after %q, want ascending distinct ids", id, a.last)
	}
	a.last = id
	return nil
}

// distinct takes keys that did not come before.
type distinct struct{ seen map[string]bool }

func (d *distinct) take(key []byte) error {
	if d.seen == nil {
		d.seen = make(map[string]bool)
	}
	if d.seen[string(key)] {
		return reason.New(reason.InvalidStatement, "one key stands twice")
	}
	d.seen[string(key)] = true
	return nil
}

// authority is a majority of the organisations in force, and every key that the
// configuration names and the one before did not: whoever is named has agreed,
// and nobody claims a key that they do not hold (docs/adr/0011). A genesis
// configuration is signed by its own; its member files prove the keys.
func (c networkConfig) authority(_ *reader, config *Config) ([]signers, error) {
	if config == nil {
		return []signers{majority(c.NetworkConfig)}, nil
	}
	groups := []signers{majority(config.Message)}
	for _, k := range newKeys(config.Message, c.NetworkConfig) {
		groups = append(groups, provesItself(k.who, k.tagged))
	}
	return groups, nil
}

// namedKey is a key of a configuration and whose it is.
type namedKey struct {
	who    string
	tagged []byte
}

// namedKeys are all keys of a configuration that sign. An evidence key signs
// nothing and is not among them.
func namedKeys(m *recordv1.NetworkConfig) []namedKey {
	var keys []namedKey
	for _, o := range m.GetOrganisations() {
		keys = append(keys, namedKey{"the root key of " + o.GetId(), o.GetRootKey()})
	}
	for _, r := range m.GetReplicas() {
		keys = append(keys, namedKey{"the cosigner key of " + r.GetNodeId(), r.GetCosignerKey()}, namedKey{"the log key of " + r.GetNodeId(), r.GetLogKey()})
	}
	for _, b := range m.GetNotifiedBodies() {
		for _, key := range b.GetKeys() {
			keys = append(keys, namedKey{"a key of notified body " + b.GetId(), key})
		}
	}
	return keys
}

// newKeys are the keys that a configuration names for somebody for whom the one
// before did not name them.
func newKeys(before, after *recordv1.NetworkConfig) []namedKey {
	known := make(map[string]bool)
	for _, k := range namedKeys(before) {
		known[k.who+"\x00"+string(k.tagged)] = true
	}
	return slices.DeleteFunc(namedKeys(after), func(k namedKey) bool { return known[k.who+"\x00"+string(k.tagged)] })
}

func majority(m *recordv1.NetworkConfig) signers {
	keys := rootKeys(m)
	return signers{who: "the " + itoa(len(keys)) + " root keys in force", sets: []keySet{{keys: keys, atLeast: len(keys)/2 + 1}}}
}

func (c networkConfig) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	if err := b.checkEvidenceKeys(c.NetworkConfig); err != nil {
		return err
	}
	value := &statev1.Config{Last: ref, Payload: st.envelope.Payload, Height: b.height}
	if b.config != nil {
		if b.height == 0 {
			return reason.New(reason.WrongPlace, "a genesis block has one configuration")
		}
		if b.Len() > 0 {
			return reason.New(reason.WrongPlace, "a network configuration is alone in its block, block %d has %d records already", b.height, b.Len())
		}
		if recovery := c.GetRecovery() != nil; recovery != b.recovering {
			return reason.New(reason.WrongPlace, "a recovery is applied to the ledgers of stopped replicas, alone in its block, and never ordered")
		}
		check := c.checkSuccession
		if b.recovering {
			check = c.checkRecovery
		}
		if err := check(b); err != nil {
			return err
		}
		before, err := message[statev1.Config](b.reader, KeyConfig)
		if err != nil {
			return err
		}
		value.PreviousPayload = before.GetPayload()
		b.configChanged = true
	} else {
		b.putRaw(KeyNetwork, st.digest.Bytes())
	}
	b.putEvidenceKeys(c.NetworkConfig)
	b.putMessage(KeyConfig, value)
	config, err := b.loadConfig()
	if err != nil {
		return err
	}
	b.config = config
	return nil
}

// checkSuccession compares with the configuration in force: the name is for
// ever, a replica's cosigner key is for its life, and replicas are registered.
func (c networkConfig) checkSuccession(b *Block) error {
	if c.GetName() != b.config.Message.GetName() {
		return reason.New(reason.InvalidStatement, "network %q cannot be renamed %q: its origin is for ever", b.config.Message.GetName(), c.GetName())
	}
	for _, r := range c.GetReplicas() {
		old := b.config.Replica(r.GetNodeId())
		if old != nil && !bytes.Equal(old.GetCosignerKey(), r.GetCosignerKey()) {
			return reason.New(reason.InvalidStatement, "replica %s cannot change its cosigner key; register a new node", r.GetNodeId())
		}
	}
	return b.checkReplicasRegistered(c.NetworkConfig)
}

// checkReplicasRegistered wants each replica registered as one (rule N1).
func (r *reader) checkReplicasRegistered(m *recordv1.NetworkConfig) error {
	for _, replica := range m.GetReplicas() {
		node, err := r.node(replica.GetNodeId())
		if err != nil {
			return err
		}
		if node == nil || node.GetRevoked() || node.GetRole() != int32(recordv1.Role_ROLE_REPLICA) || node.GetOrganisation() != replica.GetOrganisation() {
			return reason.New(reason.InvalidStatement, "replica %s of %s has no registration in force as one of that organisation", replica.GetNodeId(), replica.GetOrganisation())
		}
	}
	return nil
}
