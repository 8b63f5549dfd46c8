package founding

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// MemberType is the media type of a member file's payload.
const MemberType = "application/vnd.lacre.member.v1+json"

// Member is what one organisation says of itself to those it founds a network
// with. The addresses tell where its nodes will be; nothing on the ledger does.
type Member struct {
	Organisation  string       `json:"organisation"`
	RootKey       PublicKey    `json:"root_key"`
	EvidenceKey   EvidenceKey  `json:"evidence_key,omitzero"` // to which meters seal evidence, if the organisation may read it
	CACertificate []byte       `json:"ca_certificate"`        // DER; for other people's TLS tools, grants nothing (rule N1)
	Nodes         []MemberNode `json:"nodes"`                 // ascending by id
}

// MemberNode is one node of a member. All its keys are Ed25519.
type MemberNode struct {
	ID          string    `json:"id"`
	Role        RoleName  `json:"role"`
	Address     string    `json:"address"`                // host:port of its gRPC server, as others reach it
	RaftAddress string    `json:"raft_address,omitempty"` // host:port of a replica's ordering engine
	SPKI        string    `json:"spki"`                   // SHA-256 of the TLS key's SubjectPublicKeyInfo, hexadecimal
	TLSKey      PublicKey `json:"tls_key"`
	SigningKey  PublicKey `json:"signing_key"` // endorsements and events
	CosignerKey PublicKey `json:"cosigner_key,omitzero"`
	LogKey      PublicKey `json:"log_key,omitzero"`
}

// PublicKey is a public key in JSON: its raw bytes in hexadecimal, 32 bytes of
// Ed25519 or the 65 of an uncompressed P-256 point, as `lacre key show` prints.
type PublicKey struct{ signature.Key }

// ParsePublicKey reads that form.
func ParsePublicKey(text string) (PublicKey, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || strings.ToLower(text) != text {
		return PublicKey{}, fmt.Errorf("public key %.80q is not lower-case hexadecimal", text)
	}
	kind := signature.Ed25519
	if len(raw) != ed25519.PublicKeySize {
		kind = signature.P256
	}
	key, err := signature.NewKey(kind, raw)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key of %d bytes: want the 32 of Ed25519, or the 65 of an uncompressed P-256 point", len(raw))
	}
	return PublicKey{key}, signature.CheckKey(key)
}

// MarshalText implements encoding.TextMarshaler.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k.Raw())), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *PublicKey) UnmarshalText(text []byte) (err error) {
	*k, err = ParsePublicKey(string(text))
	return err
}

// EvidenceKey is the X25519 public key of whoever reads evidence: 64 hexadecimal
// digits, as `lacre evidence key` prints it. It signs nothing, so unlike the other
// keys of a member file it comes without a proof that somebody holds it.
type EvidenceKey string

// Bytes is the key as a configuration lists it; nil for none.
func (k EvidenceKey) Bytes() []byte {
	b, err := hex.DecodeString(string(k))
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

func (k EvidenceKey) check() error {
	b, err := hex.DecodeString(string(k))
	if err != nil || hex.EncodeToString(b) != string(k) {
		return fmt.Errorf("evidence key %.80q is not lower-case hexadecimal", string(k))
	}
	return evidence.CheckKey(b)
}

// RoleName is a role in JSON: replica, endorser, gateway or approval.
type RoleName recordv1.Role

// MarshalText implements encoding.TextMarshaler.
func (r RoleName) MarshalText() ([]byte, error) {
	name, ok := strings.CutPrefix(recordv1.Role(r).String(), "ROLE_")
	if !ok || recordv1.Role(r) == recordv1.Role_ROLE_UNSPECIFIED {
		return nil, fmt.Errorf("role %d has no name", r)
	}
	return []byte(strings.ToLower(name)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *RoleName) UnmarshalText(text []byte) error {
	value, ok := recordv1.Role_value["ROLE_"+strings.ToUpper(string(text))]
	if !ok || value == 0 || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("role %.80q is not replica, endorser, gateway or approval", text)
	}
	*r = RoleName(value)
	return nil
}

// keys are the keys of a member, each with its use.
func (m *Member) keys() []usedKey {
	keys := []usedKey{{"root key of " + m.Organisation, m.RootKey.Key}}
	for _, n := range m.Nodes {
		keys = append(keys, usedKey{"TLS key of " + n.ID, n.TLSKey.Key}, usedKey{"signing key of " + n.ID, n.SigningKey.Key})
		if n.Role == RoleName(recordv1.Role_ROLE_REPLICA) {
			keys = append(keys, usedKey{"cosigner key of " + n.ID, n.CosignerKey.Key}, usedKey{"log key of " + n.ID, n.LogKey.Key})
		}
	}
	return keys
}

type usedKey struct {
	use string
	key signature.Key
}

// checkIDs wants ids that are safe in file names and in messages.
func (m *Member) checkIDs() error {
	failures := []error{record.CheckID(m.Organisation)}
	for _, n := range m.Nodes {
		failures = append(failures, record.CheckID(n.ID))
	}
	return errors.Join(failures...)
}

// check reports everything else that is wrong with what the member says.
func (m *Member) check() error {
	var failures []error
	fail := func(err error) {
		if err != nil {
			failures = append(failures, err)
		}
	}
	_, err := x509.ParseCertificate(m.CACertificate)
	fail(err)
	if m.EvidenceKey != "" {
		fail(m.EvidenceKey.check())
	}
	if len(m.Nodes) == 0 {
		fail(errors.New("it runs no node"))
	}
	for i, n := range m.Nodes {
		if i > 0 && n.ID <= m.Nodes[i-1].ID {
			fail(fmt.Errorf("node %q after %q, want ascending distinct ids", n.ID, m.Nodes[i-1].ID))
		}
		fail(checkAddress(n.Address))
		replica := n.Role == RoleName(recordv1.Role_ROLE_REPLICA)
		if replica {
			fail(checkAddress(n.RaftAddress))
		}
		if replica == n.CosignerKey.IsZero() || replica == n.LogKey.IsZero() || replica == (n.RaftAddress == "") {
			fail(fmt.Errorf("node %s: a replica has cosigner key, log key and raft address, and nobody else has", n.ID))
		}
		if spki, err := spkiOf(n.TLSKey.Key); err != nil || spki != n.SPKI {
			fail(fmt.Errorf("node %s: spki is %.80q, its tls_key has %s", n.ID, n.SPKI, spki))
		}
	}
	for _, k := range m.keys() {
		if k.key.Kind() != signature.Ed25519 && k.key != m.RootKey.Key {
			fail(fmt.Errorf("%s is %v, want Ed25519", k.use, k.key))
		}
	}
	return errors.Join(failures...)
}

// spkiOf is the SHA-256 of an Ed25519 key's SubjectPublicKeyInfo.
func spkiOf(key signature.Key) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(key.Raw()))
	if err != nil || key.Kind() != signature.Ed25519 {
		return "", fmt.Errorf("%v is no TLS key", key)
	}
	d := sha256.Sum256(der)
	return hex.EncodeToString(d[:]), nil
}

// encode is the payload: JSON in the one form that parseMember takes.
func (m *Member) encode() ([]byte, error) { return json.Marshal(m) }

// ParseMember reads a member file and checks it: the form, every signature, and
// what it says. A signature by each key in it proves that whoever made the file
// holds them all.
func ParseMember(text []byte) (*Member, *envelope.Envelope, error) {
	e, err := envelope.Parse(bytes.TrimRight(text, "\n"))
	if err != nil {
		return nil, nil, err
	}
	if e.PayloadType != MemberType {
		return nil, nil, fmt.Errorf("payload type is %q, a member file has %q", e.PayloadType, MemberType)
	}
	m := new(Member)
	if err := decodeStrictly(e.Payload, m); err != nil {
		return nil, nil, err
	}
	if canonical, err := m.encode(); err != nil || !bytes.Equal(canonical, e.Payload) {
		return nil, nil, errors.New("the payload is not in the one form that lacre init writes")
	}
	if err := m.checkIDs(); err != nil {
		return nil, nil, err // the messages below name the ids
	}
	failures := []error{m.check()}
	keys := m.keys()
	for _, k := range keys {
		if err := e.Verify(signature.Direct{}, k.key); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", k.use, err))
		}
	}
	if len(e.Signatures) != len(keys) {
		failures = append(failures, fmt.Errorf("%d signatures for %d keys", len(e.Signatures), len(keys)))
	}
	return m, e, errors.Join(failures...)
}

// ReadMember reads a member file, and returns its text too.
func ReadMember(path string) (*Member, []byte, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("member file: %w", err)
	}
	m, _, err := ParseMember(text)
	if err != nil {
		return nil, nil, fmt.Errorf("member file %s: %w", path, err)
	}
	return m, text, nil
}

// decodeStrictly decodes one JSON value without unknown fields.
func decodeStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// nodes are the member's nodes as the address book lists them.
func (m *Member) nodes() []Node {
	nodes := make([]Node, len(m.Nodes))
	for i, n := range m.Nodes {
		nodes[i] = Node{ID: n.ID, Organisation: m.Organisation, Role: recordv1.Role(n.Role), Address: n.Address, RaftAddress: n.RaftAddress, SPKI: n.SPKI}
	}
	return nodes
}

// Replicas is how many replicas the member runs.
func (m *Member) Replicas() int {
	n := 0
	for _, node := range m.Nodes {
		if recordv1.Role(node.Role) == recordv1.Role_ROLE_REPLICA {
			n++
		}
	}
	return n
}

// checkDistinct wants every key and every address to have one use.
func checkDistinct(members []*Member, others ...usedKey) error {
	var failures []error
	uses := make(map[string]string)
	take := func(what, value string) {
		if earlier, taken := uses[value]; taken {
			failures = append(failures, fmt.Errorf("%s is also the %s: each has one use", what, earlier))
		}
		uses[value] = what
	}
	keys, addresses := slices.Clone(others), []usedAddress(nil)
	for _, m := range members {
		keys = append(keys, m.keys()...)
		for _, n := range m.Nodes {
			addresses = append(addresses, usedAddress{"address " + n.Address + " of " + n.ID, n.Address})
			if n.RaftAddress != "" {
				addresses = append(addresses, usedAddress{"raft address " + n.RaftAddress + " of " + n.ID, n.RaftAddress})
			}
		}
	}
	for _, k := range keys {
		take(k.use, pointOf(k.key))
	}
	for _, a := range addresses {
		take(a.use, a.address)
	}
	return errors.Join(failures...)
}

type usedAddress struct{ use, address string }
