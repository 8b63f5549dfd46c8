package fsm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// replica is one machine on a real store, beside a network in memory that says
// what its ledger must be.
type replica struct {
	t         testing.TB
	n         *statetest.Network
	dir       string
	store     *storage.Store
	signer    *certify.Signer
	collector *certify.Collector
	machine   *Machine
	published []certify.Signed
	fetch     Fetch
	outvoted  func(error) // nil where none may be
	index     uint64      // of the last entry
}

// ledgerOf is a store as the collector reads it.
type ledgerOf struct{ *storage.Store }

func (l ledgerOf) QuorumAt(height uint64) (*state.Quorum, bool, error) {
	q, err := state.QuorumAt(l.Store, height)
	return q, true, err
}

func (l ledgerOf) RootAt(size uint64) (digest.Digest, error) {
	r, err := tlog.RangeAt(l.Store, size)
	if err != nil {
		return digest.Zero, err
	}
	return r.Root(), nil
}

func newReplica(t testing.TB, n *statetest.Network) *replica {
	t.Helper()
	r := &replica{t: t, n: n, dir: t.TempDir()}
	block, err := GenesisBlock(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * statetest.Second})
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(filepath.Join(r.dir, "store"), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Commit(storage.Batch{Blocks: []storage.Block{block}}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	if got, want := r.machine.Head().Block, n.Store.Blocks[0]; got != want {
		t.Fatalf("genesis block is %+v, want %+v", got, want)
	}
	return r
}

// open is a start of the process; the last one is closed by the test's end.
func (r *replica) open() {
	r.t.Helper()
	store, err := storage.Open(filepath.Join(r.dir, "store"), storage.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := store.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			r.t.Error(err)
		}
	})
	r.store, r.published, r.index = store, nil, store.AppliedIndex()
	config, err := state.GetConfig(store)
	if err != nil {
		r.t.Fatal(err)
	}
	self := r.n.Replicas[0]
	clock := func() time.Time { return time.Unix(r.n.NowUnix, 0) }
	r.signer = certify.NewSigner(config.Origin(), state.CosignerName(config.Origin(), self.ID), self.Cosigner, self.Log, clock, store.Lock())
	r.signer.SignFrom(0)
	head, _ := store.Head()
	r.collector = certify.NewCollector(r.signer.Name(), certify.Certified{Block: head}, ledgerOf{store}, signature.Direct{}, func(certify.Certified) {}, certify.Alarms{
		Diverged:     func(d *certify.DivergenceError) { r.t.Error(d) },
		DoubleSigned: func(d *certify.DoubleSignError) { r.t.Error(d) },
		Outvoted: func(err error) {
			if r.outvoted == nil {
				r.t.Error(err)
				return
			}
			r.outvoted(err)
		},
	})
	r.machine, err = New(Config{
		Store: store, Cache: signature.NewCache(1024), Collector: r.collector, Signer: r.signer, Dir: r.dir,
		Publish: func(s certify.Signed) { r.published = append(r.published, s) },
		Fetch: func(ctx context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
			return r.fetch(ctx, from, to, take)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *replica) restart() {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// entry is a proposal on the mirror's newest certificate.
func (r *replica) entry(submissions ...*replicav1.Submission) []byte {
	head := r.n.Store.Head()
	return wire.MustEncode(&replicav1.Proposal{Version: propose.Version, CertifiedHeight: head.Height, Certificate: r.n.Certificate(head.Height), Submissions: submissions})
}

func (r *replica) order(data []byte) ordering.Entry {
	r.index++
	return ordering.Entry{Index: r.index, Data: data, Digest: digest.Of(digest.Entry, data)}
}

// apply orders one entry.
func (r *replica) apply(data []byte) propose.Applied {
	r.t.Helper()
	responses, err := r.machine.ApplyBatch([]ordering.Entry{r.order(data)})
	if err != nil {
		r.t.Fatal(err)
	}
	return responses[0].(propose.Applied)
}

// submit gives one submission to the machine and to the mirror.
func (r *replica) submit(records, raw [][]byte) []state.Outcome {
	r.t.Helper()
	data := r.entry(&replicav1.Submission{Records: records, RawVectors: raw})
	want := r.n.Submit(records, raw)
	applied := r.apply(data)
	if applied.Ignored != nil || len(applied.Results) != 1 {
		r.t.Fatalf("applied as %+v", applied)
	}
	for i := range want {
		if applied.Results[0][i] != want[i] {
			r.t.Errorf("record %d: outcome %+v, want %+v", i, applied.Results[0][i], want[i])
		}
	}
	r.same()
	return applied.Results[0]
}

// same compares the machine with the mirror.
func (r *replica) same() {
	r.t.Helper()
	if got, want := r.machine.Head().Block, r.n.Store.Head(); got != want {
		r.t.Fatalf("head is %+v, want %+v", got, want)
	}
	for key, want := range r.n.Store.Values {
		got, err := r.store.Get([]byte(key))
		if err != nil || !bytes.Equal(got, want) {
			r.t.Fatalf("state value %q is %x (%v), want %x", key, got, err, want)
		}
	}
}

// ready is a replica of a network with an approved module and a meter.
func ready(t *testing.T) (*replica, *statetest.Meter) {
	t.Helper()
	r := newReplica(t, statetest.New(t, statetest.Options{}))
	n := r.n
	r.submit([][]byte{n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker())}, nil)
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	n.Approval = digest.Digest(value.GetApproval())
	registration := n.MeterRegistration("meter-1", statetest.Key("meter/meter-1"))
	r.submit([][]byte{n.Sign(registration, statetest.Body())}, nil)
	meter, err := state.GetMeter(n.Store, "meter-1")
	if err != nil {
		t.Fatal(err)
	}
	return r, &statetest.Meter{Network: n, ID: "meter-1", Key: statetest.Key("meter/meter-1"), Counter: 1, Registration: digest.Digest(meter.GetRegistration())}
}

// measure records captures in one block.
func (r *replica) measure(captures ...*statetest.Capture) []state.Outcome {
	r.t.Helper()
	batch := r.n.Batch(captures...)
	return r.submit(batch.Records(), batch.Raw)
}
