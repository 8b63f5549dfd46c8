package raft

import (
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

// AppendEntriesPipeline opens a pipeline to the peer.
func (t *transport) AppendEntriesPipeline(id hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	n, err := t.network(id)
	if err != nil {
		return nil, err
	}
	inner, err := n.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		AppendPipeline: inner,
		leaving:        func(m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest { return t.leaving(id, m) },
		lead:           t.lead,
		look:           t.config.Timing.Commit,
		beat:           t.config.Timing.Heartbeat / 10,
		closing:        t.done,
		answers:        make(chan hraft.AppendFuture, t.config.MaxRPCsInFlight+3),
		done:           make(chan struct{}),
	}
	go p.relay()
	return p, nil
}

// lead is what a leader's senders ask of the engine. All of it is safe for
// concurrent use.
type lead struct {
	// changed is closed when an entry was stored or a batch begins to be applied.
	changed func() <-chan struct{}
	// lastIndex is the newest entry in the log.
	lastIndex func() uint64
	// committed is what is known to be committed; false when the node's term is
	// another one.
	committed func(term uint64) (index uint64, same bool)
}

// pipeline stands between the library's sender to one follower and the library's
// own pipeline.
//
// It says what is new, at once, and nothing else. Followers hear of a commit in
// the next message, and where no entry follows the library sends an empty one
// each Timing.Commit to twice that, to each follower, whether or not there is
// something to say: 1,000 messages a second in an idle cluster of four, and up to
// that time before a follower learns that it may apply. So the sender is held
// here, in its call of AppendEntries, until it has something to send:
//   - when a later entry is in the log the call returns, and the library sends it; so
//     it does when the term is over, and the library ends the sender;
//   - when a commit is not told yet an empty message leaves that tells it;
//   - after a beat, as long as between two heartbeats, an empty message leaves as
//     the library made it.
//
// A message that never leaves is one that the network lost. One that tells a
// commit is what the library would send now: no entries, behind the same entry,
// with a commit index that this node had in the message's own term and that is
// not beyond that entry. Both limits are needed. An index from a later term may be
// of another leader's entries; one beyond the entry would be taken by a follower
// for old entries of its own there, since it commits up to its last index.
//
// It also takes answers whether or not anybody still reads them. The reader ends
// at the first answer that is a refusal; the library's own pipeline then waits for
// it with the next answer, the sender waits for the pipeline, and replication to
// that peer stands still for the rest of the term, as does Close.
type pipeline struct {
	hraft.AppendPipeline
	leaving    func(*hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest
	lead       lead
	look, beat time.Duration
	told       uint64 // the newest commit index that left; owned by the sender
	closing    <-chan struct{}
	answers    chan hraft.AppendFuture // room for all that can be under way when the reader ends
	done       chan struct{}
	once       sync.Once
}

// AppendEntries sends without waiting for the answer. The future is nil when
// nothing left; the library does not look at it.
func (p *pipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	var sent hraft.AppendFuture
	if n := len(args.Entries); n > 0 {
		var err error
		if sent, err = p.send(args, resp); err != nil {
			return nil, err
		}
		last, behind := args.Entries[n-1], *args
		behind.Entries, behind.PrevLogEntry, behind.PrevLogTerm = nil, last.Index, last.Term
		args, resp = &behind, new(hraft.AppendEntriesResponse)
	}
	args = p.news(args)
	if args == nil {
		return sent, nil
	}
	return p.send(args, resp)
}

func (p *pipeline) send(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	future, err := p.AppendPipeline.AppendEntries(p.leaving(args), resp)
	p.told = max(p.told, args.LeaderCommitIndex)
	return future, err
}

// news waits until an empty message is worth sending, and gives it; or nil when
// an entry waits to be sent, or the term is over.
func (p *pipeline) news(args *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest {
	beat := time.NewTimer(p.beat)
	defer beat.Stop()
	for {
		changed := p.lead.changed() // before looking, so that nothing falls between
		if p.lead.lastIndex() > args.PrevLogEntry {
			return nil
		}
		committed, same := p.lead.committed(args.Term)
		if !same {
			return nil
		}
		if committed = min(committed, args.PrevLogEntry); committed > p.told {
			telling := *args
			telling.LeaderCommitIndex = committed
			return &telling
		}
		// Nobody says when entries are committed that are not for the Applier, or
		// while it is still busy with earlier ones.
		var look <-chan time.Time
		if p.told < args.PrevLogEntry {
			look = time.After(p.look)
		}
		select {
		case <-changed:
		case <-look:
		case <-beat.C:
			return args
		case <-p.closing:
			return args
		}
	}
}

func (p *pipeline) Consumer() <-chan hraft.AppendFuture { return p.answers }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}

func (p *pipeline) relay() {
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			select {
			case p.answers <- answer:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

// bulletin wakes everybody who waits for a change.
type bulletin struct {
	mu      sync.Mutex
	waiting chan struct{} // nil while nobody waits
}

// changed is closed by the next announcement.
func (b *bulletin) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bulletin) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}
