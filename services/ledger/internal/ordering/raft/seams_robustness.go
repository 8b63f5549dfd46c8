//go:build robustness

package raft

import (
	"slices"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// voteInterval is how often a replica that lies about terms asks for votes.
const voteInterval = 400 * time.Millisecond

// builtSeams let the robustness suite make a liar of this replica.
func builtSeams() seams { return seams{sending: lyingEntries, opened: lieAboutTerms} }

// lyingEntries gives one follower other entries than the rest: the same
// proposals without what was submitted. Raft's check of an entry is its index and
// term, so the follower takes them.
func lyingEntries(e *Engine, peer string, m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest {
	if fault.On(fault.Duplicate) {
		e.repeat(peer, m)
	}
	if !fault.On(fault.Equivocate) || peer != e.victim() {
		return m
	}
	lie := *m
	lie.Entries = slices.Clone(m.Entries)
	for i, entry := range m.Entries {
		p := new(replicav1.Proposal)
		if entry.Type != hraft.LogCommand || wire.Decode(entry.Data, p) != nil || len(p.GetSubmissions()) == 0 {
			continue
		}
		p.Submissions = nil
		forged := *entry // the library's cache holds the entry itself
		forged.Data = wire.MustEncode(p)
		lie.Entries[i] = &forged
		fault.Told(fault.Equivocate)
	}
	return &lie
}

// repeatAfter is how late a message comes again: behind later ones, under load.
const repeatAfter = 150 * time.Millisecond

// repeat sends a message again, later, as a network does that duplicates and
// reorders.
func (e *Engine) repeat(peer string, m *hraft.AppendEntriesRequest) {
	again := *m
	n, err := e.transport.network(hraft.ServerID(peer))
	if err != nil {
		return
	}
	fault.Told(fault.Duplicate)
	time.AfterFunc(repeatAfter, func() {
		_ = n.AppendEntries(hraft.ServerID(peer), hraft.ServerAddress(peer), &again, new(hraft.AppendEntriesResponse))
	})
}

// victim is who is lied to: the first of the others.
func (e *Engine) victim() string {
	victim := ""
	for _, m := range e.Members() {
		if m.ID != e.config.NodeID && (victim == "" || m.ID < victim) {
			victim = m.ID
		}
	}
	return victim
}

// lieAboutTerms asks all others for their votes, in terms that nobody reached.
func lieAboutTerms(e *Engine) {
	go func() {
		for beyond := uint64(1000); ; beyond += 1000 {
			select {
			case <-time.After(voteInterval):
			case <-e.closing.Done():
				return
			}
			if !fault.On(fault.HigherTerm) {
				continue
			}
			fault.Told(fault.HigherTerm)
			id := hraft.ServerID(e.config.NodeID)
			for _, m := range e.Members() {
				if m.ID == e.config.NodeID {
					continue
				}
				request := &hraft.RequestVoteRequest{
					RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)},
					Term:      e.raft.CurrentTerm() + beyond, LastLogIndex: e.raft.LastIndex() + beyond, LastLogTerm: e.raft.CurrentTerm() + beyond,
					LeadershipTransfer: true, // or they would answer that they have a leader
				}
				go func() {
					_ = e.transport.RequestVote(hraft.ServerID(m.ID), hraft.ServerAddress(m.ID), request, new(hraft.RequestVoteResponse))
				}()
			}
		}
	}()
}
