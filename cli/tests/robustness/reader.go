package main

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

const readTimeout = 3 * time.Second

// reader asks replicas for receipts. A replica may be behind; a client that knows
// how far the ledger is certified asks only one that is as far. So its reads are
// to be linearizable with the writes.
type reader struct {
	traffic  *traffic
	random   *rand.Rand
	replicas map[string]ledgerv1.LedgerServiceClient
	names    []string
	counters func(meter string) uint64 // the newest that was signed
}

// connect opens connections to the replicas, past the links.
func (n *network) connect() (clients map[string]ledgerv1.LedgerServiceClient, closing func(), err error) {
	clients = make(map[string]ledgerv1.LedgerServiceClient)
	var connections []*grpc.ClientConn
	closing = func() {
		for _, c := range connections {
			_ = c.Close() // everything was answered
		}
	}
	for _, id := range n.everyReplica() {
		c, err := n.dial(id)
		if err != nil {
			closing()
			return nil, nil, err
		}
		connections = append(connections, c)
		clients[id] = ledgerv1.NewLedgerServiceClient(c)
	}
	return clients, closing, nil
}

// read reads until ctx ends.
func (r *reader) read(ctx context.Context) {
	t := r.traffic
	for wait(ctx, time.Duration(20+r.random.IntN(100))*time.Millisecond) == nil {
		m := t.network.meters[r.random.IntN(len(t.network.meters))].id
		newest := r.counters(m)
		if newest == 0 {
			continue
		}
		// Mostly the newest ones, which are on their way, and the one that comes next.
		back := min(newest, uint64(r.random.IntN(8)))
		if r.random.IntN(4) == 0 {
			back = r.random.Uint64N(newest)
		}
		r.one(ctx, slot{meter: m, counter: newest + 1 - back}, r.names[r.random.IntN(len(r.names))])
	}
}

func (r *reader) one(ctx context.Context, s slot, replica string) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	t := r.traffic
	client := t.history.begin(input{slot: s})
	known := t.size.Load() // after begin: whatever was acknowledged before is in it
	status, err := r.replicas[replica].GetStatus(ctx, &ledgerv1.GetStatusRequest{})
	if err != nil || status.GetTreeSize() < known {
		t.history.drop(client)
		return
	}
	answer, err := r.replicas[replica].GetReceipt(ctx, &ledgerv1.GetReceiptRequest{Measurement: &ledgerv1.MeasurementKey{MeterId: s.meter, Counter: s.counter}})
	switch {
	case reason.Of(err) == reason.NotFound:
		t.history.end(client, output{})
	case reason.Of(err) == reason.DataLoss && t.network.processes[replica].isUnsound():
		t.history.drop(client) // as it must
	case reason.Of(err) == reason.DataLoss:
		t.violation("%s answers a read with DATA_LOSS: %v", replica, err)
		t.history.drop(client)
	case err != nil:
		t.history.drop(client)
	default:
		found, err := r.verify(answer.GetReceipt())
		if err != nil {
			t.violation("%s gave a receipt of %s counter %d that does not verify: %v", replica, s.meter, s.counter, err)
			t.history.drop(client)
			return
		}
		t.history.end(client, output{found: found.Sample.Digest})
		t.saw(found)
	}
}

func (r *reader) verify(text []byte) (*receipt.Receipt, error) {
	parsed, err := receiptOf(text)
	if err != nil {
		return nil, err
	}
	return r.traffic.network.receipt(text, parsed)
}

// receiptOf is the sample that a receipt says it is of.
func receiptOf(text []byte) (digest.Digest, error) {
	m, err := receipt.Parse(text)
	if err != nil {
		return digest.Zero, err
	}
	return m.Sample.Digest, nil
}
