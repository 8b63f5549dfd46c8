package founding

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/receipt"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

var testTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// organisation is one that was initialised, below a directory of its own.
type organisation struct {
	id, dir string
	member  []byte
	root    ed25519.PrivateKey
}

// port gives addresses that nobody listens at.
var port = 20000

func address() string {
	port++
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func initialised(t *testing.T, id string, roles ...recordv1.Role) organisation {
	t.Helper()
	o := organisation{id: id, dir: filepath.Join(t.TempDir(), id)}
	plan := Plan{Organisation: id}
	for i, role := range roles {
		n := PlannedNode{ID: fmt.Sprintf("%s-%d", id, i), Role: role, Address: address()}
		if role == recordv1.Role_ROLE_REPLICA {
			n.RaftAddress = address()
		}
		plan.Nodes = append(plan.Nodes, n)
	}
	if _, err := Initialise(o.dir, plan, testTime); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.member, err = os.ReadFile(MemberPath(o.dir, id)); err != nil {
		t.Fatal(err)
	}
	if o.root, err = identity.ReadKey(rootKeyPath(o.dir, id)); err != nil {
		t.Fatal(err)
	}
	return o
}

// four are the organisations of the default network, and its draft.
func four(t *testing.T) ([]organisation, *Draft) {
	t.Helper()
	const replica, endorser = recordv1.Role_ROLE_REPLICA, recordv1.Role_ROLE_ENDORSER
	list := []organisation{
		initialised(t, "university", replica, endorser), initialised(t, "authority", replica, recordv1.Role_ROLE_APPROVAL),
		initialised(t, "institute", replica, endorser), initialised(t, "operator", replica, endorser, recordv1.Role_ROLE_GATEWAY),
	}
	d, err := NewDraft(terms(t), members(list)...)
	if err != nil {
		t.Fatal(err)
	}
	return list, d
}

func members(list []organisation) [][]byte {
	var files [][]byte
	for _, o := range list {
		files = append(files, o.member)
	}
	return files
}

var bodyKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func terms(t *testing.T) Terms {
	t.Helper()
	return Terms{Name: "roads.example", IssuedAtUnixNano: testTime.UnixNano(), Quorum: 3, Limits: DefaultLimits(),
		NotifiedBodies: []Body{{ID: "inspection", Keys: []PublicKey{publicOf(bodyKey)}, Threshold: 1}}}
}

func signed(t *testing.T, d *Draft, list []organisation) []Signatures {
	t.Helper()
	var files []Signatures
	for _, o := range list {
		id, text, err := Sign(d, o.root, o.member)
		if err != nil || id != o.id {
			t.Fatalf("%s signs as %s: %v", o.id, id, err)
		}
		files = append(files, Signatures{o.id + ".sig", text})
	}
	return files
}

func founded(t *testing.T) ([]organisation, *Founded, string) {
	t.Helper()
	list, d := four(t)
	f, err := Assemble(d, signed(t, d, list)...)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "network")
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	return list, f, dir
}

// want says that an error has all the texts.
func want(t *testing.T, what string, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: accepted, want an error with %q", what, texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %q lacks %q", what, err, text)
		}
	}
}

// TestFounding goes the whole way: four organisations, each in a directory of its
// own, and the files that pass between them.
func TestFounding(t *testing.T) {
	list, f, dir := founded(t)
	again, err := Assemble(f.Draft, signed(t, f.Draft, list)...)
	if err != nil || !bytes.Equal(again.Genesis, f.Genesis) {
		t.Errorf("the same signatures assemble to another genesis: %v", err)
	}
	files, err := ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	report := Verify(files, f.Draft.NetworkID().String())
	if report.Verdict != receipt.Verified || len(report.Checks) != 7 || len(report.Nodes) != 9 || len(report.Organisations) != 4 {
		t.Errorf("verification of what was assembled:\n%s", report.Text())
	}
	for _, o := range list {
		book, _, err := Join(o.dir, dir, f.Draft.NetworkID().String(), nil)
		if err != nil {
			t.Fatalf("%s: %v", o.id, err)
		}
		if _, err := os.Stat(filepath.Join(NodeDir(o.dir, o.id+"-0"), "data", "store")); err != nil {
			t.Errorf("%s has no ledger: %v", o.id, err)
		}
		for _, n := range book.Nodes {
			if _, err := os.Stat(ConfigPath(o.dir, n.ID)); (err == nil) != (n.Organisation == o.id) {
				t.Errorf("%s has a configuration of %s: %v", o.id, n.ID, err)
			}
		}
		before := tree(t, o.dir)
		if _, _, err := Join(o.dir, dir, "", nil); !errors.Is(err, ErrJoined) || !strings.Contains(err.Error(), f.Draft.NetworkID().String()) {
			t.Errorf("%s joins twice: %v", o.id, err)
		}
		if tree(t, o.dir) != before {
			t.Errorf("%s: the refused second join changed files", o.id)
		}
	}
}

// tree is what lies below a directory: names, modes, times, contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v\n", path, info.Mode(), info.Size(), info.ModTime())
		if info.Size() < 1<<20 { // the ordering log's segments are large and empty
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%x\n", content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestInitialiseNeverOverwrites(t *testing.T) {
	o := initialised(t, "institute", recordv1.Role_ROLE_REPLICA)
	before := tree(t, o.dir)
	want(t, "a second init", CheckEmpty(o.dir), "institute", "no network yet")
	plan := Plan{Organisation: "institute", Nodes: []PlannedNode{{ID: "x", Role: recordv1.Role_ROLE_ENDORSER, Address: address()}}}
	if _, err := Initialise(o.dir, plan, testTime); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second init over the same files: %v, want fs.ErrExist", err)
	}
	if after := tree(t, o.dir); after != before {
		t.Errorf("files changed:\n%s\nwere:\n%s", after, before)
	}
	for _, path := range []string{rootKeyPath(o.dir, o.id), caKeyPath(o.dir, o.id), filepath.Join(NodeDir(o.dir, "institute-0"), "cosigner.pem")} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", path, info, err)
		}
		dir, err := os.Stat(filepath.Dir(path))
		if err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want mode 0700", filepath.Dir(path), dir, err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "a directory of something else", CheckEmpty(other), "notes.txt")
	if err := CheckEmpty(filepath.Join(other, "absent")); err != nil {
		t.Errorf("an absent directory: %v", err)
	}
}

// The CA issues certificates that ordinary tools check, and is in the member file.
func TestTheCAIssuesItsNodesCertificates(t *testing.T) {
	o := initialised(t, "institute", recordv1.Role_ROLE_REPLICA)
	m, _, err := ParseMember(o.member)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(m.CACertificate)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(NodeDir(o.dir, "institute-0"), name) }
	node, err := identity.LoadCertified(at("tls.pem"), at("tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(node.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for host, good := range map[string]bool{"127.0.0.1": true, "127.0.0.2": false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: testTime}); (err == nil) != good {
			t.Errorf("at %s: %v, want good: %v", host, err, good)
		}
	}
}

// A flipped bit of a member file is refused: what it says is signed by every key
// in it.
func TestMemberFileRefusesFlippedBits(t *testing.T) {
	o := initialised(t, "institute", recordv1.Role_ROLE_REPLICA)
	text := bytes.TrimRight(o.member, "\n")
	if _, _, err := ParseMember(text); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(text); at += 3 {
		flipped := bytes.Clone(text)
		flipped[at] ^= 1 << (at % 8)
		if _, _, err := ParseMember(flipped); err == nil {
			t.Fatalf("byte %d, bit %d flipped is accepted", at, at%8)
		}
	}
}

// Whoever names a key of another must hold it.
func TestMemberFileProvesPossessionOfEveryKey(t *testing.T) {
	o, victim := initialised(t, "institute", recordv1.Role_ROLE_REPLICA), initialised(t, "operator", recordv1.Role_ROLE_REPLICA)
	theirs, _, err := ParseMember(victim.member)
	if err != nil {
		t.Fatal(err)
	}
	for name, steal := range map[string]func(n *MemberNode){
		"signing":  func(n *MemberNode) { n.SigningKey = theirs.Nodes[0].SigningKey },
		"TLS":      func(n *MemberNode) { n.TLSKey, n.SPKI = theirs.Nodes[0].TLSKey, theirs.Nodes[0].SPKI },
		"cosigner": func(n *MemberNode) { n.CosignerKey = theirs.Nodes[0].CosignerKey },
		"log":      func(n *MemberNode) { n.LogKey = theirs.Nodes[0].LogKey },
	} {
		m, _, err := ParseMember(o.member)
		if err != nil {
			t.Fatal(err)
		}
		steal(&m.Nodes[0])
		k := &keymaker{signers: []ed25519.PrivateKey{o.root}}
		for _, file := range []string{"tls.pem", "signing.pem", "cosigner.pem", "log.pem"} {
			key, err := identity.ReadKey(filepath.Join(NodeDir(o.dir, "institute-0"), file))
			if err != nil {
				t.Fatal(err)
			}
			k.signers = append(k.signers, key)
		}
		_, err = k.sign(m)
		want(t, name, err, name+" key of institute-0", "none of the 5 signatures is by it")
	}
}

func TestC6_DraftRefusesImpossibleNetworks(t *testing.T) {
	list, d := four(t)
	files := members(list)
	for name, c := range map[string]struct {
		change func(*Terms)
		files  [][]byte
		says   []string
	}{
		"quorum too small":     {func(t *Terms) { t.Quorum = 2 }, files, []string{"quorum 2 of 4", "2q-n > F"}},
		"quorum too large":     {func(t *Terms) { t.Quorum = 4 }, files, []string{"quorum 4 of 4"}},
		"no notified body":     {func(t *Terms) { t.NotifiedBodies = nil }, files, []string{"0 notified bodies"}},
		"a bad name":           {func(t *Terms) { t.Name = "Roads Example" }, files, []string{`"Roads Example"`}},
		"a name that draws":    {func(t *Terms) { t.Name = "a\x1b[2J" }, files, []string{`name "a\x1b[2J"`}},
		"a body that draws":    {func(t *Terms) { t.NotifiedBodies[0].ID = "b\ny" }, files, []string{`notified body`, `"b\ny"`}},
		"a body without keys":  {func(t *Terms) { t.NotifiedBodies[0].Keys = nil }, files, []string{"notified body inspection has 0 keys"}},
		"a body of 2 of 1":     {func(t *Terms) { t.NotifiedBodies[0].Threshold = 2 }, files, []string{"inspection has 1 keys, 2 of which must sign"}},
		"a body of none of 1":  {func(t *Terms) { t.NotifiedBodies[0].Threshold = 0 }, files, []string{"inspection has 1 keys, 0 of which must sign"}},
		"no time":              {func(t *Terms) { t.IssuedAtUnixNano = 0 }, files, []string{"want a time after 1970"}},
		"a future bound of 1s": {func(t *Terms) { t.Limits.FutureBoundNano = 1e9 }, files, []string{"future bound"}},
		"a stranger's body":    {func(t *Terms) { t.NotifiedBodies[0].Organisation = "nobody" }, files, []string{`"nobody" acts for notified body inspection`}},
		"a body of a drawing":  {func(t *Terms) { t.NotifiedBodies[0].Organisation = "b\ny" }, files, []string{`organisation that acts for notified body`, `"b\ny"`}},
		"a body with the root key": {func(t *Terms) { t.NotifiedBodies[0].Keys[0] = publicOf(list[0].root) }, files,
			[]string{"root key of university is also the key of notified body inspection"}},
		"a member twice": {func(*Terms) {}, append([][]byte{files[0]}, files...), []string{"university has two member files"}},
		"no member":      {func(*Terms) {}, nil, []string{"0 organisations"}},
	} {
		terms := terms(t)
		c.change(&terms)
		_, err := NewDraft(terms, c.files...)
		want(t, name, err, c.says...)
	}
	if got := []uint32{DefaultQuorum(1), DefaultQuorum(2), DefaultQuorum(3), DefaultQuorum(4), DefaultQuorum(7), DefaultQuorum(10)}; fmt.Sprint(got) != "[1 2 2 3 5 7]" {
		t.Errorf("default quorums %v", got)
	}
	for at := range 200 { // the terms' line; the others are member files
		flipped := bytes.Clone(d.Bytes())
		flipped[at] ^= 1
		if again, err := ParseDraft(flipped); err == nil && again.NetworkID() == d.NetworkID() {
			t.Errorf("byte %d flipped founds the same network", at)
		}
	}
}

// Node ids and addresses have one owner in the network.
func TestDraftRefusesWhatTwoClaim(t *testing.T) {
	list, _ := four(t)
	for name, c := range map[string]struct {
		node PlannedNode
		says string
	}{
		"a node id":  {PlannedNode{ID: "operator-0", Role: recordv1.Role_ROLE_ENDORSER, Address: address()}, "registration of node operator-0: two organisations"},
		"an address": {PlannedNode{ID: "stranger", Role: recordv1.Role_ROLE_ENDORSER, Address: listOf(t, list[3])[0].Address}, "each has one use"},
	} {
		dir := t.TempDir()
		if _, err := Initialise(dir, Plan{Organisation: "zz", Nodes: []PlannedNode{c.node}}, testTime); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(MemberPath(dir, "zz"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewDraft(terms(t), append(members(list), text)...)
		want(t, name, err, c.says)
	}
}

func listOf(t *testing.T, o organisation) []MemberNode {
	t.Helper()
	m, _, err := ParseMember(o.member)
	if err != nil {
		t.Fatal(err)
	}
	return m.Nodes
}

func FuzzParseDraft(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"name":"a","issued_at_unix_nano":1,"quorum":1,"notified_bodies":null,"limits":{"lateness_bound_nano":1,"future_bound_nano":1,"max_missing_ranges":1,"max_uncertified_blocks":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDraft(text)
		if err == nil && !bytes.Equal(d.Bytes(), text) {
			t.Fatal("accepted in another form")
		}
	})
}

func FuzzParseMember(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.lacre.member.v1+json","payload":"e30=","signatures":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, e, err := ParseMember(text)
		if err == nil && len(e.Signatures) != len(m.keys()) {
			t.Fatal("accepted without every signature")
		}
	})
}
