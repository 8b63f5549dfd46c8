package founding

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Files are what Verify judges. Only Genesis is needed; nil files are not there.
type Files struct {
	Genesis, Trust, Book, Draft []byte
}

// ReadFiles reads a network's directory, or a genesis file alone.
func ReadFiles(path string) (f Files, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	if !info.IsDir() {
		f.Genesis, err = ReadFile(path)
		return f, err
	}
	for _, part := range []struct {
		name string
		into *[]byte
		must bool
	}{{GenesisFile, &f.Genesis, true}, {TrustFile, &f.Trust, false}, {BookFile, &f.Book, false}, {DraftFile, &f.Draft, false}} {
		*part.into, err = ReadFile(filepath.Join(path, part.name))
		if err != nil && (part.must || !errors.Is(err, fs.ErrNotExist)) {
			return f, err
		}
	}
	return f, nil
}

// Check is one thing that was looked at.
type Check struct {
	Name    string          `json:"name"`
	Verdict receipt.Verdict `json:"verdict"`
	Detail  string          `json:"detail"`
}

// Report says what a network's files are worth.
type Report struct {
	Verdict       receipt.Verdict `json:"verdict"`
	Name          string          `json:"name,omitempty"`
	NetworkID     string          `json:"network_id,omitempty"`
	TrustDigest   string          `json:"trust_digest,omitempty"`
	GenesisDigest string          `json:"genesis_sha256"`
	Quorum        uint32          `json:"quorum,omitempty"`
	Organisations []string        `json:"organisations,omitempty"`
	Nodes         []string        `json:"nodes,omitempty"`
	Checks        []Check         `json:"checks"`

	trust *trust.Bundle
}

// Text is the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-11s  %-14s  %s\n", c.Verdict, c.Name, c.Detail)
	}
	fmt.Fprintf(&b, "\nnetwork  %s\n         id %s\ntrust    digest %s\ngenesis  SHA-256 %s\n%s\n", r.Name, r.NetworkID, r.TrustDigest, r.GenesisDigest, r.Verdict)
	return b.String()
}

// verification is a Verify in progress.
type verification struct {
	Report
	config *recordv1.NetworkConfig
	nodes  []*recordv1.NodeRegistration
	signed []*envelope.Envelope // as the records
}

// Verify replays a genesis through the ledger's transition, checks what founders
// want beyond it, and compares the files beside it. Without the network's id,
// known in another way, nobody can say which network it is: that check is then
// undecidable.
func Verify(f Files, networkID string) *Report {
	v := &verification{}
	v.GenesisDigest = digest.Plain(f.Genesis).String()
	if detail, err := v.genesis(f.Genesis); v.check("genesis", detail, err) {
		detail, err = v.signatures()
		v.check("signatures", detail, err)
		detail, err = v.keys()
		v.check("keys", detail, err)
		v.pinned(networkID)
		v.beside(f)
	}
	v.Verdict = receipt.Verified
	for _, c := range v.Checks {
		if c.Verdict == receipt.Refuted || c.Verdict == receipt.Undecidable && v.Verdict == receipt.Verified {
			v.Verdict = c.Verdict
		}
	}
	return &v.Report
}

func (v *verification) add(name string, verdict receipt.Verdict, detail string) {
	v.Checks = append(v.Checks, Check{name, verdict, detail})
}

// check adds a check's outcome: detail, or the error.
func (v *verification) check(name string, detail string, err error) bool {
	if err != nil {
		v.add(name, receipt.Refuted, strings.ReplaceAll(err.Error(), "\n", "; "))
		return false
	}
	v.add(name, receipt.Verified, detail)
	return true
}

// genesis decodes the file, replays it, and notes what it says.
func (v *verification) genesis(text []byte) (string, error) {
	g := new(recordv1.Genesis)
	if err := record.Decode(text, maxFileBytes, g); err != nil {
		return "", err
	}
	if err := replay(g); err != nil {
		return "", err
	}
	for i, leaf := range g.GetRecords() {
		r, err := record.Parse(leaf)
		if err != nil {
			return "", err
		}
		e := record.ToEnvelope(r.GetStatement())
		v.signed = append(v.signed, e)
		switch e.PayloadType {
		case record.TypeNetworkConfig:
			v.config = new(recordv1.NetworkConfig)
			if err := record.Decode(e.Payload, record.MaxBytes, v.config); err != nil {
				return "", err
			}
			v.NetworkID = state.NetworkID(e.Payload).String()
		case record.TypeNodeRegistration:
			n := new(recordv1.NodeRegistration)
			if err := record.Decode(e.Payload, record.MaxBytes, n); err != nil {
				return "", err
			}
			v.nodes = append(v.nodes, n)
			v.Nodes = append(v.Nodes, n.GetNodeId())
		default:
			return "", fmt.Errorf("record %d is of type %q; a genesis has the configuration and registrations of nodes", i, e.PayloadType)
		}
	}
	if issued := v.config.GetHeader().GetIssuedAtUnixNano(); g.GetBlockTimeUnixNano() != issued {
		return "", fmt.Errorf("block 0 has the time %d ns, its configuration was issued at %d ns: the time was changed after all had signed", g.GetBlockTimeUnixNano(), issued)
	}
	return fmt.Sprintf("%d statements make block 0 by the ledger's own transition, issued %s", len(v.signed), time.Unix(0, g.GetBlockTimeUnixNano()).UTC().Format(time.RFC3339)), v.about()
}

// about notes what the configuration says.
func (v *verification) about() (err error) {
	id, err := digest.Parse(v.NetworkID)
	if err != nil {
		return err
	}
	v.Name, v.Quorum = v.config.GetName(), v.config.GetQuorum()
	for _, o := range v.config.GetOrganisations() {
		v.Organisations = append(v.Organisations, o.GetId())
	}
	if v.trust, err = trustOf(v.config, id); err == nil {
		v.TrustDigest = v.trust.Digest().String()
	}
	return err
}

// signatures wants every organisation's on the configuration; the ledger is
// content with a majority, but nobody should be in a network unasked. That each
// verifies, and that registrations are signed by their organisation, the replay
// has shown.
func (v *verification) signatures() (string, error) {
	var failures []error
	for _, o := range v.config.GetOrganisations() {
		key, err := signature.ParseKey(o.GetRootKey())
		if err != nil {
			return "", err
		}
		if err := v.signed[0].Verify(signature.Direct{}, key); err != nil {
			failures = append(failures, fmt.Errorf("organisation %s has not signed the configuration: %w", o.GetId(), err))
		}
	}
	return fmt.Sprintf("all %d organisations signed the configuration, each its own nodes", len(v.config.GetOrganisations())), errors.Join(failures...)
}

// keys wants each key to have one use.
func (v *verification) keys() (string, error) {
	uses := make(map[string]string)
	var failures []error
	take := func(use, key string) {
		if earlier, taken := uses[key]; taken {
			failures = append(failures, fmt.Errorf("%s is also the %s", use, earlier))
		}
		uses[key] = use
	}
	tagged := func(use string, key []byte) {
		k, err := signature.ParseKey(key)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", use, err))
			return
		}
		take(use, pointOf(k))
	}
	for _, o := range v.config.GetOrganisations() {
		tagged("root key of "+o.GetId(), o.GetRootKey())
	}
	for _, b := range v.config.GetNotifiedBodies() {
		for _, key := range b.GetKeys() {
			tagged("key of notified body "+b.GetId(), key)
		}
	}
	for _, r := range v.config.GetReplicas() {
		tagged("cosigner key of "+r.GetNodeId(), r.GetCosignerKey())
		tagged("log key of "+r.GetNodeId(), r.GetLogKey())
	}
	for _, n := range v.nodes {
		tagged("signing key of "+n.GetNodeId(), n.GetKey())
		take("TLS key of "+n.GetNodeId(), fmt.Sprintf("%x", n.GetTlsSpki()))
	}
	return fmt.Sprintf("%d keys, each with one use", len(uses)), errors.Join(failures...)
}

// pointOf names a key whatever it is used for: an Ed25519 point by the digest of
// its SubjectPublicKeyInfo, by which alone a registration names the TLS key.
func pointOf(k signature.Key) string {
	plain, err := signature.NewKey(signature.Ed25519, k.Raw())
	if err != nil {
		return string(k.Bytes())
	}
	spki, err := spkiOf(plain)
	if err != nil {
		return string(k.Bytes())
	}
	return spki
}

// pinned compares the network's id with the one that is known.
func (v *verification) pinned(want string) {
	switch want {
	case "":
		v.add("network id", receipt.Undecidable, `not given: compare it with what "lacre network sign" printed where you signed, by --network-id`)
	case v.NetworkID:
		v.add("network id", receipt.Verified, "it is the one that was given")
	default:
		v.add("network id", receipt.Refuted, "it is "+v.NetworkID+", given was "+want)
	}
}

// beside compares the files beside the genesis with it.
func (v *verification) beside(f Files) {
	if f.Trust != nil {
		var err error
		if !bytes.Equal(f.Trust, v.trust.Bytes()) {
			err = errors.New("the file is not the bundle that the genesis gives")
		}
		v.check("trust bundle", "it is what the genesis gives", err)
	}
	if f.Draft == nil {
		if f.Book != nil {
			v.check(BookFile, "names and keys are those of the genesis; who vouches for addresses is the draft, which is not here", v.names(f.Book))
		}
		return
	}
	d, err := v.draft(f.Draft)
	if v.check("draft", "every statement of the genesis follows from it, every member file is signed by all its keys", err) && f.Book != nil {
		book, err := d.Book().encode()
		if err == nil && !bytes.Equal(book, f.Book) {
			err = errors.New("it is not the address book that follows from the draft")
		}
		v.check(BookFile, "names, keys and addresses are those that the organisations signed", err)
	}
}

// names compares an address book with the registrations.
func (v *verification) names(text []byte) error {
	b := new(Book)
	if err := decodeStrictly(text, b); err != nil {
		return err
	}
	if b.Name != v.Name || b.NetworkID != v.NetworkID {
		return fmt.Errorf("it is of network %.80q, id %.80q; the genesis is of %s, id %s", b.Name, b.NetworkID, v.Name, v.NetworkID)
	}
	var failures []error
	for _, n := range v.nodes {
		entry, err := b.Node(n.GetNodeId())
		if err == nil && (entry.Organisation != n.GetOrganisation() || entry.Role != n.GetRole() || entry.SPKI != fmt.Sprintf("%x", n.GetTlsSpki())) {
			err = fmt.Errorf("node %s is not as it is registered", n.GetNodeId())
		}
		failures = append(failures, err)
	}
	if len(b.Nodes) != len(v.nodes) {
		failures = append(failures, fmt.Errorf("%d nodes, %d are registered", len(b.Nodes), len(v.nodes)))
	}
	return errors.Join(failures...)
}

// draft wants the genesis to be just what follows from the draft.
func (v *verification) draft(text []byte) (*Draft, error) {
	d, err := ParseDraft(text)
	if err != nil {
		return nil, err
	}
	follow := append([]statement{d.configuration}, d.registrations...)
	if len(follow) != len(v.signed) {
		return nil, fmt.Errorf("%d statements follow from the draft, the genesis has %d", len(follow), len(v.signed))
	}
	for i, s := range follow {
		if !bytes.Equal(s.payload, v.signed[i].Payload) {
			return nil, fmt.Errorf("statement %d of the genesis is not the %s that follows from the draft", i, s.what)
		}
	}
	return d, nil
}
