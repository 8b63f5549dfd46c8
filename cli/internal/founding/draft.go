package founding

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Terms are what a network shall be, beside its members.
type Terms struct {
	Name             string `json:"name"`                // first part of the log's origin, for ever
	IssuedAtUnixNano int64  `json:"issued_at_unix_nano"` // of every statement, and the time of block 0: the founders' word
	Quorum           uint32 `json:"quorum"`              // cosignatures of a certificate
	NotifiedBodies   []Body `json:"notified_bodies"`     // ascending by id
	Limits           Limits `json:"limits"`
}

// Limits are those of the configuration; lacre.record.v1.Limits says what each
// bounds.
type Limits struct {
	LatenessBoundNano    int64  `json:"lateness_bound_nano"`
	FutureBoundNano      int64  `json:"future_bound_nano"`
	MaxMissingRanges     uint32 `json:"max_missing_ranges"`
	MaxUncertifiedBlocks uint32 `json:"max_uncertified_blocks"`
}

// DefaultLimits are a proposal; founders sign their own.
func DefaultLimits() Limits {
	return Limits{
		LatenessBoundNano: int64(72 * time.Hour), FutureBoundNano: int64(10 * time.Second),
		MaxMissingRanges: 64, MaxUncertifiedBlocks: 16,
	}
}

// DefaultQuorum is the smallest quorum that rule C6 admits for n replicas: any
// two share more than F = floor((n-1)/3). For n = 3F+1 that is 2F+1.
func DefaultQuorum(n int) uint32 { return uint32((n+(n-1)/3)/2 + 1) }

// checkNames wants names that are safe in messages; what else they must be is the
// ledger's to say.
func (t *Terms) checkNames() error {
	var failures []error
	if strings.ContainsFunc(t.Name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		failures = append(failures, fmt.Errorf("name %.80q: want printable ASCII without spaces", t.Name))
	}
	for _, b := range t.NotifiedBodies {
		if err := record.CheckID(b.ID); err != nil {
			failures = append(failures, fmt.Errorf("notified body: %w", err))
		}
		if b.Organisation == "" {
			continue
		}
		if err := record.CheckID(b.Organisation); err != nil {
			failures = append(failures, fmt.Errorf("organisation that acts for notified body %.80q: %w", b.ID, err))
		}
	}
	return errors.Join(failures...)
}

// Draft is a network before anybody has signed it. Make it with NewDraft or
// ParseDraft; immutable.
//
// Its file has one line for each value: the terms, then every member file,
// ascending by organisation.
type Draft struct {
	Terms   Terms
	Members []*Member
	text    []byte

	network       digest.Digest
	configuration statement
	registrations []statement // ascending by node id
}

// statement is one statement of the genesis: its message, and the bytes that
// are signed.
type statement struct {
	message      proto.Message
	payload      []byte
	organisation string // whose root key signs it; "" for the configuration, which all sign
	what         string // for people
}

func (s *statement) envelope() *envelope.Envelope {
	return &envelope.Envelope{PayloadType: record.TypeOf(s.message), Payload: s.payload}
}

// NewDraft drafts a network of the members whose files are given.
func NewDraft(terms Terms, memberFiles ...[]byte) (*Draft, error) {
	terms.NotifiedBodies = slices.Clone(terms.NotifiedBodies)
	for i, b := range terms.NotifiedBodies {
		terms.NotifiedBodies[i] = b.sorted()
	}
	slices.SortFunc(terms.NotifiedBodies, func(a, b Body) int { return strings.Compare(a.ID, b.ID) })
	lines := make(map[string][]byte)
	var ids []string
	for _, text := range memberFiles {
		m, _, err := ParseMember(text)
		if err != nil {
			return nil, err
		}
		if lines[m.Organisation] != nil {
			return nil, fmt.Errorf("organisation %s has two member files", m.Organisation)
		}
		lines[m.Organisation] = bytes.TrimRight(text, "\n")
		ids = append(ids, m.Organisation)
	}
	header, err := json.Marshal(terms)
	if err != nil {
		return nil, err
	}
	text := bytes.Clone(header)
	text = append(text, '\n')
	slices.Sort(ids)
	for _, id := range ids {
		text = append(append(text, lines[id]...), '\n')
	}
	return ParseDraft(text)
}

// ParseDraft reads a draft and checks all of it: every member file with its
// signatures, that each key and address has one use, and every statement that
// follows, by the ledger's own checks (of the configuration, rule C6).
func ParseDraft(text []byte) (*Draft, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("draft of %d bytes, at most %d", len(text), maxFileBytes)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) != 0 || last == 0 {
		return nil, errors.New("draft: want lines, each ended")
	}
	d := &Draft{text: text}
	if err := decodeStrictly(lines[0], &d.Terms); err != nil {
		return nil, fmt.Errorf("draft, line 1: %w", err)
	}
	if canonical, err := json.Marshal(d.Terms); err != nil || !bytes.Equal(append(canonical, '\n'), lines[0]) {
		return nil, errors.New("draft, line 1: not in the one form that lacre network draft writes")
	}
	if err := d.Terms.checkNames(); err != nil {
		return nil, fmt.Errorf("draft, line 1: %w", err)
	}
	var failures []error
	for i, line := range lines[1 : len(lines)-1] {
		m, _, err := ParseMember(line)
		if err != nil {
			failures = append(failures, fmt.Errorf("draft, line %d: %w", i+2, err))
			continue
		}
		d.Members = append(d.Members, m)
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	if err := errors.Join(d.derive(), d.check()); err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	return d, nil
}

// derive makes the statements that follow from the draft.
func (d *Draft) derive() (err error) {
	config := d.config()
	d.configuration = statement{message: config, what: "configuration of network " + d.Terms.Name}
	if d.configuration.payload, err = wire.Encode(config); err != nil {
		return err
	}
	d.network = state.NetworkID(d.configuration.payload)
	for _, m := range d.Members {
		for _, n := range m.Nodes {
			signing, err := signature.NewKey(signature.Ed25519ZIP215, n.SigningKey.Raw())
			if err != nil {
				return err
			}
			spki, err := digest.Parse(n.SPKI)
			if err != nil {
				return err
			}
			s := statement{organisation: m.Organisation, what: "registration of node " + n.ID, message: &recordv1.NodeRegistration{
				Header: &recordv1.StatementHeader{NetworkId: d.network.Bytes(), Subject: record.SubjectNode(n.ID), Sequence: 1, IssuedAtUnixNano: d.Terms.IssuedAtUnixNano},
				NodeId: n.ID, Organisation: m.Organisation, Role: recordv1.Role(n.Role), Key: signing.Bytes(), TlsSpki: spki.Bytes(),
			}}
			if s.payload, err = wire.Encode(s.message); err != nil {
				return err
			}
			d.registrations = append(d.registrations, s)
		}
	}
	slices.SortFunc(d.registrations, func(a, b statement) int { return strings.Compare(a.what, b.what) })
	return nil
}

func (d *Draft) config() *recordv1.NetworkConfig {
	config := &recordv1.NetworkConfig{
		Header: &recordv1.StatementHeader{Subject: record.SubjectNetwork, Sequence: 1, IssuedAtUnixNano: d.Terms.IssuedAtUnixNano},
		Name:   d.Terms.Name, Quorum: d.Terms.Quorum, RecordVersion: state.RecordVersion,
		Limits: &recordv1.Limits{
			LatenessBoundNano: d.Terms.Limits.LatenessBoundNano, FutureBoundNano: d.Terms.Limits.FutureBoundNano,
			MaxMissingRanges: d.Terms.Limits.MaxMissingRanges, MaxUncertifiedBlocks: d.Terms.Limits.MaxUncertifiedBlocks,
		},
	}
	for _, b := range d.Terms.NotifiedBodies {
		config.NotifiedBodies = append(config.NotifiedBodies, b.Message())
	}
	for _, m := range d.Members {
		config.Organisations = append(config.Organisations, &recordv1.Organisation{Id: m.Organisation, RootKey: m.RootKey.Bytes(), EvidenceKey: m.EvidenceKey.Bytes()})
		for _, n := range m.Nodes {
			if recordv1.Role(n.Role) == recordv1.Role_ROLE_REPLICA {
				config.Replicas = append(config.Replicas, &recordv1.Replica{NodeId: n.ID, Organisation: m.Organisation, CosignerKey: n.CosignerKey.Bytes(), LogKey: n.LogKey.Bytes()})
			}
		}
	}
	slices.SortFunc(config.Replicas, func(a, b *recordv1.Replica) int { return strings.Compare(a.GetNodeId(), b.GetNodeId()) })
	return config
}

// check reports everything that makes the draft no network.
func (d *Draft) check() error {
	var bodies []usedKey
	for _, b := range d.Terms.NotifiedBodies {
		for _, key := range b.Keys {
			bodies = append(bodies, usedKey{"key of notified body " + b.ID, key.Key})
		}
	}
	failures := []error{checkDistinct(d.Members, bodies...)}
	if d.Terms.IssuedAtUnixNano <= 0 {
		failures = append(failures, fmt.Errorf("issued at %d ns, want a time after 1970", d.Terms.IssuedAtUnixNano))
	}
	seen := make(map[string]bool)
	for _, s := range append([]statement{d.configuration}, d.registrations...) {
		if err := state.CheckStatement(s.message); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", s.what, err))
		}
		if seen[s.what] {
			failures = append(failures, fmt.Errorf("%s: two organisations run a node of that id", s.what))
		}
		seen[s.what] = true
	}
	return errors.Join(failures...)
}

// Bytes are the draft's file.
func (d *Draft) Bytes() []byte { return d.text }

// NetworkID is the identity that the network will have.
func (d *Draft) NetworkID() digest.Digest { return d.network }

// Book is the address book that follows from the draft.
func (d *Draft) Book() *Book {
	b := &Book{Name: d.Terms.Name, NetworkID: d.network.String()}
	for _, m := range d.Members {
		b.Nodes = append(b.Nodes, m.nodes()...)
	}
	slices.SortFunc(b.Nodes, func(a, c Node) int { return strings.Compare(a.ID, c.ID) })
	return b
}

// member finds an organisation's entry; nil when it has none.
func (d *Draft) member(organisation string) *Member {
	for _, m := range d.Members {
		if m.Organisation == organisation {
			return m
		}
	}
	return nil
}

// signs lists the statements that an organisation signs: the configuration, and
// its own registrations.
func (d *Draft) signs(organisation string) []statement {
	list := []statement{d.configuration}
	for _, s := range d.registrations {
		if s.organisation == organisation {
			list = append(list, s)
		}
	}
	return list
}

// Text is the draft for people: all that the statements say.
func (d *Draft) Text() string {
	var b strings.Builder
	config := d.config()
	n := len(config.GetReplicas())
	fmt.Fprintf(&b, "network  %s\n         id %s\nissued   %s (every statement, and block 0)\n", d.Terms.Name, d.network, time.Unix(0, d.Terms.IssuedAtUnixNano).UTC().Format(time.RFC3339Nano))
	fmt.Fprintf(&b, "quorum   %d of %d replicas: %d may lie, and %d may be away\n", d.Terms.Quorum, n, (n-1)/3, max(0, n-int(d.Terms.Quorum)))
	l := d.Terms.Limits
	fmt.Fprintf(&b, "limits   lateness %s, future dating %s, %d missing ranges for each meter, %d uncertified blocks\n",
		time.Duration(l.LatenessBoundNano), time.Duration(l.FutureBoundNano), l.MaxMissingRanges, l.MaxUncertifiedBlocks)
	for _, body := range d.Terms.NotifiedBodies {
		b.WriteString(body.text())
	}
	for _, m := range d.Members {
		fmt.Fprintf(&b, "\norganisation %s\n  root key %s %x\n", m.Organisation, m.RootKey.Kind(), m.RootKey.Raw())
		if m.EvidenceKey != "" {
			fmt.Fprintf(&b, "  reads evidence sealed to X25519 %s\n", m.EvidenceKey)
		}
		for _, node := range m.Nodes {
			role, err := node.Role.MarshalText()
			if err != nil {
				role = []byte("?")
			}
			fmt.Fprintf(&b, "  %s %s at %s\n    TLS      SPKI %s\n    signing  %x\n", role, node.ID, node.Address, node.SPKI, node.SigningKey.Raw())
			if node.RaftAddress != "" {
				fmt.Fprintf(&b, "    cosigner %x\n    log      %x\n    ordering engine at %s\n", node.CosignerKey.Raw(), node.LogKey.Raw(), node.RaftAddress)
			}
		}
	}
	return b.String()
}
