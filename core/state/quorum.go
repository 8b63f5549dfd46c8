package state

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Quorum says which cosignatures certify one height: q of the replicas of the
// configuration in force there, and for the block that brought a configuration
// q of the old replicas and q of the new (rule C6). A certificate has no
// cosignature that could be left out. It is not changed after it was made.
type Quorum struct {
	origin  string
	configs []*recordv1.NetworkConfig // one, or old and new
	logs    []tlog.VerifierKey
	members []member // ascending by key name
}

// member is a replica in one or both sets.
type member struct {
	key tlog.VerifierKey
	in  [2]bool // of configs
}

// CosignerName is the name of a replica's cosigner key on signature lines and
// in policies: the origin, "/" and the node id, so that it is unique in the
// world.
func CosignerName(origin, nodeID string) string { return origin + "/" + nodeID }

// QuorumAt is the quorum of a height from the block before the configuration
// in force upwards; what lay further back is answered by a trust bundle.
func QuorumAt(view View, height uint64) (*Quorum, error) {
	config, err := GetConfig(view)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return nil, corrupt("no configuration")
	}
	return quorumAt(config, height)
}

// ChangeQuorum is the quorum of the block that brought a configuration after
// another (nil before the first): both sets (rule C6), of a recovery the new one
// alone (rule C8). For whoever has the configurations and no ledger.
func ChangeQuorum(networkID digest.Digest, before, after *recordv1.NetworkConfig) (*Quorum, error) {
	origin, err := tlog.Origin(after.GetName(), networkID)
	if err != nil {
		return nil, err
	}
	if before == nil || after.GetRecovery() != nil {
		return newQuorum(origin, after), nil
	}
	return newQuorum(origin, before, after), nil
}

func quorumAt(c *Config, height uint64) (*Quorum, error) {
	switch {
	case height > c.Height || c.Previous == nil:
		return newQuorum(c.Origin(), c.Message), nil
	case height == c.Height && c.Message.GetRecovery() != nil:
		return newQuorum(c.Origin(), c.Message), nil // rule C8: the old replicas can certify no more
	case height == c.Height:
		return newQuorum(c.Origin(), c.Previous, c.Message), nil
	default:
		return newQuorum(c.Origin(), c.Previous), nil
	}
}

// newQuorum takes configurations that the transition accepted: replica ids are
// distinct, keys are good, and a replica in both has the same cosigner key.
func newQuorum(origin string, configs ...*recordv1.NetworkConfig) *Quorum {
	q := &Quorum{origin: origin, configs: configs}
	for set, config := range configs {
		for _, r := range config.GetReplicas() {
			q.addLog(verifierKey(origin, tlog.LogKey, r.GetLogKey()))
			key := verifierKey(CosignerName(origin, r.GetNodeId()), tlog.CosignerKey, r.GetCosignerKey())
			at, found := slices.BinarySearchFunc(q.members, key.Name, func(m member, name string) int { return strings.Compare(m.key.Name, name) })
			if !found {
				q.members = slices.Insert(q.members, at, member{key: key})
			}
			q.members[at].in[set] = true
		}
	}
	return q
}

func (q *Quorum) addLog(key tlog.VerifierKey) {
	if !slices.Contains(q.logs, key) {
		q.logs = append(q.logs, key)
	}
}

func verifierKey(name string, kind tlog.KeyType, tagged []byte) tlog.VerifierKey {
	k := tlog.VerifierKey{Name: name, Type: kind}
	copy(k.Public[:], storedKey(tagged).Raw())
	return k
}

// Origin is the origin of the log.
func (q *Quorum) Origin() string { return q.origin }

// Cosigner finds the key of a cosigner by its name on a signature line.
func (q *Quorum) Cosigner(keyName string) (tlog.VerifierKey, bool) {
	for _, m := range q.members {
		if m.key.Name == keyName {
			return m.key, true
		}
	}
	return tlog.VerifierKey{}, false
}

// count tells how many cosignatures each set has.
func (q *Quorum) count(names []string) (have [2]int) {
	for _, m := range q.members {
		if slices.Contains(names, m.key.Name) {
			for set, in := range m.in {
				if in {
					have[set]++
				}
			}
		}
	}
	return have
}

func (q *Quorum) reached(names []string) bool {
	have := q.count(names)
	for set, config := range q.configs {
		if have[set] < int(config.GetQuorum()) {
			return false
		}
	}
	return true
}

// Check implements tlog.Checker for the one height: the origin, one of the log
// keys, every cosignature, the quorum of every set, and nothing superfluous.
// The error is a *tlog.PolicyError.
func (q *Quorum) Check(v signature.Verifier, c *tlog.Certificate) error {
	refuse := func(format string, args ...any) error {
		return &tlog.PolicyError{Origin: c.Checkpoint.Origin, Size: c.Checkpoint.Size, Reason: fmt.Sprintf(format, args...)}
	}
	if c.Checkpoint.Origin != q.origin {
		return refuse("the ledger's origin is %s", q.origin)
	}
	if !slices.ContainsFunc(q.logs, func(key tlog.VerifierKey) bool {
		return key.ID() == c.Log.KeyID && c.Log.Verify(v, key, c.Checkpoint) == nil
	}) {
		return refuse("its log signature is by none of the %d log keys", len(q.logs))
	}
	names := make([]string, len(c.Cosignatures))
	for i, s := range c.Cosignatures {
		key, ok := q.Cosigner(s.Name)
		if !ok {
			return refuse("%s is not a replica of this height", s.Name)
		}
		if slices.Contains(names[:i], s.Name) {
			return refuse("%s cosigned twice", s.Name)
		}
		if err := s.Verify(v, key, c.Checkpoint); err != nil {
			return refuse("%v", err)
		}
		names[i] = s.Name
	}
	if !q.reached(names) {
		return refuse("%s", q.shortfall(names))
	}
	for i := range names {
		if q.reached(without(names, i)) {
			return refuse("%s could be left out of its %d cosignatures", names[i], len(names))
		}
	}
	return nil
}

// Time is the time that a certificate vouches for, in seconds since the Epoch
// (rule C4): of every set the lower median of its own members' stamps, and of
// these the least. The median over both sets of a change would not do: each may
// have its F liars, and together they can be more than half of all who signed.
func (q *Quorum) Time(c *tlog.Certificate) uint64 {
	least := uint64(math.MaxUint64)
	for set := range q.configs {
		own := slices.DeleteFunc(slices.Clone(c.Cosignatures), func(s tlog.Cosignature) bool {
			return !slices.ContainsFunc(q.members, func(m member) bool { return m.in[set] && m.key.Name == s.Name })
		})
		least = min(least, (&tlog.Certificate{Cosignatures: own}).MedianTime())
	}
	return least
}

func without(names []string, i int) []string {
	return slices.Delete(slices.Clone(names), i, i+1)
}

func (q *Quorum) shortfall(names []string) string {
	have := q.count(names)
	parts := make([]string, len(q.configs))
	for set, config := range q.configs {
		parts[set] = fmt.Sprintf("%d of the %d cosignatures that configuration %d needs", have[set], config.GetQuorum(), config.GetHeader().GetSequence())
	}
	return strings.Join(parts, ", ")
}

// Assemble makes the certificate out of signatures that the caller verified: it
// drops those of strangers and those that can be left out, the last by name
// first. The error is a *tlog.PolicyError while the quorum is not reached.
func (q *Quorum) Assemble(checkpoint tlog.Checkpoint, log tlog.LogSignature, collected []tlog.Cosignature) (*tlog.Certificate, error) {
	kept := slices.Clone(collected)
	kept = slices.DeleteFunc(kept, func(s tlog.Cosignature) bool { _, ok := q.Cosigner(s.Name); return !ok })
	slices.SortStableFunc(kept, func(a, b tlog.Cosignature) int { return strings.Compare(a.Name, b.Name) })
	kept = slices.CompactFunc(kept, func(a, b tlog.Cosignature) bool { return a.Name == b.Name })
	names := make([]string, len(kept))
	for i, s := range kept {
		names[i] = s.Name
	}
	if !q.reached(names) {
		return nil, &tlog.PolicyError{Origin: checkpoint.Origin, Size: checkpoint.Size, Reason: q.shortfall(names)}
	}
	for i := len(names) - 1; i >= 0; i-- {
		if fewer := without(names, i); q.reached(fewer) {
			names, kept = fewer, slices.Delete(kept, i, i+1)
		}
	}
	return tlog.NewCertificate(checkpoint, log, kept)
}

// Policies are the quorum's sets as C2SP policies: one, or the old and the new
// replicas' of a block that brought a configuration. A certificate for a
// verifier who knows only the old ones is Policies()[0].Assemble's.
func (q *Quorum) Policies() ([]*tlog.Policy, error) {
	var policies []*tlog.Policy
	for _, config := range q.configs {
		p, err := policyOf(q.origin, config)
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

// PolicyOf is a configuration as a C2SP policy: any of the replicas' log keys,
// and the quorum of their cosigner keys.
func PolicyOf(config *recordv1.NetworkConfig, networkID digest.Digest) (*tlog.Policy, error) {
	origin, err := tlog.Origin(config.GetName(), networkID)
	if err != nil {
		return nil, err
	}
	return policyOf(origin, config)
}

func policyOf(origin string, config *recordv1.NetworkConfig) (*tlog.Policy, error) {
	var logs, cosigners []tlog.VerifierKey
	for _, r := range config.GetReplicas() {
		for _, tagged := range [][]byte{r.GetLogKey(), r.GetCosignerKey()} {
			if key, err := signature.ParseKey(tagged); err != nil {
				return nil, fmt.Errorf("replica %s: %w", r.GetNodeId(), err)
			} else if key.Kind() != signature.Ed25519 {
				return nil, fmt.Errorf("replica %s: %v is not of kind %v", r.GetNodeId(), key, signature.Ed25519)
			}
		}
		if bytes.Equal(r.GetLogKey(), r.GetCosignerKey()) {
			return nil, fmt.Errorf("replica %s: one key for log and cosigner", r.GetNodeId())
		}
		logs = append(logs, verifierKey(origin, tlog.LogKey, r.GetLogKey()))
		cosigners = append(cosigners, verifierKey(CosignerName(origin, r.GetNodeId()), tlog.CosignerKey, r.GetCosignerKey()))
	}
	return tlog.NewQuorumPolicy(logs, cosigners, int(config.GetQuorum()))
}
