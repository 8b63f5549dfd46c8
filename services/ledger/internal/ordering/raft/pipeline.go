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
		beat:           t.beat,
		closing:        t.done,
		answers:        make(chan hraft.AppendFuture),
		refused:        make(chan struct{}),
		done:           make(chan struct{}),
	}
	go p.relay()
	return p, nil
}

// lead is what a leader's senders ask of the engine. All of it is safe for
// concurrent use.
type lead struct {
	// changed is closed when an entry was stored, a batch begins to be applied, or
	// what follows has changed otherwise.
	changed func() <-chan struct{}
	// lastIndex is the newest entry in the log.
	lastIndex func() uint64
	// committed is what is known to be committed; false when this node does not
	// lead in that term any more.
	committed func(term uint64) (index uint64, leads bool)
	// handsOver is when the library waits for its senders.
	handsOver func() bool
}

// pipeline stands between the library's sender to one follower and the library's
// own pipeline.
//
// It says what is new as soon as it is, and little else. Followers hear of a
// commit in the next message, and where no entry follows the library sends an
// empty one each Timing.Commit to twice that, to each follower, whether or not
// there is something to say: 1,000 messages a second in an idle cluster of four on
// one machine (Loopback), and up to that time before a follower learns that it may
// apply. So the sender is held here, in its call of AppendEntries, until it has
// something to send:
//   - when a later entry is in the log the call returns, and the library sends it; so
//     it does when the node leads no more, or an answer was a refusal, and the
//     library ends the sender;
//   - when a commit is not told yet an empty message leaves that tells it;
//   - after a beat, the least time between two heartbeats, an empty message leaves as
//     the library made it. Until then a connection that broke in silence is not
//     noticed.
//
// A message that never leaves is one that the network lost. One that tells a
// commit is what the library would send now: no entries, behind the same entry,
// with a commit index that this node had while it led in the message's own term and
// that is not beyond that entry. Both limits are needed. An index from a later term
// may be of another leader's entries; one beyond the entry would be taken by a
// follower for old entries of its own there, since it commits up to its last index.
//
// It also takes answers when nobody reads them any more. The reader ends at the
// first answer that is a refusal; the library's own pipeline then waits for it with
// the next answer, the sender waits for the pipeline, and replication to that peer
// stands still for the rest of the term, as does Close.
type pipeline struct {
	hraft.AppendPipeline
	leaving    func(*hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest
	lead       lead
	look, beat time.Duration
	told       uint64 // the newest commit index that left; owned by the sender
	closing    <-chan struct{}
	answers    chan hraft.AppendFuture
	refused    chan struct{} // closed by relay behind the answer with which the reader ends
	done       chan struct{}
	once       sync.Once
}

// AppendEntries sends without waiting for the answer. The future is nil when
// nothing left; the library does not look at it.
func (p *pipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (sent hraft.AppendFuture, err error) {
	if p.over(args.Term) {
		return nil, nil
	}
	if n := len(args.Entries); n > 0 {
		if sent, err = p.send(args, resp); err != nil {
			return nil, err
		}
		last, behind := args.Entries[n-1], *args
		behind.Entries, behind.PrevLogEntry, behind.PrevLogTerm = nil, last.Index, last.Term
		args, resp = &behind, new(hraft.AppendEntriesResponse)
	}
	beat := time.NewTimer(p.beat)
	defer beat.Stop()
	for {
		news, more := p.news(args, beat.C)
		if news == nil {
			return sent, nil
		}
		if sent, err = p.send(news, resp); err != nil {
			return nil, err
		}
		if !more || p.told >= args.PrevLogEntry {
			return sent, nil
		}
		resp = new(hraft.AppendEntriesResponse)
	}
}

func (p *pipeline) send(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	future, err := p.AppendPipeline.AppendEntries(p.leaving(args), resp)
	p.told = max(p.told, args.LeaderCommitIndex)
	return future, err
}

// over reports whether nothing should be sent any more. Since a message is made
// before it comes here, one of a term that is not over was wholly made in it.
func (p *pipeline) over(term uint64) bool {
	select {
	case <-p.refused:
		return true
	default:
	}
	_, leads := p.lead.committed(term)
	return !leads
}

// news waits until an empty message is worth sending, and gives it, with whether
// more may follow it; or nil when there is nothing to wait for.
func (p *pipeline) news(args *hraft.AppendEntriesRequest, beat <-chan time.Time) (news *hraft.AppendEntriesRequest, more bool) {
	for last := false; ; {
		changed := p.lead.changed() // before looking, so that nothing falls between
		committed, leads := p.lead.committed(args.Term)
		if !leads || p.lead.lastIndex() > args.PrevLogEntry {
			return nil, false
		}
		if committed = min(committed, args.PrevLogEntry); committed > p.told {
			telling := *args
			telling.LeaderCommitIndex = committed
			return &telling, !last
		}
		if last || p.lead.handsOver() {
			return args, false
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
		case <-beat:
			last = true
		case <-p.closing:
			last = true
		case <-p.refused:
			return nil, false
		}
	}
}

func (p *pipeline) Consumer() <-chan hraft.AppendFuture { return p.answers }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}

func (p *pipeline) relay() {
	read := true
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			if !read {
				continue
			}
			select {
			case p.answers <- answer:
			case <-p.done:
				return
			}
			if a := answer.Response(); !a.Success || a.Term > answer.Request().Term {
				read = false
				close(p.refused)
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
