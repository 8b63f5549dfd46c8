package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

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
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// reader asks one replica as the public and believes nothing.
type reader struct {
	*cluster
	client ledgerv1.LedgerServiceClient
	trust  *trust.Bundle
}

// A small ledger, and every question to a replica that does not lead.
func TestReadsVerify(t *testing.T) {
	c, m := running(t)
	via := c.follower(four...) // which forwards
	c.measure(via, m, 3)
	m.Counter, m.Previous = m.Counter+1_000_000, digest.Of(digest.Sample, []byte("unseen")) // a wide gap
	c.advance(time.Minute, four...)
	c.measure(via, m, 1)
	// A new approval and another TLS key of an endorser: what is in force is not
	// what the measurements so far rest on.
	c.approve(via)
	c.rekey(via, c.mirror.Endorsers[0])
	c.rollOver(via, m)
	c.measure(via, m, 2)
	answer := c.accept(via, [][]byte{m.Heartbeat()}, nil)
	if led := c.leader(four...); answer.GetLeader() != led || led == via {
		t.Errorf("%s handed a submission on and names %q as the leader, it is %s", via, answer.GetLeader(), led)
	}
	c.same(four...)

	r := reader{cluster: c, client: c.public(via), trust: c.trust()}
	t.Run("status", r.status)
	t.Run("trust", r.trustBundle)
	t.Run("checkpoint", r.checkpoint)
	t.Run("record", r.record)
	t.Run("receipt and bundle", r.receipts)
	t.Run("consistency", r.consistency)
	t.Run("meter", r.meter)
	t.Run("measurements", r.measurements)
	t.Run("stream", r.stream)
	t.Run("what a follower gets", r.paced)
	t.Run("follower", r.follow)
}

// rekey registers an endorser again with another TLS key.
func (c *cluster) rekey(via string, node statetest.Node) {
	c.t.Helper()
	m := c.mirror.Registration(node, 1, digest.Zero)
	m.Header = c.mirror.Header(record.SubjectNode(node.ID))
	spki := c.identity(node.ID + " anew").SPKI()
	m.TlsSpki = spki[:]
	c.accept(via, [][]byte{c.mirror.Sign(m, statetest.Root(node.Organisation), node.Key)}, nil)
}

// rollOver gives a meter a new key from its next counter.
func (c *cluster) rollOver(via string, m *statetest.Meter) {
	c.t.Helper()
	key := statetest.Key("meter/" + m.ID + "/second")
	c.accept(via, [][]byte{c.mirror.Sign(&recordv1.MeterKeyRollover{
		Header: c.mirror.Header(record.SubjectMeter(m.ID)), MeterId: m.ID,
		Key: statetest.Tagged(signature.Ed25519ZIP215, key), FirstCounter: m.Counter,
	}, statetest.Body(), m.Key)}, nil)
	m.Key = key
}

func (r *reader) certificate(t *testing.T, text []byte) *tlog.Certificate {
	t.Helper()
	certificate, err := tlog.ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.trust.Check(signature.Direct{}, certificate); err != nil {
		t.Fatal(err)
	}
	return certificate
}

func path(hashes [][]byte) []digest.Digest {
	var out []digest.Digest
	for _, h := range hashes {
		out = append(out, digest.Digest(h))
	}
	return out
}

func (r *reader) status(t *testing.T) {
	got, err := r.client.GetStatus(t.Context(), &ledgerv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	head := r.mirror.Store.Head()
	if got.GetCertifiedHeight() != head.Height || got.GetTreeSize() != head.Size || !bytes.Equal(got.GetHeader(), head.Header[:]) ||
		!bytes.Equal(got.GetNetworkId(), r.mirror.ID[:]) || got.GetOrigin() != r.trust.Origin() || got.GetLeader() == "" {
		t.Errorf("status %v, head is %+v", got, head)
	}
}

func (r *reader) trustBundle(t *testing.T) {
	got, err := r.client.GetTrust(t.Context(), &ledgerv1.GetTrustRequest{})
	if err != nil || !bytes.Equal(got.GetTrust(), r.trust.Bytes()) {
		t.Errorf("trust is %q (%v), want %q", got.GetTrust(), err, r.trust.Bytes())
	}
}

func (r *reader) checkpoint(t *testing.T) {
	newest, err := r.client.GetCheckpoint(t.Context(), &ledgerv1.GetCheckpointRequest{})
	if err != nil {
		t.Fatal(err)
	}
	head := r.mirror.Store.Head()
	if c := r.certificate(t, newest.GetCertificate()).Checkpoint; c.Size != head.Size || c.Root != head.Root || newest.GetHeight() != head.Height {
		t.Errorf("newest checkpoint is %+v of block %d, head is %+v", c, newest.GetHeight(), head)
	}
	for height := range head.Height + 1 {
		got, err := r.client.GetCheckpoint(t.Context(), &ledgerv1.GetCheckpointRequest{Height: &height})
		if err != nil {
			t.Fatal(err)
		}
		ref := r.mirror.Store.Blocks[got.GetHeight()]
		if c := r.certificate(t, got.GetCertificate()).Checkpoint; got.GetHeight() < height || c.Size != ref.Size || c.Root != ref.Root {
			t.Errorf("checkpoint of height %d is %+v of block %d, which is %+v", height, c, got.GetHeight(), ref)
		}
	}
	above := head.Height + 1
	if _, err := r.client.GetCheckpoint(t.Context(), &ledgerv1.GetCheckpointRequest{Height: &above}); reason.Of(err) != reason.NotFound {
		t.Errorf("checkpoint above the head: %v", err)
	}
}

func (r *reader) record(t *testing.T) {
	for index, want := range r.mirror.Store.Leaves {
		got, err := r.client.GetRecord(t.Context(), &ledgerv1.GetRecordRequest{Index: uint64(index)})
		if err != nil {
			t.Fatal(err)
		}
		c := r.certificate(t, got.GetCertificate()).Checkpoint
		if err := tlog.VerifyInclusion(tlog.LeafHash(got.GetRecord()), uint64(index), c.Size, path(got.GetProof()), c.Root); err != nil || !bytes.Equal(got.GetRecord(), want) {
			t.Errorf("record %d: %v", index, err)
		}
	}
	_, err := r.client.GetRecord(t.Context(), &ledgerv1.GetRecordRequest{Index: uint64(len(r.mirror.Store.Leaves))})
	if reason.Of(err) != reason.NotFound {
		t.Errorf("record beyond the end: %v", err)
	}
}

// counters are the meter's: 1 to 3, and after the gap.
var counters = []uint64{1, 2, 3, 1_000_004, 1_000_005, 1_000_006}

func (r *reader) receipts(t *testing.T) {
	for _, counter := range counters {
		key := &ledgerv1.MeasurementKey{MeterId: "meter-1", Counter: counter}
		got, err := r.client.GetReceipt(t.Context(), &ledgerv1.GetReceiptRequest{Measurement: key})
		if err != nil {
			t.Fatal(err)
		}
		parsed, report := receipt.Verify(got.GetReceipt(), r.trust)
		if parsed == nil || report.Verdict != receipt.Verified || parsed.Sample.Counter != counter {
			t.Errorf("receipt of counter %d: %v", counter, report)
		}
		bundle, err := r.client.GetBundle(t.Context(), &ledgerv1.GetBundleRequest{Measurement: key})
		if err != nil {
			t.Fatal(err)
		}
		contents, report := receipt.VerifyBundle(bundle.GetBundle(), r.trust, nil)
		for _, step := range report.Steps {
			if step.Name != receipt.StepModule && step.Name != receipt.StepReExecution && step.Verdict != receipt.Verified {
				t.Errorf("bundle of counter %d: %s: %v: %s", counter, step.Name, step.Verdict, step.Detail)
			}
		}
		if contents == nil || len(contents.RawVector) == 0 {
			t.Errorf("bundle of counter %d has no raw vector", counter)
		}
		// The bundle's certificate is the newest, so that its history reaches as far.
		if b := contents.Receipt; b.Proof.Index != parsed.Proof.Index || b.Sample.Digest != parsed.Sample.Digest || b.Proof.Certificate.Checkpoint.Size < parsed.Proof.Certificate.Checkpoint.Size {
			t.Errorf("bundle of counter %d is of record %d in a tree of %d, GetReceipt gives %d of %d",
				counter, b.Proof.Index, b.Proof.Certificate.Checkpoint.Size, parsed.Proof.Index, parsed.Proof.Certificate.Checkpoint.Size)
		}
	}
	for _, key := range []*ledgerv1.MeasurementKey{{MeterId: "meter-1", Counter: 4}, {MeterId: "meter-1"}, {MeterId: "meter-2", Counter: 1}} {
		_, err := r.client.GetReceipt(t.Context(), &ledgerv1.GetReceiptRequest{Measurement: key})
		_, err2 := r.client.GetBundle(t.Context(), &ledgerv1.GetBundleRequest{Measurement: key})
		if reason.Of(err) != reason.NotFound || reason.Of(err2) != reason.NotFound {
			t.Errorf("%v: %v, %v", key, err, err2)
		}
	}
	if _, err := r.client.GetReceipt(t.Context(), &ledgerv1.GetReceiptRequest{}); reason.Of(err) != reason.Malformed {
		t.Errorf("no key at all: %v", err)
	}
}

func (r *reader) consistency(t *testing.T) {
	blocks := r.mirror.Store.Blocks
	for i, from := range blocks {
		for _, to := range blocks[i:] {
			got, err := r.client.GetConsistencyProof(t.Context(), &ledgerv1.GetConsistencyProofRequest{FromSize: from.Size, ToSize: to.Size})
			if err == nil {
				err = tlog.VerifyConsistency(from.Size, to.Size, path(got.GetProof()), from.Root, to.Root)
			}
			if err != nil {
				t.Errorf("from block %d to %d: %v", from.Height, to.Height, err)
			}
		}
	}
	size := r.mirror.Store.Head().Size
	for _, wrong := range [][2]uint64{{2, 1}, {size, size + 1}, {size + 1, size + 1}} {
		_, err := r.client.GetConsistencyProof(t.Context(), &ledgerv1.GetConsistencyProofRequest{FromSize: wrong[0], ToSize: wrong[1]})
		if reason.Of(err) != reason.NotFound {
			t.Errorf("sizes %v: %v", wrong, err)
		}
	}
}

func (r *reader) meter(t *testing.T) {
	got, err := r.client.GetMeter(t.Context(), &ledgerv1.GetMeterRequest{MeterId: "meter-1"})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := state.GetMeterChain(r.mirror.Store, "meter-1")
	if err != nil {
		t.Fatal(err)
	}
	if got.GetNewestCounter() != 1_000_006 || !bytes.Equal(got.GetNewestSample(), chain.GetNewestSample()) || !got.GetInService() || got.GetSequence() != 2 ||
		len(got.GetMissing()) != 1 || got.GetMissing()[0].GetFirst() != 4 || got.GetMissing()[0].GetLast() != 1_000_003 {
		t.Errorf("meter is %v", got)
	}
	listed, err := r.client.ListMeters(t.Context(), &ledgerv1.ListMetersRequest{})
	if err != nil || len(listed.GetMeters()) != 1 || listed.GetNextPageToken() != "" {
		t.Fatalf("meters are %v (%v), want meter-1 alone", listed, err)
	}
	if l := listed.GetMeters()[0]; l.GetMeterId() != "meter-1" || !l.GetInService() || l.GetNewestCounter() != 1_000_006 || l.GetHeartbeatCounter() != 1_000_006 ||
		l.GetNewestCapturedAtUnixNano() != chain.GetNewestCapturedAtUnixNano() || l.GetHeartbeatAtUnixNano() != r.mirror.NowUnix*statetest.Second {
		t.Errorf("meter-1 is listed as %v", l)
	}
	for name, request := range map[string]*ledgerv1.ListMetersRequest{"a token of nobody": {PageToken: "x y"}, "1,001 at once": {PageSize: 1001}} {
		if _, err := r.client.ListMeters(t.Context(), request); reason.Of(err) != reason.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.client.GetMeter(t.Context(), &ledgerv1.GetMeterRequest{MeterId: "meter-2"}); reason.Of(err) != reason.NotFound {
		t.Errorf("unknown meter: %v", err)
	}
	if _, err := r.client.GetMeter(t.Context(), &ledgerv1.GetMeterRequest{MeterId: "Meter/2"}); reason.Of(err) != reason.Malformed {
		t.Errorf("no id: %v", err)
	}
}

// list pages to the end.
func (r *reader) list(t *testing.T, request *ledgerv1.ListMeasurementsRequest) (found []uint64, pages int) {
	t.Helper()
	request.MeterId = "meter-1"
	for {
		page, err := r.client.ListMeasurements(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, m := range page.GetMeasurements() {
			if !bytes.Equal(m.GetRecord(), r.mirror.Store.Leaves[m.GetIndex()]) {
				t.Errorf("listed record %d has other bytes than the leaf", m.GetIndex())
			}
			parsed, err := receipt.ParseMeasurement(m.GetRecord())
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, parsed.Sample.Counter)
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return found, pages
		}
	}
}

func (r *reader) measurements(t *testing.T) {
	at := func(counter uint64) int64 {
		index, _, _ := state.IndexOf(r.mirror.Store, "meter-1", counter)
		m, err := receipt.ParseMeasurement(r.mirror.Store.Leaves[index])
		if err != nil {
			t.Fatal(err)
		}
		return m.Sample.CapturedAtUnixNano
	}
	late := at(1_000_004) // a minute after those before
	for _, c := range []struct {
		name    string
		request *ledgerv1.ListMeasurementsRequest
		want    []uint64
		pages   int
	}{
		{"all", &ledgerv1.ListMeasurementsRequest{}, counters, 1},
		{"two a page", &ledgerv1.ListMeasurementsRequest{PageSize: 2}, counters, 3},
		{"one a page", &ledgerv1.ListMeasurementsRequest{PageSize: 1}, counters, 6},
		{"from a counter", &ledgerv1.ListMeasurementsRequest{FromCounter: 3, PageSize: 3}, counters[2:], 2},
		{"from inside the gap", &ledgerv1.ListMeasurementsRequest{FromCounter: 77}, counters[3:], 1},
		{"from a time", &ledgerv1.ListMeasurementsRequest{FromCapturedAtUnixNano: late}, counters[3:], 1},
		{"from just after", &ledgerv1.ListMeasurementsRequest{FromCapturedAtUnixNano: at(3) + 1, PageSize: 2}, counters[3:], 2},
		{"until a time", &ledgerv1.ListMeasurementsRequest{UntilCapturedAtUnixNano: late}, counters[:3], 1},
		{"until a time, in pages", &ledgerv1.ListMeasurementsRequest{UntilCapturedAtUnixNano: late, PageSize: 2}, counters[:3], 2},
		{"after all", &ledgerv1.ListMeasurementsRequest{FromCounter: 1_000_007}, nil, 1},
		{"later than all", &ledgerv1.ListMeasurementsRequest{FromCapturedAtUnixNano: late + 1e15}, nil, 1},
	} {
		got, pages := r.list(t, c.request)
		if len(got) != len(c.want) || pages != c.pages {
			t.Errorf("%s: counters %v in %d pages, want %v in %d", c.name, got, pages, c.want, c.pages)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: counters %v, want %v", c.name, got, c.want)
				break
			}
		}
	}
	for _, wrong := range []*ledgerv1.ListMeasurementsRequest{{MeterId: "meter-1", PageSize: 1001}, {MeterId: "meter-1", PageToken: "nonsense"}} {
		if _, err := r.client.ListMeasurements(t.Context(), wrong); reason.Of(err) != reason.Malformed {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

func (r *reader) stream(t *testing.T) {
	head := r.mirror.Store.Head().Height
	for _, view := range []ledgerv1.StreamView{ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE, ledgerv1.StreamView_STREAM_VIEW_RECORDS, ledgerv1.StreamView_STREAM_VIEW_FULL} {
		for from := range head + 1 {
			stream, err := r.client.StreamBlocks(t.Context(), &ledgerv1.StreamBlocksRequest{FromHeight: from, View: view, StopAtHead: true})
			if err != nil {
				t.Fatal(err)
			}
			height := from
			for ; ; height++ {
				block, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				r.block(t, height, view, block)
			}
			if height != head+1 {
				t.Errorf("stream from %d ended before block %d, head is %d", from, height, head)
			}
		}
	}
}

// paced reads the blocks as a follower gets them: the newest has its certificate, and so
// has each with a statement; others below the newest are certified by it.
func (r *reader) paced(t *testing.T) {
	head := r.mirror.Store.Head().Height
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	view := ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE
	follow, err := r.client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: view})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := r.client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: view, StopAtHead: true})
	if err != nil {
		t.Fatal(err)
	}
	bare := 0
	for height := range head + 1 {
		got, err := follow.Recv()
		if err != nil {
			t.Fatal(err)
		}
		want, err := whole.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r.block(t, height, view, got)
		statements := slices.ContainsFunc(got.GetLeaves()[:len(got.GetLeaves())-1], func(l *ledgerv1.Leaf) bool { return len(l.GetRecord()) > 0 })
		if len(got.GetCertificate()) == 0 && !statements && height < head {
			bare++ // it may be: the newest certificate covers it
		} else if !bytes.Equal(got.GetCertificate(), want.GetCertificate()) {
			t.Errorf("block %d of %d, statements %v, came with certificate %q, want %q", height, head, statements, got.GetCertificate(), want.GetCertificate())
		}
		if height == head && len(got.GetCertificate()) == 0 {
			t.Errorf("the newest block, %d, came without a certificate", height)
		}
	}
	if bare == 0 {
		t.Error("no certificate was held back")
	}
}

func (r *reader) block(t *testing.T, height uint64, view ledgerv1.StreamView, block *ledgerv1.StreamBlocksResponse) {
	t.Helper()
	ref, leaves := r.mirror.Store.Blocks[height], r.mirror.Store.BlockLeaves(height)
	if block.GetHeight() != height || len(block.GetLeaves()) != len(leaves) {
		t.Fatalf("block %d with %d leaves came, want %d with %d", block.GetHeight(), len(block.GetLeaves()), height, len(leaves))
	}
	raw := block.GetRawVectors()
	for i, l := range block.GetLeaves() {
		p, err := record.Parse(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		hash := tlog.LeafHash(leaves[i])
		hidden := view == ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE && p.GetStatement() == nil && p.GetBlockHeader() == nil
		if hidden && !bytes.Equal(l.GetHash(), hash[:]) || !hidden && !bytes.Equal(l.GetRecord(), leaves[i]) {
			t.Errorf("leaf %d of block %d in view %v is %v", i, height, view, l)
		}
		if m := p.GetMeasurement(); m != nil && view == ledgerv1.StreamView_STREAM_VIEW_FULL {
			header, err := sample.Parse(m.GetHeader())
			if err != nil || len(raw) == 0 || sample.DigestRaw(raw[0]) != header.RawDigest {
				t.Fatalf("leaf %d of block %d has not its raw vector (%v)", i, height, err)
			}
			raw = raw[1:]
		}
	}
	if len(raw) > 0 {
		t.Errorf("block %d has %d raw vectors too many in view %v", height, len(raw), view)
	}
	if len(block.GetCertificate()) > 0 {
		if c := r.certificate(t, block.GetCertificate()).Checkpoint; c.Size != ref.Size || c.Root != ref.Root {
			t.Errorf("certificate of block %d is of %+v", height, c)
		}
	}
}

// The receipts of a large answer are made on every core: each is of the record
// that its outcome names, and verifies.
func TestEachOutcomeOfALargeSubmissionHasItsOwnReceipt(t *testing.T) {
	c, m := running(t)
	const count = 300
	outcomes := c.measure(c.leader(four...), m, count).GetOutcomes()[1:] // the set comes first
	if len(outcomes) != count {
		t.Fatalf("%d outcomes, want %d", len(outcomes), count)
	}
	bundle := c.trust()
	for i, o := range outcomes {
		parsed, report := receipt.Verify(o.GetReceipt(), bundle)
		if parsed == nil || report.Verdict != receipt.Verified || parsed.Proof.Index != o.GetIndex() || parsed.Sample.Counter != uint64(i)+1 {
			t.Fatalf("outcome %d, of record %d: its receipt is %v", i, o.GetIndex(), report)
		}
	}
}
