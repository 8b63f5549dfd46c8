// Package change drafts the next configuration of a founded network: who and what
// is added to the one in force, and what leaves it.
//
// Source: architecture, rules C6 and S4; docs/runbooks/governance.md.
//
// Invariants:
//   - A draft follows from the configuration in force, which was proven from a
//     pinned trust bundle, and from what is asked for. Nothing else differs, and
//     Difference shows all that does.
//   - A draft is checked by the ledger's own checks before anybody signs it.
package change

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Order is what shall change. The zero value changes nothing.
type Order struct {
	AddOrganisations    []*founding.Member // root key and evidence key; their nodes register afterwards
	RemoveOrganisations []string
	AddReplicas         []*founding.Member // every replica in them that is not yet one
	RemoveReplicas      []string
	Bodies              []founding.Body // added, or put in the place of the one of that id
	RemoveBodies        []string
	EvidenceKeys        []string // ORGANISATION=HEX, or ORGANISATION= for none
	Limits              []string // NAME=VALUE
	Quorum              uint32   // 0: the smallest that rule C6 admits if replicas change, else as before
	RecordVersion       uint32   // 0: as before
}

// Draft makes the configuration after the one in force.
func Draft(inForce *state.Config, o Order, issuedAt time.Time) (*recordv1.NetworkConfig, error) {
	before := inForce.Message
	c := proto.CloneOf(before)
	c.Recovery = nil
	c.Header = &recordv1.StatementHeader{
		NetworkId: inForce.NetworkID.Bytes(), Subject: record.SubjectNetwork, Sequence: before.GetHeader().GetSequence() + 1,
		Predecessor: inForce.Digest.Bytes(), IssuedAtUnixNano: issuedAt.UnixNano(),
	}
	for _, step := range []func(*recordv1.NetworkConfig, Order) error{organisations, replicas, bodies, limits} {
		if err := step(c, o); err != nil {
			return nil, err
		}
	}
	sortConfig(c)
	switch {
	case o.Quorum > 0:
		c.Quorum = o.Quorum
	case len(o.AddReplicas)+len(o.RemoveReplicas) > 0:
		c.Quorum = founding.DefaultQuorum(len(c.Replicas))
	}
	if o.RecordVersion > 0 {
		c.RecordVersion = o.RecordVersion
	}
	if err := state.CheckStatement(c); err != nil {
		return nil, err
	}
	if len(Difference(before, c)) == 0 {
		return nil, fmt.Errorf("nothing changes: the draft is configuration %d as it is", before.GetHeader().GetSequence())
	}
	return c, nil
}

func organisations(c *recordv1.NetworkConfig, o Order) error {
	at := func(id string) int {
		return slices.IndexFunc(c.Organisations, func(x *recordv1.Organisation) bool { return x.GetId() == id })
	}
	for _, m := range o.AddOrganisations {
		if at(m.Organisation) >= 0 {
			return fmt.Errorf("organisation %s is of the network already", m.Organisation)
		}
		c.Organisations = append(c.Organisations, &recordv1.Organisation{Id: m.Organisation, RootKey: m.RootKey.Bytes(), EvidenceKey: m.EvidenceKey.Bytes()})
	}
	for _, id := range o.RemoveOrganisations {
		i := at(id)
		if i < 0 {
			return fmt.Errorf("organisation %q is not of the network", id)
		}
		c.Organisations = slices.Delete(c.Organisations, i, i+1)
	}
	for _, text := range o.EvidenceKeys {
		id, key, ok := strings.Cut(text, "=")
		i := at(id)
		if !ok || i < 0 {
			return fmt.Errorf("evidence key %.80q: want ORGANISATION=HEX of an organisation of the network, or ORGANISATION= for none", text)
		}
		raw, err := hex.DecodeString(key)
		if err != nil {
			return fmt.Errorf("evidence key of %s: %w", id, err)
		}
		if len(raw) == 0 {
			raw = nil
		}
		c.Organisations[i].EvidenceKey = raw
	}
	return nil
}

func replicas(c *recordv1.NetworkConfig, o Order) error {
	at := func(id string) int {
		return slices.IndexFunc(c.Replicas, func(x *recordv1.Replica) bool { return x.GetNodeId() == id })
	}
	for _, id := range o.RemoveReplicas {
		i := at(id)
		if i < 0 {
			return fmt.Errorf("%q is no replica of the network", id)
		}
		c.Replicas = slices.Delete(c.Replicas, i, i+1)
	}
	for _, m := range o.AddReplicas {
		added := 0
		for _, n := range m.Nodes {
			if recordv1.Role(n.Role) != recordv1.Role_ROLE_REPLICA || at(n.ID) >= 0 {
				continue
			}
			c.Replicas = append(c.Replicas, &recordv1.Replica{NodeId: n.ID, Organisation: m.Organisation, CosignerKey: n.CosignerKey.Bytes(), LogKey: n.LogKey.Bytes()})
			added++
		}
		if added == 0 {
			return fmt.Errorf("the member file of %s has no replica that is not of the network already", m.Organisation)
		}
	}
	return nil
}

func bodies(c *recordv1.NetworkConfig, o Order) error {
	at := func(id string) int {
		return slices.IndexFunc(c.NotifiedBodies, func(x *recordv1.NotifiedBody) bool { return x.GetId() == id })
	}
	for _, b := range o.Bodies {
		if i := at(b.ID); i >= 0 {
			c.NotifiedBodies[i] = b.Message()
		} else {
			c.NotifiedBodies = append(c.NotifiedBodies, b.Message())
		}
	}
	for _, id := range o.RemoveBodies {
		i := at(id)
		if i < 0 {
			return fmt.Errorf("%q is no notified body of the network", id)
		}
		c.NotifiedBodies = slices.Delete(c.NotifiedBodies, i, i+1)
	}
	return nil
}

// LimitNames are the limits that Order.Limits may name.
func LimitNames() []string {
	return []string{"lateness", "future-bound", "max-missing-ranges", "max-uncertified-blocks", "raw-vector-retention"}
}

func limits(c *recordv1.NetworkConfig, o Order) error {
	for _, text := range o.Limits {
		name, value, _ := strings.Cut(text, "=")
		var err error
		var span time.Duration
		var count uint64
		if name == "lateness" || name == "future-bound" || name == "raw-vector-retention" {
			span, err = time.ParseDuration(value)
		} else {
			count, err = strconv.ParseUint(value, 10, 32)
		}
		if err != nil {
			return fmt.Errorf("limit %.80q: %w", text, err)
		}
		switch name {
		case "lateness":
			c.Limits.LatenessBoundNano = int64(span)
		case "future-bound":
			c.Limits.FutureBoundNano = int64(span)
		case "max-missing-ranges":
			c.Limits.MaxMissingRanges = uint32(count)
		case "max-uncertified-blocks":
			c.Limits.MaxUncertifiedBlocks = uint32(count)
		case "raw-vector-retention":
			c.Limits.RawVectorRetentionNano = int64(span)
		default:
			return fmt.Errorf("limit %.80q: want one of %s", name, strings.Join(LimitNames(), ", "))
		}
	}
	return nil
}

func sortConfig(c *recordv1.NetworkConfig) {
	slices.SortFunc(c.Organisations, func(a, b *recordv1.Organisation) int { return strings.Compare(a.GetId(), b.GetId()) })
	slices.SortFunc(c.Replicas, func(a, b *recordv1.Replica) int { return strings.Compare(a.GetNodeId(), b.GetNodeId()) })
	slices.SortFunc(c.NotifiedBodies, func(a, b *recordv1.NotifiedBody) int { return strings.Compare(a.GetId(), b.GetId()) })
}

// Difference says, a line each, where a configuration differs from the one before.
func Difference(before, after *recordv1.NetworkConfig) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	old, next := items(before), items(after)
	for _, i := range old {
		if at := slices.IndexFunc(next, func(n item) bool { return n.name == i.name }); at < 0 {
			say("- %s  %s", i.name, i.value)
		} else if next[at].value != i.value {
			say("  %s  %s  ->  %s", i.name, i.value, next[at].value)
		}
	}
	for _, i := range next {
		if !slices.ContainsFunc(old, func(o item) bool { return o.name == i.name }) {
			say("+ %s  %s", i.name, i.value)
		}
	}
	return lines
}

// retention is how long raw vectors are kept at least, in words.
func retention(l *recordv1.Limits) string {
	if l.GetRawVectorRetentionNano() == 0 {
		return "for ever"
	}
	return time.Duration(l.GetRawVectorRetentionNano()).String()
}

// item is one thing that a configuration says.
type item struct{ name, value string }

func items(c *recordv1.NetworkConfig) []item {
	l := c.GetLimits()
	list := []item{
		{"name", c.GetName()},
		{"quorum", fmt.Sprintf("%d of %d replicas", c.GetQuorum(), len(c.GetReplicas()))},
		{"record version", strconv.FormatUint(uint64(c.GetRecordVersion()), 10)},
		{"limit lateness", time.Duration(l.GetLatenessBoundNano()).String()},
		{"limit future-bound", time.Duration(l.GetFutureBoundNano()).String()},
		{"limit max-missing-ranges", strconv.FormatUint(uint64(l.GetMaxMissingRanges()), 10)},
		{"limit max-uncertified-blocks", strconv.FormatUint(uint64(l.GetMaxUncertifiedBlocks()), 10)},
		{"limit raw-vector-retention", retention(l)},
	}
	for _, o := range c.GetOrganisations() {
		list = append(list, item{"organisation " + o.GetId(), fmt.Sprintf("root key %x, evidence key %x", o.GetRootKey(), o.GetEvidenceKey())})
	}
	for _, r := range c.GetReplicas() {
		list = append(list, item{"replica " + r.GetNodeId(), fmt.Sprintf("of %s, cosigner %x, log %x", r.GetOrganisation(), r.GetCosignerKey(), r.GetLogKey())})
	}
	for _, b := range c.GetNotifiedBodies() {
		list = append(list, item{"notified body " + b.GetId(), fmt.Sprintf("%d of keys %x, organisation %q", b.GetThreshold(), b.GetKeys(), b.GetOrganisation())})
	}
	if r := c.GetRecovery(); r != nil {
		list = append(list, item{"RECOVERY", fmt.Sprintf("continues block %d, header %x, with %d locks", r.GetHeight(), r.GetHeader(), len(r.GetLocks()))})
	}
	return list
}
