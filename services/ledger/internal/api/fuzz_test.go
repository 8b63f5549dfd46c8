package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

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

// nobody leads.
type nobody struct{}

func (nobody) Leader() (string, bool) { return "", false }
func (nobody) IsLeader() bool         { return false }

func (nobody) LeaderChanges() (<-chan struct{}, func()) { return nil, func() {} }

// serving is a server over a ledger of two meters: the counters of one are
// ordinary, those of the other begin high. The newest block is certified.
func serving(f testing.TB) (*Server, *statetest.Network, *statetest.Batch) {
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	n := statetest.New(f, statetest.Options{})
	block, err := fsm.GenesisBlock(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * statetest.Second})
	must(err)
	store, err := storage.Open(filepath.Join(f.TempDir(), "store"), storage.Options{})
	must(err)
	f.Cleanup(func() { must(store.Close()) })
	must(store.Commit(storage.Batch{Blocks: []storage.Block{block}}))
	config, err := state.GetConfig(store)
	must(err)
	self := n.Replicas[0]
	clock := func() time.Time { return time.Unix(n.NowUnix, 0) }
	signer := certify.NewSigner(config.Origin(), state.CosignerName(config.Origin(), self.ID), self.Cosigner, self.Log, clock, store.Lock())
	collect := func(newest certify.Certified) *certify.Collector {
		return certify.NewCollector(signer.Name(), newest, ledgerOf{store}, signature.Direct{}, func(certify.Certified) {}, certify.Alarms{
			Diverged:     func(d *certify.DivergenceError) { f.Error(d) },
			DoubleSigned: func(d *certify.DoubleSignError) { f.Error(d) },
			Outvoted:     func(err error) { f.Error(err) },
		})
	}
	cache := signature.NewCache(1 << 12)
	machine, err := fsm.New(fsm.Config{Store: store, Cache: cache, Collector: collect(certify.Certified{Block: block.Ref}), Signer: signer,
		Dir: f.TempDir(), Publish: func(certify.Signed) {}, Log: slog.New(slog.DiscardHandler)})
	must(err)
	index := uint64(0)
	submit := func(records, raw [][]byte) {
		f.Helper()
		head := n.Store.Head()
		index++
		data := wire.MustEncode(&replicav1.Proposal{Version: propose.Version, CertifiedHeight: head.Height, Certificate: n.Certificate(head.Height),
			Submissions: []*replicav1.Submission{{Records: records, RawVectors: raw}}})
		_, err := machine.ApplyBatch([]ordering.Entry{{Index: index, Data: data, Digest: digest.Of(digest.Entry, data)}})
		must(err)
		for _, o := range n.Submit(records, raw) {
			if !o.Accepted {
				f.Fatal(o)
			}
		}
	}
	submit([][]byte{n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker())}, nil)
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	must(err)
	n.Approval = digest.Digest(value.GetApproval())
	var meters []*statetest.Meter
	for i, first := range []uint64{1, 1 << 40} {
		id := fmt.Sprintf("meter-%d", i+1)
		registration := n.MeterRegistration(id, statetest.Key(id))
		registration.FirstCounter = first
		submit([][]byte{n.Sign(registration, statetest.Body())}, nil)
		standing, err := state.GetMeter(n.Store, id)
		must(err)
		meters = append(meters, &statetest.Meter{Network: n, ID: id, Key: statetest.Key(id), Counter: first, Registration: digest.Digest(standing.GetRegistration())})
	}
	for range 3 {
		n.NowUnix++
		var captures []*statetest.Capture
		for _, m := range meters {
			captures = append(captures, m.Capture())
			m.Capture() // a gap
			captures = append(captures, m.Capture())
		}
		batch := n.Batch(captures...)
		submit(batch.Records(), batch.Raw)
	}
	head := machine.Head().Block
	text := n.Certificate(head.Height)
	must(store.PutCertificates([]storage.Certificate{{Height: head.Height, Note: text}}))
	s, _ := New(Config{NodeID: self.ID, NetworkID: n.ID, Origin: config.Origin(), Signer: self.Key, Store: store, Certificates: certify.NewArchive(store),
		Collector: collect(certify.Certified{Block: head, Text: text}), Machine: machine, Order: nobody{}, Cache: cache,
		Fatal: func(err error) { f.Error(err) }, Log: slog.New(slog.DiscardHandler)})
	next := n.Batch(meters[0].Capture(), meters[1].Capture())
	return s, n, next
}

// FuzzRequests asks for anything: each answer comes without a panic and in bounded
// work, is refused with a reason that is not damage, or proves what it says.
func FuzzRequests(f *testing.F) {
	s, n, next := serving(f)
	height := uint64(3)
	key := &ledgerv1.MeasurementKey{MeterId: "meter-1", Counter: 3}
	requests := []proto.Message{
		&ledgerv1.GetCheckpointRequest{Height: &height}, &ledgerv1.GetTrustRequest{}, &ledgerv1.GetRecordRequest{Index: 5},
		&ledgerv1.GetReceiptRequest{Measurement: key}, &ledgerv1.GetBundleRequest{Measurement: key},
		&ledgerv1.GetConsistencyProofRequest{FromSize: 3, ToSize: 12}, &ledgerv1.GetMeterRequest{MeterId: "meter-2"},
		&ledgerv1.ListMeasurementsRequest{MeterId: "meter-2", PageToken: formatToken(0), PageSize: 2},
		&ledgerv1.SubmitRequest{Records: next.Records(), RawVectors: next.Raw}, &ledgerv1.GetStatusRequest{},
	}
	for i, r := range requests {
		f.Add(uint8(i), wire.MustEncode(r))
	}
	f.Add(uint8(7), wire.MustEncode(&ledgerv1.ListMeasurementsRequest{MeterId: "meter-1", FromCapturedAtUnixNano: (statetest.GenesisUnix + 2) * statetest.Second, FromCounter: 2}))
	f.Add(uint8(7), wire.MustEncode(&ledgerv1.ListMeasurementsRequest{MeterId: "meter-1", UntilCapturedAtUnixNano: (statetest.GenesisUnix + 2) * statetest.Second}))
	bundle, err := trustBundle(s.Store, s.NetworkID, s.Collector.Newest().Block.Height)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		request := requests[int(which)%len(requests)].ProtoReflect().New().Interface()
		if proto.Unmarshal(body, request) != nil {
			return
		}
		if err := s.answer(t, n, bundle, request); err != nil {
			if got := reason.Of(err); got == "" || got == reason.DataLoss {
				t.Fatalf("%T %v is refused with %v (%s)", request, request, err, got)
			}
		}
	})
}

// answer asks the server and checks what it answers.
func (s *Server) answer(t *testing.T, n *statetest.Network, bundle *trust.Bundle, request proto.Message) error {
	ctx := t.Context()
	switch r := request.(type) {
	case *ledgerv1.GetStatusRequest:
		_, err := s.GetStatus(ctx, r)
		return err
	case *ledgerv1.GetCheckpointRequest:
		_, err := s.GetCheckpoint(ctx, r)
		return err
	case *ledgerv1.GetTrustRequest:
		_, err := s.GetTrust(ctx, r)
		return err
	case *ledgerv1.GetMeterRequest:
		_, err := s.GetMeter(ctx, r)
		return err
	case *ledgerv1.GetRecordRequest:
		got, err := s.GetRecord(ctx, r)
		if err == nil && !slices.Equal(got.GetRecord(), n.Store.Leaves[r.GetIndex()]) {
			t.Fatalf("record %d is another", r.GetIndex())
		}
		return err
	case *ledgerv1.GetReceiptRequest:
		got, err := s.GetReceipt(ctx, r)
		if err != nil {
			return err
		}
		verified, report := receipt.Verify(got.GetReceipt(), bundle)
		if report.Verdict != receipt.Verified || verified.Sample.Counter != r.GetMeasurement().GetCounter() {
			t.Fatalf("receipt of %v: %v", r, report)
		}
	case *ledgerv1.GetBundleRequest:
		got, err := s.GetBundle(ctx, r)
		if err != nil {
			return err
		}
		b, err := receipt.ParseBundle(got.GetBundle())
		if err != nil {
			t.Fatal(err)
		}
		if _, report := receipt.Verify(b.GetReceipt(), bundle); report.Verdict != receipt.Verified {
			t.Fatalf("bundle of %v: %v", r, report)
		}
	case *ledgerv1.GetConsistencyProofRequest:
		_, err := s.GetConsistencyProof(ctx, r)
		return err
	case *ledgerv1.ListMeasurementsRequest:
		return s.listed(ctx, t, r)
	case *ledgerv1.SubmitRequest:
		if err := checkLimits(r); err != nil {
			return err
		}
		outcomes, _, hopeless := s.rehearse(fsm.Parse(&replicav1.Submission{Records: r.GetRecords(), RawVectors: r.GetRawVectors()}))
		if hopeless && len(outcomes) != len(r.GetRecords()) {
			t.Fatalf("%d outcomes for %d records", len(outcomes), len(r.GetRecords()))
		}
	}
	return nil
}

func (s *Server) listed(ctx context.Context, t *testing.T, r *ledgerv1.ListMeasurementsRequest) error {
	got, err := s.ListMeasurements(ctx, r)
	if err != nil {
		return err
	}
	if most := max(r.GetPageSize(), 1); r.GetPageSize() > 0 && uint32(len(got.GetMeasurements())) > most {
		t.Fatalf("%d measurements on a page of %d", len(got.GetMeasurements()), most)
	}
	last := uint64(0) // no counter is 0
	for _, m := range got.GetMeasurements() {
		leaf, err := record.Parse(m.GetRecord())
		if err != nil {
			t.Fatal(err)
		}
		header, err := sample.Parse(leaf.GetMeasurement().GetHeader())
		if err != nil {
			t.Fatal(err)
		}
		if header.MeterID != r.GetMeterId() || header.Counter <= last {
			t.Fatalf("counter %d of meter %s after %d in a list of %v", header.Counter, header.MeterID, last, r)
		}
		last = header.Counter
	}
	if got.GetNextPageToken() != "" && len(got.GetMeasurements()) == 0 {
		return errors.New("an empty page, and another one after it")
	}
	return nil
}
