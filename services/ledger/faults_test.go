package ledger

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

func TestLeaderDiesAndTheOthersGoOn(t *testing.T) {
	c, m := running(t)
	c.measure(four[0], m, 2)
	dead := c.leader(four...)
	c.kill(dead)
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == dead })
	c.leader(rest...)
	c.measure(rest[1], m, 2)
	c.same(rest...)
	c.start(dead)
	c.measure(c.leader(four...), m, 1)
	c.same(four...)
}

func TestStopAllStartAll(t *testing.T) {
	c, m := running(t)
	c.measure(four[0], m, 3)
	c.same(four...)
	head := c.mirror.Store.Head()
	for range 2 {
		c.halt(four...)
		c.start(four...)
		c.leader(four...)
		for _, id := range four {
			if got := c.nodes[id].service.machine.Head().Block; got != head {
				t.Errorf("%s is at %+v after a restart, want %+v: nothing is applied twice", id, got, head)
			}
		}
	}
	c.measure(four[2], m, 1)
	c.same(four...)
}

// The ordering log is so short that a replica which was away gets a pointer: it
// fetches the blocks.
func TestR0_ReplicaThatLacksBlocksFetchesThem(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	for _, id := range four {
		c.nodes[id].tune = func(r *raft.Config) {
			r.TrailingLogs, r.SnapshotThreshold, r.SnapshotInterval = raft.NoTrailingLogs, 2, 10*time.Millisecond
		}
	}
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.same(four...)
	away := c.follower(four...)
	c.halt(away)
	applied := c.nodes[away].service.machine.AppliedIndex()
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == away })
	via = c.leader(rest...)
	for range 12 {
		c.measure(via, m, 2)
	}
	c.same(rest...)
	newest := c.nodes[via].service.machine.AppliedIndex()
	c.until("the entries are gone", func() bool {
		names, err := fs.Glob(os.DirFS(c.nodes[via].config.raftDir()), "snapshots/*")
		c.must(err)
		return len(names) > 0 && filepath.Base(slices.Max(names)) > "00000000000000000012"
	})
	c.start(away)
	c.measure(via, m, 1)
	c.same(four...)
	machine := c.nodes[away].service.machine
	fetched := 0
	for index := applied + 1; index <= newest; index++ {
		_, there := c.nodes[via].service.machine.AppliedDigest(index)
		if _, here := machine.AppliedDigest(index); there && !here {
			fetched++
		}
	}
	if fetched == 0 {
		t.Errorf("entries %d to %d were all sent again; the test did not make the log short", applied+1, newest)
	}
	bundle, err := c.public(away).GetBundle(t.Context(), &ledgerv1.GetBundleRequest{Measurement: &ledgerv1.MeasurementKey{MeterId: m.ID, Counter: 5}})
	if err != nil || len(bundle.GetBundle()) == 0 {
		t.Errorf("a fetched measurement has no bundle: %v", err)
	}
}

// The leader orders what it was never given, past all its own checks: no replica
// makes a leaf of it, and all stay alike.
func TestForgingLeaderIsNotFollowed(t *testing.T) {
	c, m := running(t)
	leader := c.leader(four...)
	order := &c.nodes[leader].service.order
	forged := m.Peek()
	forged.Signature[5] ^= 1
	unsigned := c.mirror.Batch(forged)
	unendorsed := c.mirror.Batch(m.Peek())
	unendorsed.Endorsers = unendorsed.Endorsers[:1]
	invented := c.mirror.Batch(m.Peek())
	invented.Endorse()
	invented.Set.Endorsements[0].Signature[1] ^= 1
	self := c.mirror.Sign(c.mirror.MeterRegistration("meter-9", statetest.Key("meter-9")), statetest.Key("node/"+leader))
	head := c.mirror.Store.Head()
	other := statetest.New(t, statetest.Options{Organisations: 5})
	good := c.nodes[leader].service.collector.Fresh()
	for name, p := range map[string]*replicav1.Proposal{
		"sample not signed by its meter": {Submissions: []*replicav1.Submission{{Records: unsigned.Records(), RawVectors: unsigned.Raw}}},
		"one endorser of two":            {Submissions: []*replicav1.Submission{{Records: unendorsed.Records(), RawVectors: unendorsed.Raw}}},
		"endorsement not signed":         {Submissions: []*replicav1.Submission{{Records: invented.Records(), RawVectors: invented.Raw}}},
		"registration signed by itself":  {Submissions: []*replicav1.Submission{{Records: [][]byte{self}}}},
		"another network's certificate":  {CertifiedHeight: head.Height, Certificate: other.Certificate(0)},
	} {
		p.Version = 1
		if len(p.Certificate) == 0 {
			p.CertifiedHeight, p.Certificate = good.Block.Height, good.Text
		}
		if _, err := order.Propose(c.context(), wire.MustEncode(p)).Wait(c.context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// A good one on top, so that the forged one is certified as nothing.
		c.measure(leader, m, 1)
		c.same(four...)
	}
	measured := m.Counter - 1
	leaves := 0
	for _, leaf := range c.mirror.Store.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if r.GetMeasurement() != nil {
			leaves++
		}
	}
	if leaves != int(measured) {
		t.Errorf("%d measurements are leaves, %d are real", leaves, measured)
	}
}

func TestS3_EquivocationLeadsToOneEvent(t *testing.T) {
	c, m := running(t)
	via := c.follower(four...)
	c.measure(via, m, 1)
	meter := *m // the same meter, before its next sample
	honest := m.Capture()
	batch := c.mirror.Batch(honest)
	c.accept(via, batch.Records(), batch.Raw)
	c.tick()
	lie := meter.Capture(func(h *sample.Header) { h.CapturedAtUnixNano++ })
	for range 3 {
		batch = c.mirror.Batch(lie)
		response := c.submit(via, batch.Records(), batch.Raw)
		if o := response.GetOutcomes()[1]; o.GetReason() != string(reason.Equivocation) || len(o.GetReceipt()) > 0 {
			t.Fatalf("the second sample of counter 2: %v", o)
		}
	}
	c.sync(c.leader(four...))
	c.same(four...)
	var events []*recordv1.EventReport
	for _, leaf := range c.mirror.Store.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if e := r.GetSecurityEvent(); e != nil {
			report := new(recordv1.EventReport)
			if err := record.Decode(e.GetReport(), record.MaxBytes, report); err != nil {
				t.Fatal(err)
			}
			events = append(events, report)
		}
	}
	if len(events) != 1 || events[0].GetKind() != recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION || events[0].GetCounter() != 2 || len(events[0].GetEvidence()) != 2 {
		t.Fatalf("events are %v, want one on counter 2 with both headers", events)
	}
	for _, want := range []*statetest.Capture{honest, lie} {
		evidence := wire.MustEncode(&recordv1.SignedSample{Header: want.Sample.Bytes, Signature: want.Signature})
		if !slices.ContainsFunc(events[0].GetEvidence(), func(e []byte) bool { return bytes.Equal(e, evidence) }) {
			t.Errorf("the event lacks sample %s", want.Sample.Digest.Short())
		}
	}
	c.measure(via, m, 1) // the meter's chain goes on
}

// Damage that a read finds ends the replica, and it does not start again. The
// others are not concerned.
func TestDamagedReplicaStopsServing(t *testing.T) {
	c, m := running(t)
	c.measure(four[0], m, 2)
	c.same(four...)
	hurt := c.follower(four...)
	n := c.nodes[hurt]
	index, _, err := state.IndexOf(c.mirror.Store, m.ID, 1)
	c.must(err)
	key := &ledgerv1.MeasurementKey{MeterId: m.ID, Counter: 1}
	client := c.public(hurt)
	if _, err := client.GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key}); err != nil {
		t.Fatal(err)
	}
	damageVector(t, filepath.Join(n.config.storeDir(), "segments"), c.mirror.Store.Leaves[index])
	if answer, err := client.GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key}); reason.Of(err) != reason.DataLoss {
		t.Errorf("a damaged raw vector is answered with %v, %v", answer, err)
	}
	_, err = client.GetRecord(c.context(), &ledgerv1.GetRecordRequest{Index: 0})
	if err == nil {
		t.Error("a replica whose disk is damaged goes on serving")
	}
	err = <-n.ended
	n.stop = nil
	if reason.Of(err) != reason.DataLoss {
		t.Errorf("the replica ends with %v, want %s", err, reason.DataLoss)
	}
	if _, err := open(n.config, n.clock, n.log); reason.Of(err) != reason.DataLoss {
		t.Errorf("it starts again with %v, want %s", err, reason.DataLoss)
	}
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == hurt })
	c.measure(c.leader(rest...), m, 1)
	c.same(rest...)
}

// damageVector flips one bit of the raw vector that lies behind a record.
func damageVector(t *testing.T, dir string, leaf []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, leaf)
		if at < 0 {
			continue
		}
		behind := at + len(leaf)
		raw := bytes.Index(b[behind:], append([]byte{1}, make([]byte, 15)...)) // statetest's, of counter 1
		if raw < 0 {
			t.Fatal("no raw vector lies behind the record")
		}
		b[behind+raw+7] ^= 4
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b[behind+raw+7:behind+raw+8], int64(behind+raw+7)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the record's bytes are in no segment")
}

// One replica alone: it serves what it has, leads nothing and is not ready.
func TestAloneNobodyLeads(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	c.start(four[0])
	client := c.client(four[0], c.gateway)
	leaf := c.mirror.SignApproval(c.mirror.Terms(), statetest.Body(), statetest.Maker())
	_, err := client.Submit(c.context(), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if reason.Of(err) != reason.NotLeader || rpcerror.Delay(err) == 0 {
		t.Errorf("a submission to nobody: %v, delay %v", err, rpcerror.Delay(err))
	}
	if _, err := client.GetCheckpoint(c.context(), &ledgerv1.GetCheckpointRequest{}); reason.Of(err) != reason.NotCertified {
		t.Errorf("checkpoint before there is one: %v", err)
	}
	if status, err := client.GetStatus(c.context(), &ledgerv1.GetStatusRequest{}); err != nil || status.GetLeader() != "" || status.GetTreeSize() != c.mirror.Store.Head().Size {
		t.Errorf("status %v (%v)", status, err)
	}
	if lock := c.nodes[four[0]].service.store.Lock(); lock.Height != 0 {
		t.Errorf("lock is %+v before rule C7 is answered", lock)
	}
}

// A stopping replica ends its streams and takes nothing in any more.
func TestStoppingReplicaLetsGo(t *testing.T) {
	c, m := running(t)
	stopping := c.leader(four...)
	stream, err := c.public(stopping).StreamBlocks(c.context(), &ledgerv1.StreamBlocksRequest{FromHeight: c.mirror.Store.Head().Height})
	c.must(err)
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Recv() // the next block never comes
		ended <- err
	}()
	service := c.nodes[stopping].service
	c.halt(stopping)
	if err := <-ended; err == nil {
		t.Error("the stream goes on")
	}
	if _, err := service.cutter.Submit(context.Background(), &replicav1.Submission{}, false); reason.Of(err) != reason.NotLeader {
		t.Errorf("a stopped cutter: %v", err)
	}
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == stopping })
	c.measure(c.leader(rest...), m, 1)
	c.same(rest...)
}

// Every refusal names its reason, and nothing of it is stored.
func TestBadInputIsRefusedWithItsReason(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 1)
	client := c.client(via, c.gateway)
	before := c.mirror.Store.Head()
	n := c.mirror
	capture := func(change func(*sample.Header)) *statetest.Capture {
		if change == nil {
			return m.Peek()
		}
		return m.Peek(change)
	}
	batch := func(change func(*sample.Header)) *statetest.Batch { return n.Batch(capture(change)) }
	stranger := *m
	stranger.ID, stranger.Key = "meter-2", statetest.Key("meter-2")
	day := 24 * 3600 * statetest.Second
	for name, test := range map[string]struct {
		want  reason.Reason
		batch *statetest.Batch
	}{
		"unknown meter":   {want: reason.UnknownMeter, batch: n.Batch(stranger.Peek())},
		"other network":   {want: reason.WrongNetwork, batch: batch(func(h *sample.Header) { h.NetworkID = digest.Plain([]byte("x")) })},
		"channel count":   {want: reason.WrongChannelCount, batch: batch(func(h *sample.Header) { h.Channels = 3 })},
		"sample rate":     {want: reason.WrongSampleRate, batch: batch(func(h *sample.Header) { h.SampleRateMillihertz++ })},
		"future-dated":    {want: reason.FutureDated, batch: batch(func(h *sample.Header) { h.CapturedAtUnixNano += day })},
		"back-dated":      {want: reason.BackDated, batch: batch(func(h *sample.Header) { h.CapturedAtUnixNano -= day })},
		"unknown block":   {want: reason.UnknownBlock, batch: batch(func(h *sample.Header) { h.KnownBlock[0] ^= 1 })},
		"digest mismatch": {want: reason.DigestMismatch, batch: batch(func(h *sample.Header) { h.RawDigest[0] ^= 1 })},
		"not signed": {want: reason.BadSignature, batch: func() *statetest.Batch {
			s := capture(nil)
			s.Signature[0] ^= 1
			return n.Batch(s)
		}()},
	} {
		response, err := client.Submit(c.context(), &ledgerv1.SubmitRequest{Records: test.batch.Records(), RawVectors: test.batch.Raw})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if o := response.GetOutcomes()[1]; o.GetAccepted() || o.GetReason() != string(test.want) || o.GetDetail() == "" {
			t.Errorf("%s: %v, want %s", name, o, test.want)
		}
	}
	for name, test := range map[string]struct {
		want    reason.Reason
		request *ledgerv1.SubmitRequest
	}{
		"nothing":       {reason.Malformed, &ledgerv1.SubmitRequest{}},
		"empty record":  {reason.TooLarge, &ledgerv1.SubmitRequest{Records: [][]byte{{}}}},
		"huge record":   {reason.TooLarge, &ledgerv1.SubmitRequest{Records: [][]byte{make([]byte, record.MaxBytes+1)}}},
		"huge vector":   {reason.TooLarge, &ledgerv1.SubmitRequest{Records: [][]byte{{1}, {2}}, RawVectors: [][]byte{make([]byte, record.MaxRawVectorBytes+1)}}},
		"vectors alone": {reason.Malformed, &ledgerv1.SubmitRequest{Records: [][]byte{{1}}, RawVectors: [][]byte{{1}}}},
		"too many":      {reason.Malformed, &ledgerv1.SubmitRequest{Records: slices.Repeat([][]byte{{1}}, record.MaxClaims+2)}},
	} {
		if _, err := client.Submit(c.context(), test.request); reason.Of(err) != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	noncanonical := append(bytes.Clone(n.Batch(m.Peek()).Records()[0]), 0xf8, 0x01, 0x00)
	response, err := client.Submit(c.context(), &ledgerv1.SubmitRequest{Records: [][]byte{noncanonical}})
	if err != nil || response.GetOutcomes()[0].GetAccepted() || response.GetOutcomes()[0].GetReason() == "" {
		t.Errorf("not canonical: %v (%v)", response, err)
	}
	if _, err := c.public(via).Submit(c.context(), &ledgerv1.SubmitRequest{Records: [][]byte{{1}}}); reason.Of(err) != reason.PermissionDenied {
		t.Errorf("the public submits: %v", err)
	}
	c.sync(via)
	if after := c.mirror.Store.Head(); after.Size-before.Size != after.Height-before.Height {
		t.Errorf("refused input left %d leaves in %d blocks", after.Size-before.Size, after.Height-before.Height)
	}
}
