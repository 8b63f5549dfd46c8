package raft

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/reason"
)

// receiver is a transport of node id whose messages are counted and answered.
func receiver(t *testing.T, c *cluster, id string) (tr *transport, arrived func() int) {
	t.Helper()
	config, err := c.config(c.nodes[id]).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	tr = newTransport(config, func(peer string, rpc hraft.RPC) error { return checkRPC(peer, "b", rpc) })
	var count int
	asked, done := make(chan chan int), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-tr.Consumer():
				count++
				rpc.Respond(&hraft.AppendEntriesResponse{Success: true}, nil)
			case answer := <-asked:
				answer <- count
			case <-tr.done:
				return
			}
		}
	}()
	t.Cleanup(func() { _ = tr.Close(); <-done })
	return tr, func() int {
		answer := make(chan int)
		asked <- answer
		return <-answer
	}
}

func TestR0_AMessageNamesTheCertificatesNode(t *testing.T) {
	c := newCluster(t, nil, "a", "b", "c")
	_, arrived := receiver(t, c, "a")
	b := c.stranger("b")
	send := func(h hraft.RPCHeader) error {
		return b.AppendEntries("a", "a", &hraft.AppendEntriesRequest{RPCHeader: h, Term: 1}, new(hraft.AppendEntriesResponse))
	}
	if err := send(header("b")); err != nil {
		t.Fatalf("b as itself: %v", err)
	}
	for _, lie := range []hraft.RPCHeader{
		header("c"),
		header("a"),
		header(""),
		{ProtocolVersion: 3, ID: []byte("b"), Addr: []byte("c")},
		{ProtocolVersion: 3, ID: []byte("c"), Addr: []byte("b")},
		{ProtocolVersion: 3, ID: []byte("b")},
	} {
		if err := send(lie); err == nil || !strings.Contains(err.Error(), "R0") {
			t.Errorf("b as %q at %q: %v, want a refusal by rule R0", lie.ID, lie.Addr, err)
		}
	}
	if err := send(header("b")); err != nil {
		t.Fatalf("b as itself after its lies: %v", err)
	}
	if got := arrived(); got != 2 {
		t.Fatalf("%d messages arrived, want the 2 honest ones", got)
	}
}

//nolint:staticcheck // SA1019: the library still reads the old fields.
func TestR0_EverySenderFieldIsChecked(t *testing.T) {
	h := header("b")
	good := hraft.EncodeConfiguration(hraft.Configuration{Servers: []hraft.Server{{ID: "b", Address: "b"}}})
	configuration := func(servers ...hraft.Server) []byte {
		return hraft.EncodeConfiguration(hraft.Configuration{Servers: servers})
	}
	entries := func(list ...*hraft.Log) *hraft.AppendEntriesRequest {
		return &hraft.AppendEntriesRequest{RPCHeader: h, Term: 5, PrevLogEntry: 3, Entries: list}
	}
	snapshot := func(change func(*hraft.InstallSnapshotRequest)) *hraft.InstallSnapshotRequest {
		m := &hraft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Configuration: good, Size: 20}
		change(m)
		return m
	}
	for _, test := range []struct {
		name    string
		message any
		ok      bool
	}{
		{"heartbeat", &hraft.AppendEntriesRequest{RPCHeader: h, Leader: []byte("b")}, true},
		{"old leader field", &hraft.AppendEntriesRequest{RPCHeader: h, Leader: []byte("c")}, false},
		{"vote", &hraft.RequestVoteRequest{RPCHeader: h, Candidate: []byte("b")}, true},
		{"vote for another", &hraft.RequestVoteRequest{RPCHeader: h, Candidate: []byte("c")}, false},
		{"vote of another", &hraft.RequestVoteRequest{RPCHeader: header("c")}, false},
		{"pre-vote", &hraft.RequestPreVoteRequest{RPCHeader: h}, true},
		{"pre-vote of another", &hraft.RequestPreVoteRequest{RPCHeader: header("c")}, false},
		{"hand-over by the leader", &hraft.TimeoutNowRequest{RPCHeader: h}, true},
		{"no header", "text", false},
		{"snapshot", snapshot(func(*hraft.InstallSnapshotRequest) {}), true},
		{"snapshot of another leader", snapshot(func(m *hraft.InstallSnapshotRequest) { m.Leader = []byte("c") }), false},
		{"snapshot of another", snapshot(func(m *hraft.InstallSnapshotRequest) { m.RPCHeader = header("c") }), false},
		{"large snapshot", snapshot(func(m *hraft.InstallSnapshotRequest) { m.Size = maxSnapshot + 1 }), false},
		{"snapshot of negative size", snapshot(func(m *hraft.InstallSnapshotRequest) { m.Size = -1 }), false},
		{"old snapshot", snapshot(func(m *hraft.InstallSnapshotRequest) { m.SnapshotVersion = 0 }), false},
		{"snapshot without configuration", snapshot(func(m *hraft.InstallSnapshotRequest) { m.Configuration = nil }), false},
		{"snapshot with a broken one", snapshot(func(m *hraft.InstallSnapshotRequest) { m.Configuration = []byte{0xc1} }), false},
		{"no voter", snapshot(func(m *hraft.InstallSnapshotRequest) {
			m.Configuration = configuration(hraft.Server{ID: "b", Address: "b", Suffrage: hraft.Nonvoter})
		}), false},
		{"address is not the id", snapshot(func(m *hraft.InstallSnapshotRequest) {
			m.Configuration = configuration(hraft.Server{ID: "b", Address: "c"})
		}), false},
		{"server twice", snapshot(func(m *hraft.InstallSnapshotRequest) {
			m.Configuration = configuration(hraft.Server{ID: "b", Address: "b"}, hraft.Server{ID: "b", Address: "b"})
		}), false},
		{"entries", entries(&hraft.Log{Index: 4, Term: 5}, &hraft.Log{Index: 5, Term: 5, Type: hraft.LogConfiguration, Data: good}), true},
		{"missing entry", entries(nil), false},
		{"entry out of place", entries(&hraft.Log{Index: 5, Term: 5}), false},
		{"entry of term 0", entries(&hraft.Log{Index: 4}), false},
		{"entry of a later term", entries(&hraft.Log{Index: 4, Term: 6}), false},
		{"entry of unknown type", entries(&hraft.Log{Index: 4, Term: 5, Type: 99}), false},
		{"entry with a broken configuration", entries(&hraft.Log{Index: 4, Term: 5, Type: hraft.LogConfiguration}), false},
	} {
		if err := checkRPC("b", "b", hraft.RPC{Command: test.message}); (err == nil) != test.ok {
			t.Errorf("%s: %v, want ok = %v", test.name, err, test.ok)
		}
	}
	if err := checkRPC("b", "a", hraft.RPC{Command: &hraft.TimeoutNowRequest{RPCHeader: h}}); err == nil {
		t.Error("a hand-over by a replica that does not lead is taken")
	}
}

// install sends a snapshot from a replica that is no leader of anybody.
func install(c *cluster, from, to string, term, index uint64, b []byte) error {
	request := &hraft.InstallSnapshotRequest{
		RPCHeader: header(from), SnapshotVersion: 1, Term: term, LastLogIndex: index, LastLogTerm: term, Size: int64(len(b)),
		Configuration: hraft.EncodeConfiguration(hraft.Configuration{Servers: []hraft.Server{
			{ID: hraft.ServerID(to), Address: hraft.ServerAddress(to)},
		}}),
		ConfigurationIndex: 1,
	}
	return c.stranger(from).InstallSnapshot(hraft.ServerID(to), hraft.ServerAddress(to), request,
		new(hraft.InstallSnapshotResponse), strings.NewReader(string(b)))
}

func TestR0_ASnapshotNeverDiscardsBlocks(t *testing.T) {
	c := newCluster(t, nil, "a")
	c.prepare("b")
	c.start("a")
	for i := range 3 {
		c.propose(fmt.Sprint(i), "a")
	}
	a := c.nodes["a"]
	applied := a.state.AppliedIndex()
	backwards := content{applied: applied - 1, pointer: []byte(`{"Node":"b","Applied":1}`)}.encode()
	for name, index := range map[string]uint64{
		"index below the applied one":         applied - 1, // refused as a message
		"applied index below the applied one": applied + 5, // refused by the machine
	} {
		if err := install(c, "b", "a", a.engine.raft.CurrentTerm()+10, index, backwards); err == nil || !strings.Contains(err.Error(), "R0") {
			t.Fatalf("%s: %v, want a refusal by rule R0", name, err)
		}
		if metas, err := a.engine.machine.store.List(); err != nil || len(metas) != 0 {
			t.Fatalf("%s: snapshots %v (%v) were kept", name, metas, err)
		}
	}
	if err := install(c, "b", "a", 500, applied+5, []byte("rubbish")); err == nil {
		t.Fatal("rubbish was installed")
	}
	c.propose("after", "a")
	if got, want := a.state.texts(), []string{"0", "1", "2", "after"}; !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}

	// What contradicts the blocks here stops the node.
	applied = a.state.AppliedIndex()
	c.nodes["b"].state.applied = applied + 5
	contrary := content{applied: applied + 5, pointer: fmt.Appendf(nil, `{"Node":"b","Applied":%d}`, applied+5)}.encode()
	if err := install(c, "b", "a", 1000, applied+5, contrary); err == nil {
		t.Fatal("a pointer to other blocks was installed")
	}
	if err := a.end(t); reason.Of(err) != reason.DataLoss {
		t.Fatalf("Run: %v, want DATA_LOSS", err)
	}
	if got := len(a.state.texts()); got != 4 {
		t.Fatalf("%d entries are left, want 4", got)
	}
}

func TestR1_HeartbeatsTakeTheOrdinaryWay(t *testing.T) {
	c := newCluster(t, nil, "a", "b")
	a, arrived := receiver(t, c, "a")
	a.SetHeartbeatHandler(func(rpc hraft.RPC) {
		t.Error("a heartbeat took the short cut")
		rpc.Respond(nil, errors.New("short cut"))
	})
	b := c.stranger("b")
	heartbeat := &hraft.AppendEntriesRequest{RPCHeader: header("b"), Term: 1}
	for range 3 {
		if err := b.AppendEntries("a", "a", heartbeat, new(hraft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	if got := arrived(); got != 3 {
		t.Fatalf("%d heartbeats arrived in order with the other messages, want 3", got)
	}
}

func TestR5_OnlyRegisteredReplicasConnect(t *testing.T) {
	c := newCluster(t, nil, "a", "b")
	a, arrived := receiver(t, c, "a")
	unregistered := c.registry.certificate(t, "")
	heartbeat := &hraft.AppendEntriesRequest{RPCHeader: header("b"), Term: 1}
	try := func(certificate tls.Certificate, change func(*tls.Config)) error {
		config, err := c.config(c.nodes["b"]).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		config.TLS.ClientConfig = func(string) *tls.Config {
			client := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}}
			change(client)
			return client
		}
		b := newTransport(config, func(string, hraft.RPC) error { return nil })
		defer func() { _ = b.Close() }()
		return b.AppendEntries("a", "a", heartbeat, new(hraft.AppendEntriesResponse))
	}
	same := func(*tls.Config) {}
	if err := try(c.nodes["b"].certificate, same); err != nil {
		t.Fatalf("a registered key: %v", err)
	}
	if err := try(unregistered, same); err == nil {
		t.Error("an unregistered key was let in")
	}
	if err := try(c.nodes["a"].certificate, same); err == nil {
		t.Error("the replica's own key was let in from outside")
	}
	if err := try(c.nodes["b"].certificate, func(config *tls.Config) { config.Certificates = nil }); err == nil {
		t.Error("no key was let in")
	}
	// A client that speaks TLS 1.2 only, past our own client's rule.
	address := a.stream.listener.Addr().String()
	old, err := tls.Dial("tcp", address, &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{c.nodes["b"].certificate}, MaxVersion: tls.VersionTLS12,
	})
	if err == nil {
		_ = old.Close()
		t.Error("TLS 1.2 was let in")
	}
	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := plain.Write([]byte(strings.Repeat("\x00", 100))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, plain); err != nil && errors.Is(err, net.ErrClosed) {
		t.Fatal(err) // it must be the other end that closes
	}
	if got := arrived(); got != 1 {
		t.Fatalf("%d messages arrived, want 1", got)
	}
	if got := len(a.links); got != 1 {
		t.Fatalf("%d links, want that to b: nothing may read what the others send", got)
	}
}

func TestR5_ADialledReplicaIsTheOneWanted(t *testing.T) {
	c := newCluster(t, nil, "a", "b", "c")
	receiver(t, c, "c")
	b := c.stranger("b")
	c.network.mu.Lock()
	c.network.addresses["a"] = c.network.addresses["c"]
	c.network.mu.Unlock()
	err := b.AppendEntries("a", "a", &hraft.AppendEntriesRequest{RPCHeader: header("b")}, new(hraft.AppendEntriesResponse))
	if err == nil || !strings.Contains(err.Error(), `"c", want "a"`) {
		t.Fatalf("c in a's place: %v", err)
	}
}

func TestR5_RecheckClosesConnectionsOfRevokedReplicas(t *testing.T) {
	c := newCluster(t, nil, "a", "b", "c")
	a, _ := receiver(t, c, "a")
	send := func(from *transport, id string) error {
		return from.AppendEntries("a", "a", &hraft.AppendEntriesRequest{RPCHeader: header(id), Term: 1}, new(hraft.AppendEntriesResponse))
	}
	b, other := c.stranger("b"), c.stranger("c")
	if err := errors.Join(send(b, "b"), send(other, "c")); err != nil {
		t.Fatal(err)
	}
	c.registry.revoke("b")
	a.stream.recheck()
	if err := send(b, "b"); err == nil {
		t.Error("a revoked replica goes on")
	}
	if err := send(b, "b"); err == nil {
		t.Error("a revoked replica came back")
	}
	if err := send(other, "c"); err != nil {
		t.Errorf("another replica: %v", err)
	}
}
