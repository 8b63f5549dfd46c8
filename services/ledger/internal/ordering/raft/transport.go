package raft

import (
	"io"
	"net"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

// pooledConns is how many idle connections to one peer are kept: heartbeats,
// replication and votes.
const pooledConns = 3

// transport carries Raft messages between replicas that are known by node id;
// a server address is the node id again.
//
// The library's NetworkTransport does not tell which connection a message came
// by. So there is one of them for each peer, fed only with connections that
// were authenticated as that peer's, and whatever comes out of it must name that
// peer as its sender (rule R0, function checkRPC).
//
// SetHeartbeatHandler registers nothing (rule R1): heartbeats then take the
// ordinary way to the main goroutine, and cannot change term and state beside
// it (hashicorp/raft#695).
type transport struct {
	self   string
	stream *stream
	config Config
	check  func(peer string, rpc hraft.RPC) error
	rpcs   chan hraft.RPC

	// These are set before the library starts.
	lead    lead
	beat    time.Duration                                                                // pipeline.beat
	sending func(peer string, m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest // a seam

	done  chan struct{} // closed by Close
	pumps sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	links    map[string]*link
	lastLog  map[string]uint64 // the newest last log index that each peer answered with
	progress bulletin          // of lastLog
}

var (
	_ hraft.Transport   = (*transport)(nil)
	_ hraft.WithPreVote = (*transport)(nil)
	_ hraft.WithClose   = (*transport)(nil)
)

// link is the stream layer of one peer's NetworkTransport.
type link struct {
	peer     string
	stream   *stream
	incoming chan net.Conn
	done     chan struct{} // closed once by the NetworkTransport
	net      *hraft.NetworkTransport
}

// nodeAddr is a node id as net.Addr.
type nodeAddr string

func (nodeAddr) Network() string  { return "node" }
func (a nodeAddr) String() string { return string(a) }

func (l *link) Accept() (net.Conn, error) {
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *link) Dial(_ hraft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.stream.dial(l.peer, timeout)
}

func (l *link) Close() error   { close(l.done); return nil }
func (l *link) Addr() net.Addr { return nodeAddr(l.stream.self) }

// newTransport starts to listen. check judges each incoming message; it is
// called from one goroutine per peer.
func newTransport(config Config, check func(peer string, rpc hraft.RPC) error) *transport {
	t := &transport{
		self:    config.NodeID,
		config:  config,
		beat:    config.Timing.Heartbeat / 10,
		check:   check,
		rpcs:    make(chan hraft.RPC),
		done:    make(chan struct{}),
		links:   make(map[string]*link),
		lastLog: make(map[string]uint64),
	}
	t.stream = newStream(config, t.accepted)
	t.stream.serving.Add(1)
	go t.stream.serve()
	return t
}

func (t *transport) accepted(peer string, conn net.Conn) {
	if l := t.link(peer); l != nil {
		select {
		case l.incoming <- conn:
			return
		case <-l.done:
		}
	}
	_ = conn.Close()
}

// link returns the peer's link, or nil after Close. Links stay: peers are few,
// since each was registered once.
func (t *transport) link(peer string) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	l := t.links[peer]
	if l == nil {
		l = &link{peer: peer, stream: t.stream, incoming: make(chan net.Conn), done: make(chan struct{})}
		inFlight := t.config.MaxRPCsInFlight
		if inFlight > 1 {
			inFlight++ // so that telling a commit takes no entry's place
		}
		l.net = hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{
			Stream:          l,
			MaxPool:         pooledConns,
			MaxRPCsInFlight: inFlight,
			Timeout:         t.config.Timing.RPC,
			Logger:          newLogger(t.config.Logger),
		})
		t.links[peer] = l
		t.pumps.Add(1)
		go t.pump(l)
	}
	return l
}

// pump hands a peer's messages on, those that pass the check.
func (t *transport) pump(l *link) {
	defer t.pumps.Done()
	for {
		select {
		case rpc := <-l.net.Consumer():
			if err := t.check(l.peer, rpc); err != nil {
				t.config.Logger.Warn("raft: message refused", "peer", l.peer, "error", err)
				if rpc.Reader != nil {
					// The connection's next message starts behind the snapshot.
					_, _ = io.Copy(io.Discard, rpc.Reader)
				}
				rpc.Respond(nil, err)
				continue
			}
			select {
			case t.rpcs <- rpc:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

// network is the NetworkTransport of a peer.
func (t *transport) network(id hraft.ServerID) (*hraft.NetworkTransport, error) {
	l := t.link(string(id))
	if l == nil {
		return nil, hraft.ErrTransportShutdown
	}
	return l.net, nil
}

// Close ends listening and all connections.
func (t *transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	links := t.links
	t.mu.Unlock()

	close(t.done)
	for _, l := range links {
		_ = l.net.Close()
	}
	t.stream.close()
	t.pumps.Wait()
	return nil
}

// Consumer gives the messages of all peers, heartbeats included.
func (t *transport) Consumer() <-chan hraft.RPC { return t.rpcs }

// LocalAddr is this replica's node id.
func (t *transport) LocalAddr() hraft.ServerAddress { return hraft.ServerAddress(t.self) }

// EncodePeer gives the node id: what stands in RPCHeader.Addr.
func (t *transport) EncodePeer(id hraft.ServerID, _ hraft.ServerAddress) []byte { return []byte(id) }

// DecodePeer reverses EncodePeer.
func (t *transport) DecodePeer(b []byte) hraft.ServerAddress { return hraft.ServerAddress(b) }

// SetHeartbeatHandler registers nothing: rule R1.
func (t *transport) SetHeartbeatHandler(func(hraft.RPC)) {}

// AppendEntries sends entries or a heartbeat and notes how far the peer is.
func (t *transport) AppendEntries(id hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	n, err := t.network(id)
	if err != nil {
		return err
	}
	if err := n.AppendEntries(id, target, t.leaving(id, args), resp); err != nil {
		return err
	}
	if resp.Success {
		t.noteLastLog(string(id), resp.LastLog)
	}
	return nil
}

// leaving is what leaves in the place of a message.
func (t *transport) leaving(to hraft.ServerID, m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest {
	if t.sending == nil {
		return m
	}
	return t.sending(string(to), m)
}

// RequestVote asks for a vote.
func (t *transport) RequestVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	n, err := t.network(id)
	if err != nil {
		return err
	}
	return n.RequestVote(id, target, args, resp)
}

// RequestPreVote asks whether a vote would be granted.
func (t *transport) RequestPreVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	n, err := t.network(id)
	if err != nil {
		return err
	}
	return n.RequestPreVote(id, target, args, resp)
}

// InstallSnapshot sends a pointer.
func (t *transport) InstallSnapshot(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	n, err := t.network(id)
	if err != nil {
		return err
	}
	return n.InstallSnapshot(id, target, args, resp, data)
}

// TimeoutNow asks the peer to stand for election.
func (t *transport) TimeoutNow(id hraft.ServerID, target hraft.ServerAddress, args *hraft.TimeoutNowRequest, resp *hraft.TimeoutNowResponse) error {
	n, err := t.network(id)
	if err != nil {
		return err
	}
	return n.TimeoutNow(id, target, args, resp)
}

// noteLastLog is fed by heartbeats at the latest, which answer with the peer's
// last log index. It guides the promotion of new members and nothing else.
func (t *transport) noteLastLog(peer string, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lastLog[peer] != index {
		t.lastLog[peer] = index
		t.progress.announce()
	}
}

// forget drops what is known of a peer's progress.
func (t *transport) forget(peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.lastLog, peer)
}

// reached is the peer's last log index, and a channel that is closed when some
// peer's has changed.
func (t *transport) reached(peer string) (index uint64, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastLog[peer], t.progress.changed()
}
