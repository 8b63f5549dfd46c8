package founding

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func read[C any](t *testing.T, dir, id string) *C {
	t.Helper()
	c := new(C)
	if err := config.Load(ConfigPath(dir, id), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// copied copies the named files of an organisation's directory to a new machine.
func copied(t *testing.T, from string, names ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "machine")
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A machine is lost with its disk. On a new one the keys that were kept elsewhere
// make new nodes at the same addresses, each with its configuration; the others
// learn of them, and forget the old ones, whatever an operator had written there.
func TestANodeReplacesOneThatIsGone(t *testing.T) {
	list, f, network := founded(t)
	institute, operator := list[2], list[3]
	for _, o := range list {
		if _, _, err := Join(o.dir, network, f.Book.NetworkID, nil); err != nil {
			t.Fatal(err)
		}
	}
	old, err := f.Book.Node("institute-0")
	if err != nil {
		t.Fatal(err)
	}
	machine := copied(t, institute.dir, "institute.member", "ca/institute.pem")
	planned := PlannedNode{ID: "institute-9", Role: recordv1.Role_ROLE_REPLICA, Address: old.Address, RaftAddress: old.RaftAddress}
	m, path, err := AddNode(machine, institute.root, planned, testTime)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Equip(machine, network, strings.Repeat("0", 64), m, []string{"institute-0"})
	want(t, "another network's id", err, "refuted")
	_, err = Equip(machine, network, "", m, []string{"institute-0"})
	want(t, "no id", err, "give its id")
	_, err = Equip(machine, network, f.Book.NetworkID, m, nil)
	want(t, "an address that another has", err, "institute-0", "institute-9", old.Address, "--replaces")
	if _, err := Equip(machine, network, f.Book.NetworkID, m, []string{"institute-0"}); err != nil {
		t.Fatal(err)
	}
	joining := read[ledger.Config](t, machine, "institute-9")
	if len(joining.Peers) != 3 || slices.ContainsFunc(joining.Peers, func(p ledger.Peer) bool { return p.SPKI == "" || p.NodeID == "institute-0" }) {
		t.Errorf("its peers are %+v, want the three others with their keys", joining.Peers)
	}
	if b, err := ReadBook(machine); err != nil || len(b.Nodes) != len(f.Book.Nodes) {
		t.Errorf("its address book has %d nodes, want %d: %v", len(b.Nodes), len(f.Book.Nodes), err)
	}

	added, _, err := ReadMember(path)
	if err != nil {
		t.Fatal(err)
	}
	replica := ConfigPath(operator.dir, "operator-0")
	text, err := os.ReadFile(replica)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(string(text), "unary_timeout: 0s", "unary_timeout: 7s", 1) // the operator's own wish
	if err := os.WriteFile(replica, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Learn(operator.dir, []*Member{added}, nil, nil)
	want(t, "an address that another has", err, "--without")
	_, _, err = Learn(operator.dir, nil, []string{"nobody"}, nil)
	want(t, "a node that is not there", err, "nobody")
	b, changed, err := Learn(operator.dir, []*Member{added}, []string{"institute-0", "institute-1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(changed) != 3 || len(b.Nodes) != len(f.Book.Nodes)-1 {
		t.Errorf("%d configurations are changed and %d nodes known, want 3 and %d", len(changed), len(b.Nodes), len(f.Book.Nodes)-1)
	}
	c := read[ledger.Config](t, operator.dir, "operator-0")
	at := slices.IndexFunc(c.Peers, func(p ledger.Peer) bool { return p.NodeID == "institute-9" })
	if len(c.Peers) != 3 || at < 0 || c.Peers[at].SPKI != added.Nodes[0].SPKI || c.Peers[at].RaftAddress != old.RaftAddress || c.Server.UnaryTimeout.Seconds() != 7 {
		t.Errorf("the replica's peers are %+v, its time-out %v", c.Peers, c.Server.UnaryTimeout)
	}
	g := read[ingest.Config](t, operator.dir, "operator-2")
	if slices.ContainsFunc(g.Endorsers, func(e ingest.Endorser) bool { return e.NodeID == "institute-1" }) || len(g.Endorsers) != 2 || len(g.Ledger.Replicas) != 4 {
		t.Errorf("the gateway has %d endorsers and %d replicas, want 2 and 4", len(g.Endorsers), len(g.Ledger.Replicas))
	}
	if info, err := os.Stat(replica); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration has mode %v: %v", info.Mode(), err)
	}
	if _, changed, err := Learn(operator.dir, []*Member{added}, nil, nil); err != nil || len(changed) != 0 {
		t.Errorf("learnt twice, %d configurations are changed: %v", len(changed), err)
	}
	renewed := digest.Plain([]byte("another TLS key"))
	if _, changed, err := Learn(operator.dir, nil, nil, map[string]digest.Digest{"university-1": renewed}); err != nil || len(changed) != 1 {
		t.Errorf("a renewed TLS key of an endorser changes %d configurations, want the gateway's: %v", len(changed), err)
	}
	g = read[ingest.Config](t, operator.dir, "operator-2")
	if !slices.ContainsFunc(g.Endorsers, func(e ingest.Endorser) bool { return e.NodeID == "university-1" && e.SPKI == renewed.String() }) {
		t.Errorf("the gateway pins %+v, want %s of university-1", g.Endorsers, renewed)
	}
	_, _, err = Learn(operator.dir, nil, nil, map[string]digest.Digest{"nobody": renewed})
	want(t, "the key of a node that is not there", err, "nobody")
	elsewhere := *added
	elsewhere.Organisation = "authority"
	_, _, err = Learn(operator.dir, []*Member{&elsewhere}, nil, nil)
	want(t, "another organisation's claim", err, "institute-9", "authority", "institute")
}
