package founding

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Sign signs for the organisation whose root key the signer holds: the
// configuration and its own registrations. own is that organisation's own member
// file, or nil: when it is given, the draft's entry must be just that file.
//
// The signatures' file has one DSSE envelope on each line.
func Sign(d *Draft, root crypto.Signer, own []byte) (organisation string, file []byte, err error) {
	m := d.memberOf(root.Public())
	if m == nil {
		ids := make([]string, len(d.Members))
		for i, member := range d.Members {
			ids[i] = member.Organisation
		}
		return "", nil, fmt.Errorf("the key is the root key of none of the draft's organisations (%s)", strings.Join(ids, ", "))
	}
	if own != nil {
		if err := d.hasEntry(m.Organisation, own); err != nil {
			return "", nil, err
		}
	}
	for _, s := range d.signs(m.Organisation) {
		e, err := record.SignStatement(record.TypeOf(s.message), s.payload, root)
		if err != nil {
			return "", nil, err
		}
		line, err := e.Encode()
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", s.what, err)
		}
		file = append(append(file, line...), '\n')
	}
	return m.Organisation, file, nil
}

// memberOf finds the organisation of a root key.
func (d *Draft) memberOf(public crypto.PublicKey) *Member {
	for _, m := range d.Members {
		if key, err := signature.KeyOf(m.RootKey.Kind(), public); err == nil && key == m.RootKey.Key {
			return m
		}
	}
	return nil
}

// hasEntry wants the draft's entry for an organisation to be its own member file.
func (d *Draft) hasEntry(organisation string, own []byte) error {
	m, _, err := ParseMember(own)
	if err != nil {
		return fmt.Errorf("own member file: %w", err)
	}
	if m.Organisation != organisation {
		return fmt.Errorf("the member file is that of %s, the key that of %s", m.Organisation, organisation)
	}
	entry := slices.ContainsFunc(bytes.SplitAfter(d.text, []byte("\n")), func(line []byte) bool {
		return bytes.Equal(bytes.TrimRight(line, "\n"), bytes.TrimRight(own, "\n"))
	})
	if entry {
		return nil
	}
	return fmt.Errorf("the draft's entry for %s is not its member file; they differ in: %s", organisation, strings.Join(difference(d.member(organisation), m), "; "))
}

// difference says where two entries of one organisation differ, the draft's
// first.
func difference(drafted, own *Member) []string {
	var found []string
	differ := func(what string, a, b any) {
		if a != b {
			found = append(found, fmt.Sprintf("%s: drafted %v, own %v", what, a, b))
		}
	}
	differ("root key", drafted.RootKey, own.RootKey)
	differ("evidence key", drafted.EvidenceKey, own.EvidenceKey)
	if !bytes.Equal(drafted.CACertificate, own.CACertificate) {
		found = append(found, "CA certificate")
	}
	nodes := make(map[string][2]*MemberNode)
	for side, m := range []*Member{drafted, own} {
		for i := range m.Nodes {
			pair := nodes[m.Nodes[i].ID]
			pair[side] = &m.Nodes[i]
			nodes[m.Nodes[i].ID] = pair
		}
	}
	for id, pair := range nodes {
		if pair[0] == nil || pair[1] == nil {
			differ("node "+id, pair[0] != nil, pair[1] != nil)
			continue
		}
		differ("address of "+id, pair[0].Address, pair[1].Address)
		differ("raft address of "+id, pair[0].RaftAddress, pair[1].RaftAddress)
		differ("role of "+id, recordv1.Role(pair[0].Role), recordv1.Role(pair[1].Role))
		differ("SPKI of "+id, pair[0].SPKI, pair[1].SPKI)
		differ("signing key of "+id, pair[0].SigningKey, pair[1].SigningKey)
		differ("cosigner key of "+id, pair[0].CosignerKey, pair[1].CosignerKey)
		differ("log key of "+id, pair[0].LogKey, pair[1].LogKey)
	}
	if len(found) == 0 {
		found = []string{"the signatures"}
	}
	slices.Sort(found)
	return found
}

// Signatures is one signatures' file, with a name for messages.
type Signatures struct {
	Name string
	Text []byte
}

// collected are the verified signatures on a draft's statements.
type collected map[string]map[string]*envelope.Envelope // by what, then by organisation

// collect verifies the signatures' files against the draft. The error joins
// everything that is missing or wrong.
func (d *Draft) collect(files []Signatures) (collected, error) {
	got := make(collected)
	var failures []error
	for _, f := range files {
		if err := d.take(f, got); err != nil {
			failures = append(failures, err)
		}
	}
	for _, m := range d.Members {
		var missing []string
		signs := d.signs(m.Organisation)
		for _, s := range signs {
			if got[s.what][m.Organisation] == nil {
				missing = append(missing, s.what)
			}
		}
		switch {
		case len(missing) == len(signs):
			failures = append(failures, fmt.Errorf("%s: no valid signature of its root key; it signs with \"lacre network sign\"", m.Organisation))
		case len(missing) > 0:
			failures = append(failures, fmt.Errorf("%s: no valid signature on the %s", m.Organisation, strings.Join(missing, ", ")))
		}
	}
	return got, errors.Join(failures...)
}

// take takes the signatures of one file.
func (d *Draft) take(f Signatures, got collected) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format, append([]any{f.Name}, args...)...)
	}
	lines := bytes.Split(bytes.TrimRight(f.Text, "\n"), []byte("\n"))
	var failures []error
	for i, line := range lines {
		e, err := envelope.Parse(line)
		if err != nil {
			return wrong("line %d: %w", i+1, err)
		}
		s := d.statement(e)
		if s == nil {
			return wrong("line %d signs a statement that does not follow from this draft: it was made for another one", i+1)
		}
		if len(e.Signatures) != 1 {
			return wrong("%s has %d signatures, want that of one organisation", s.what, len(e.Signatures))
		}
		organisation := s.organisation
		if organisation == "" {
			organisation = d.organisationOf(e.Signatures[0].KeyID)
		}
		m := d.member(organisation)
		if m == nil {
			failures = append(failures, wrong("%s is signed by key %.8s.., which is no organisation's root key", s.what, e.Signatures[0].KeyID))
			continue
		}
		if err := e.Verify(signature.Direct{}, m.RootKey.Key); err != nil {
			failures = append(failures, wrong("%s by %s: %w", s.what, organisation, err))
			continue
		}
		if got[s.what] == nil {
			got[s.what] = make(map[string]*envelope.Envelope)
		}
		got[s.what][organisation] = e
	}
	return errors.Join(failures...)
}

// statement finds the statement that an envelope signs, by its exact bytes.
func (d *Draft) statement(e *envelope.Envelope) *statement {
	all := append([]statement{d.configuration}, d.registrations...)
	for i := range all {
		if record.TypeOf(all[i].message) == e.PayloadType && bytes.Equal(all[i].payload, e.Payload) {
			return &all[i]
		}
	}
	return nil
}

// organisationOf finds the organisation of a root key's id; "" when it is none's.
func (d *Draft) organisationOf(keyID string) string {
	for _, m := range d.Members {
		if m.RootKey.ID() == keyID {
			return m.Organisation
		}
	}
	return ""
}
