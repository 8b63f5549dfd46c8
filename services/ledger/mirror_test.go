package ledger

import (
	"context"
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// submit hands in through one replica, again while nobody leads.
func (c *cluster) submit(via string, records, raw [][]byte) *ledgerv1.SubmitResponse {
	c.t.Helper()
	client := c.client(via, c.gateway)
	var response *ledgerv1.SubmitResponse
	c.until("a submission is answered", func() bool {
		var err error
		response, err = client.Submit(c.context(), &ledgerv1.SubmitRequest{Records: records, RawVectors: raw})
		switch reason.Of(err) {
		case reason.NotLeader, reason.NotReady, reason.NotCertified:
			return false
		}
		if errors.Is(err, context.DeadlineExceeded) || err != nil && reason.Of(err) == "" {
			return false // the transport: the replica is starting or ending
		}
		if err != nil {
			c.t.Fatalf("submit: %v", err)
		}
		return true
	})
	return response
}

// accept records through one replica and brings the mirror up to date.
func (c *cluster) accept(via string, records, raw [][]byte) *ledgerv1.SubmitResponse {
	c.t.Helper()
	response := c.submit(via, records, raw)
	for i, o := range response.GetOutcomes() {
		if !o.GetAccepted() && reason.Reason(o.GetReason()) != reason.Duplicate && reason.Reason(o.GetReason()) != reason.OutOfSequence {
			c.t.Fatalf("record %d is refused: %v", i, response.GetOutcomes())
		}
	}
	_, err := c.nodes[via].service.collector.Wait(c.context(), response.GetCertifiedHeight())
	c.must(err)
	c.sync(via)
	return response
}

// sync replays what a replica has certified into the mirror, and waits first
// until that is at least what the replica has applied.
func (c *cluster) sync(from string) {
	c.t.Helper()
	service := c.nodes[from].service
	certified, err := service.collector.Wait(c.context(), service.machine.Head().Block.Height)
	c.must(err)
	c.replay(from, certified.Block.Height)
}

func (c *cluster) replay(from string, to uint64) {
	c.t.Helper()
	store := c.nodes[from].service.store
	for height := c.mirror.Store.Head().Height + 1; height <= to; height++ {
		stored, err := store.Load(height)
		c.must(err)
		raw := make(map[int]state.RawVector)
		for _, v := range stored.RawVectors {
			raw[v.Leaf] = state.DescribeRaw(v.Bytes)
		}
		sealed, err := state.Replay(c.mirror.Store, c.mirror.Store.Head(), state.Options{}, stored.Leaves, func(leaf int) (state.RawVector, bool) {
			v, ok := raw[leaf]
			return v, ok
		})
		c.must(err)
		if got := c.mirror.Store.Apply(sealed); got != stored.Ref {
			c.t.Fatalf("block %d of %s is %+v, replayed it is %+v", height, from, stored.Ref, got)
		}
	}
	c.tick()
}

// same waits until replicas have certified all that the mirror has, and
// compares every block of theirs with the mirror's.
func (c *cluster) same(ids ...string) {
	c.t.Helper()
	head := c.mirror.Store.Head()
	for _, id := range ids {
		service := c.nodes[id].service
		_, err := service.collector.Wait(c.context(), head.Height)
		if err != nil {
			c.t.Fatalf("%s: %v", id, err)
		}
		for height, want := range c.mirror.Store.Blocks {
			if got, _, err := service.store.Block(uint64(height)); err != nil || got != want {
				c.t.Fatalf("%s has block %d as %+v (%v), want %+v", id, height, got, err, want)
			}
		}
	}
}

// approve records the approval of the network's module.
func (c *cluster) approve(via string) {
	c.t.Helper()
	n := c.mirror
	c.accept(via, [][]byte{n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker())}, nil)
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	c.must(err)
	n.Approval = digest.Digest(value.GetApproval())
}

// register records a meter.
func (c *cluster) register(via, id string) *statetest.Meter {
	c.t.Helper()
	n := c.mirror
	c.accept(via, [][]byte{n.Sign(n.MeterRegistration(id, statetest.Key("meter/"+id)), statetest.Body())}, nil)
	value, err := state.GetMeter(n.Store, id)
	c.must(err)
	return &statetest.Meter{Network: n, ID: id, Key: statetest.Key("meter/" + id), Counter: 1, Registration: digest.Digest(value.GetRegistration())}
}

// measure records so many samples of a meter in one submission.
func (c *cluster) measure(via string, m *statetest.Meter, count int) *ledgerv1.SubmitResponse {
	c.t.Helper()
	c.tick()
	var captures []*statetest.Capture
	for range count {
		captures = append(captures, m.Capture())
	}
	batch := c.mirror.Batch(captures...)
	return c.accept(via, batch.Records(), batch.Raw)
}

// running is a cluster with an approved module and one meter.
func running(t *testing.T) (*cluster, *statetest.Meter) {
	t.Helper()
	c := newCluster(t, statetest.Options{})
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	return c, m
}

// trust is the verifier's bundle, from the mirror and not from a replica.
func (c *cluster) trust() *trust.Bundle {
	c.t.Helper()
	policy, err := state.PolicyOf(c.mirror.Config, c.mirror.ID)
	c.must(err)
	b, err := trust.New(trust.Epoch{Policy: policy})
	c.must(err)
	return b
}
