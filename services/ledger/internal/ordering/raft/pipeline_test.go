package raft

import (
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
)

// silent is a pipeline whose answers the test makes.
type silent struct{ answers chan hraft.AppendFuture }

func (s silent) AppendEntries(*hraft.AppendEntriesRequest, *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	return nil, nil
}
func (s silent) Consumer() <-chan hraft.AppendFuture { return s.answers }
func (s silent) Close() error                        { return nil }

// The library's reader ends at the first refusal, with messages still under way.
func TestAPipelineTakesAnswersThatNobodyReads(t *testing.T) {
	const underWay = 2
	inner := silent{make(chan hraft.AppendFuture)}
	p := &pipeline{AppendPipeline: inner, leaving: func(m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest { return m }, answers: make(chan hraft.AppendFuture, underWay+2), done: make(chan struct{})}
	ended := make(chan struct{})
	go func() { p.relay(); close(ended) }()
	for i := range underWay + 3 { // one more than there is room for
		select {
		case inner.answers <- nil:
		case <-time.After(patience):
			t.Fatalf("answer %d is not taken", i)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the relay goes on after Close")
	}
}
