package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/services/ingest"
)

func TestSampleGetsItsReceipt(t *testing.T) {
	b := newBench(t)
	c := b.capture()
	b.accept(c)
	b.accept(c) // the outbox may send it again: the same receipt
	if got := b.ledger.Measurements(); len(got) != 1 {
		t.Errorf("%d measurements on the ledger, want 1", len(got))
	}
	head, err := b.client.GetHead(b.ctx, &ingestv1.GetHeadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	proof, err := tlog.ParseProof(head.GetProof())
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(proof.Extra)
	if err != nil || r.GetBlockHeader() == nil || proof.Index != proof.Certificate.Checkpoint.Size-1 {
		t.Errorf("record %d of %d as the head: %v, %v", proof.Index, proof.Certificate.Checkpoint.Size, r, err)
	}
}

// Every kind of bad input has its reason, whoever finds it: the gateway, the
// endorsers or the ledger. Nothing of it is stored.
func TestBadInput(t *testing.T) {
	b := newBench(t)
	known := b.capture()
	b.accept(known, b.capture(), b.capture())
	peek := func(change ...func(*sample.Header)) (c *statetest.Capture) {
		b.do(func(*statetest.Network) { c = b.meter.Peek(change...) })
		return c
	}
	changed := func(change ...func(*sample.Header)) func() *ingestv1.SubmitRequest {
		return func() *ingestv1.SubmitRequest { return request(peek(change...)) }
	}
	altered := func(change func(r *ingestv1.SubmitRequest)) func() *ingestv1.SubmitRequest {
		return func() *ingestv1.SubmitRequest { r := request(peek()); change(r); return r }
	}
	// What endorsers find is theirs to test; here they say it.
	byEndorsers := func(why reason.Reason, r func() *ingestv1.SubmitRequest) func() *ingestv1.SubmitRequest {
		return func() *ingestv1.SubmitRequest {
			for _, e := range b.endorsers {
				e.set(func(e *endorser) {
					e.refuses = func(*sample.Sample) *computev1.SampleOutcome {
						return &computev1.SampleOutcome{Reason: string(why), Detail: "both sides"}
					}
				})
			}
			return r()
		}
	}
	for _, c := range []struct {
		name      string
		bad       func() *ingestv1.SubmitRequest
		want      reason.Reason
		permanent bool
	}{
		{"no bytes", altered(func(r *ingestv1.SubmitRequest) { r.Header = nil }), reason.Malformed, true},
		{"rubbish", altered(func(r *ingestv1.SubmitRequest) { r.Header = []byte{0xff} }), reason.NotCanonical, true},
		{"malformed", altered(func(r *ingestv1.SubmitRequest) { r.Header = record32() }), reason.Malformed, true},
		{"not canonical", altered(func(r *ingestv1.SubmitRequest) { r.Header = append(bytes.Clone(r.Header), 0xf8, 0x07, 0x00) }), reason.NotCanonical, true},
		{"oversized header", altered(func(r *ingestv1.SubmitRequest) { r.Header = make([]byte, sample.MaxHeaderBytes+1) }), reason.TooLarge, true},
		{"oversized vector", altered(func(r *ingestv1.SubmitRequest) { r.RawVector = make([]byte, record.MaxRawVectorBytes+1) }), reason.TooLarge, true},
		{"unsigned", altered(func(r *ingestv1.SubmitRequest) { r.Signature = nil }), reason.Unsigned, true},
		{"wrongly signed, says the ledger", altered(func(r *ingestv1.SubmitRequest) { r.Signature[5] ^= 1 }), reason.BadSignature, true},
		{"wrongly signed, say the endorsers", byEndorsers(reason.BadSignature, altered(func(r *ingestv1.SubmitRequest) { r.Signature[5] ^= 1 })), reason.BadSignature, true},
		{"another network's", changed(func(h *sample.Header) { h.NetworkID[0] ^= 1 }), reason.WrongNetwork, true},
		{"unknown meter", changed(func(h *sample.Header) { h.MeterID = "meter-99" }), reason.UnknownMeter, false},
		{"out of verification", func() *ingestv1.SubmitRequest {
			b.do(func(n *statetest.Network) { n.NowUnix += 366 * 86_400 }) // back in Cleanup
			return request(peek())
		}, reason.OutOfVerification, true},
		{"wrong algorithm", byEndorsers(reason.WrongAlgorithm, changed()), reason.WrongAlgorithm, false},
		{"wrong channel count, say the endorsers", byEndorsers(reason.WrongChannelCount, changed()), reason.WrongChannelCount, true},
		{"wrong channel count, says the ledger", changed(func(h *sample.Header) { h.Channels = 3 }), reason.WrongChannelCount, true},
		{"wrong sample rate", changed(func(h *sample.Header) { h.SampleRateMillihertz++ }), reason.WrongSampleRate, true},
		{"digest mismatch", altered(func(r *ingestv1.SubmitRequest) { r.RawVector[3] ^= 1 }), reason.DigestMismatch, true},
		{"future-dated", changed(func(h *sample.Header) { h.CapturedAtUnixNano += 3600 * statetest.Second }), reason.FutureDated, false},
		{"back-dated", changed(func(h *sample.Header) { h.CapturedAtUnixNano = (statetest.GenesisUnix - 60) * statetest.Second }), reason.BackDated, true},
		{"names a block that is not", changed(func(h *sample.Header) { h.KnownHeight += 1000 }), reason.UnknownBlock, true},
		{"equivocating", func() *ingestv1.SubmitRequest {
			return request(peek(func(h *sample.Header) { h.Counter, h.Previous, h.StatusFlags = known.Sample.Counter, digest.Zero, 1 }))
		}, reason.Equivocation, true},
		{"a broken chain", changed(func(h *sample.Header) { h.Previous[0] ^= 1 }), reason.Equivocation, true},
		{"its first counter again", changed(func(h *sample.Header) { h.Previous = digest.Zero }), reason.Malformed, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() {
				b.do(func(n *statetest.Network) { n.NowUnix = statetest.GenesisUnix })
				for _, e := range b.endorsers {
					e.set(func(e *endorser) { e.refuses = nil })
				}
			})
			before := len(b.ledger.Leaves())
			r := c.bad()
			response, err := b.client.Submit(b.ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			got := response.GetRefusal()
			if reason.Reason(got.GetReason()) != c.want || got.GetPermanent() != c.permanent || got.GetDetail() == "" {
				t.Errorf("got %v, want %s, permanent %v", response, c.want, c.permanent)
			}
			if !c.permanent && got.GetRetryAfterMillis() == 0 {
				t.Error("no delay is named")
			}
			if len(response.GetSample()) != digest.Size {
				t.Errorf("the answer is about sample %x", response.GetSample())
			}
			if after := len(b.ledger.Leaves()); after != before {
				t.Errorf("%d leaves were stored", after-before)
			}
		})
	}
	// Replayed is not refused: it gets the receipt that it had.
	if r := b.submit(request(known)); !bytes.HasPrefix(r.GetReceipt().GetReceipt(), []byte("receipt of leaf")) {
		t.Errorf("a replayed sample: %v", r)
	}
}

// record32 is canonical, but no header: a network id of 3 bytes alone.
func record32() []byte { return []byte{0x0a, 3, 1, 2, 3} }

// A message above the transport's limit ends the call, with a reason.
func TestOversizedMessage(t *testing.T) {
	b := newBench(t)
	r := request(b.capture())
	r.RawVector = make([]byte, 2<<20)
	if _, err := b.client.Submit(b.ctx, r); reason.Of(err) != reason.TooLarge {
		t.Errorf("got %v", err)
	}
}

func TestLateIsRecorded(t *testing.T) {
	b := newBench(t)
	late, after := b.capture(), b.capture()
	// The ledger was silent for two days, and the bound is one: the newest block
	// does not tell how late it is.
	b.do(func(n *statetest.Network) { n.NowUnix += 2 * 86_400 })
	b.accept(late)
	b.accept(after)
	measurements := b.ledger.Measurements()
	if len(measurements) != 2 {
		t.Fatalf("%d measurements", len(measurements))
	}
	for _, m := range measurements {
		if m.GetDisposition() != recordv1.Disposition_DISPOSITION_LATE {
			t.Errorf("recorded as %v", m.GetDisposition())
		}
	}
}

func TestStreamAnswersByDigest(t *testing.T) {
	b := newBench(t)
	stream, err := b.client.SubmitStream(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	for _, e := range b.endorsers {
		e.set(func(e *endorser) {
			e.before = func(ctx context.Context, _ *computev1.EndorseRequest) error {
				select {
				case <-held:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	want := map[string]bool{} // by digest: a receipt is due
	for range 40 {
		c := b.capture()
		want[string(c.Sample.Digest[:])] = true
		if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: request(c)}); err != nil {
			t.Fatal(err)
		}
	}
	var stranger *statetest.Capture
	b.do(func(*statetest.Network) {
		stranger = b.meter.Peek(func(h *sample.Header) { h.MeterID = "meter-99" })
	})
	rubbish := &ingestv1.SubmitRequest{Header: []byte("rubbish")}
	for _, r := range []*ingestv1.SubmitRequest{request(stranger), rubbish} {
		if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: r}); err != nil {
			t.Fatal(err)
		}
	}
	// The two refusals overtake the samples that wait for their endorsers.
	var refused []string
	for range 2 {
		r, err := stream.Recv()
		if err != nil || r.GetSubmit().GetRefusal() == nil {
			t.Fatalf("%v, %v", r, err)
		}
		refused = append(refused, string(r.GetSubmit().GetSample()))
	}
	if !slices.Contains(refused, string(stranger.Sample.Digest[:])) {
		t.Error("the stranger's answer does not bear its digest")
	}
	close(held)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		id := string(r.GetSubmit().GetSample())
		if !want[id] || r.GetSubmit().GetReceipt() == nil {
			t.Errorf("unexpected answer %v", r)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("%d samples have no answer", len(want))
	}
	if got := len(b.ledger.Measurements()); got != 40 {
		t.Errorf("%d measurements, want 40", got)
	}
}

func TestStreamRequestWithoutSample(t *testing.T) {
	b := newBench(t)
	stream, err := b.client.SubmitStream(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&ingestv1.SubmitStreamRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); reason.Of(err) != reason.Malformed {
		t.Errorf("got %v", err)
	}
}

// hang keeps an endorser from answering until its caller gives up.
func hang(ctx context.Context, _ *computev1.EndorseRequest) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestPendingIsSaidBeforeTheDeadline(t *testing.T) {
	b := newBench(t)
	asked := make(chan struct{})
	defer close(asked) // and the gateway can stop
	for _, e := range b.endorsers {
		e.set(func(e *endorser) {
			e.before = func(context.Context, *computev1.EndorseRequest) error { <-asked; return nil }
		})
	}
	c := b.capture()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	response, err := b.client.Submit(ctx, request(c))
	if err != nil || response.GetPending() == nil || !bytes.Equal(response.GetSample(), c.Sample.Digest[:]) {
		t.Errorf("%v, %v", response, err)
	}
}

// One endorser of three may do anything; two make the policy.
func TestOneBadEndorser(t *testing.T) {
	answer := func(err error) func(e *endorser) {
		return func(e *endorser) {
			e.before = func(context.Context, *computev1.EndorseRequest) error { return err }
		}
	}
	after := func(change func(r *computev1.EndorseResponse)) func(e *endorser) {
		return func(e *endorser) {
			e.after = func(r *computev1.EndorseResponse) error { change(r); return nil }
		}
	}
	for _, c := range []struct {
		name string
		bad  func(e *endorser)
	}{
		{"is gone", func(e *endorser) { go e.stop() }},
		{"hangs", func(e *endorser) { e.before = hang }},
		{"does not hold the module", answer(reason.New(reason.NotInstalled, "not here"))},
		{"is overloaded", answer(reason.New(reason.Overloaded, "later"))},
		{"calls the batch malformed", answer(reason.New(reason.Malformed, "nonsense"))},
		{"fails", answer(errors.New("no luck"))},
		{"gives too few outcomes", after(func(r *computev1.EndorseResponse) { r.Outcomes = r.Outcomes[1:] })},
		{"gives no signature", after(func(r *computev1.EndorseResponse) { r.Signature = nil })},
		{"signs wrongly", after(func(r *computev1.EndorseResponse) { r.Signature[9] ^= 1 })},
		{"claims what is no claim", after(func(r *computev1.EndorseResponse) { r.Outcomes[0].Claim = []byte("fast") })},
		{"claims another sample", func(e *endorser) { e.claims = func(_ *sample.Sample, c *claim.Claim) { c.Sample[0] ^= 1 } }},
		{"claims another algorithm", func(e *endorser) { e.claims = func(_ *sample.Sample, c *claim.Claim) { c.Algorithm[0] ^= 1 } }},
		{"refuses every sample for good", func(e *endorser) {
			e.refuses = func(*sample.Sample) *computev1.SampleOutcome {
				return &computev1.SampleOutcome{Reason: string(reason.BadSignature), Detail: "I say so"}
			}
		}},
		{"lags behind", func(e *endorser) { e.claims = func(_ *sample.Sample, c *claim.Claim) { c.Registration[0] ^= 1 } }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.endorsers[1].set(c.bad)
			for range 3 { // each endorser has its turn to be asked first
				b.accept(b.capture())
			}
			if events := b.ledger.Events(t); len(events) != 0 {
				t.Errorf("recorded %v", events)
			}
			if got := len(b.ledger.Measurements()); got != 3 {
				t.Errorf("%d measurements", got)
			}
		})
	}
}

func sets(l *ledgertest.Ledger) (all []*recordv1.EndorsementSet) {
	for _, r := range l.Leaves() {
		if s := r.GetEndorsementSet(); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// An endorser that lies is left out, and what it said is recorded, once for each
// sample however often the meter sends it.
func TestDisagreementIsRecordedOnce(t *testing.T) {
	b := newBench(t)
	b.endorsers[1].set(func(e *endorser) {
		e.claims = func(_ *sample.Sample, c *claim.Claim) { c.Result = statetest.Result(0, 300_000, 4_200, 1) }
	})
	// Of three batches in a row the liar is asked in two.
	first := b.capture()
	for range 4 {
		b.accept(first)
	}
	for range 3 {
		b.accept(b.capture())
	}
	seen := map[uint64]bool{}
	for _, e := range b.ledger.AwaitEvents(b.ctx, t, 3) {
		if e.GetKind() != recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE || e.GetSubject() != "meter/meter-01" ||
			len(e.GetEvidence()) != 2 || !strings.Contains(e.GetDetail(), "of endorser-01") || seen[e.GetCounter()] {
			t.Errorf("recorded %v", e)
		}
		seen[e.GetCounter()] = true
	}
	if !seen[1] || len(seen) != 3 {
		t.Errorf("recorded are counters %v", seen)
	}
	for _, s := range sets(b.ledger) {
		for _, e := range s.GetEndorsements() {
			if e.GetNodeId() == "endorser-01" {
				t.Errorf("the liar endorses: %v", s)
			}
		}
	}
	if got := len(b.ledger.Measurements()); got != 4 {
		t.Errorf("%d measurements, want 4", got)
	}
}

// All endorsers disagree: nothing is recorded but the event, and the sample
// stays with its meter.
func TestNobodyAgrees(t *testing.T) {
	b := newBench(t)
	for i, e := range b.endorsers {
		e.set(func(e *endorser) {
			e.claims = func(_ *sample.Sample, c *claim.Claim) { c.Result = statetest.Result(0, int64(i), 4_200, 1) }
		})
	}
	r := b.submit(request(b.capture()))
	if got := r.GetRefusal(); got.GetPermanent() || reason.Reason(got.GetReason()) != reason.NotReady || got.GetRetryAfterMillis() == 0 {
		t.Errorf("got %v", r)
	}
	if events := b.ledger.AwaitEvents(b.ctx, t, 1); len(events) != 1 || len(events[0].GetEvidence()) != 3 {
		t.Errorf("recorded %v", events)
	}
	if n := len(b.ledger.Measurements()); n != 0 {
		t.Errorf("%d measurements", n)
	}
}

// Nobody can endorse: that is never the sample's fault.
func TestTooFewEndorsers(t *testing.T) {
	b := newBench(t)
	for _, e := range b.endorsers[1:] {
		e.set(func(e *endorser) {
			e.before = func(context.Context, *computev1.EndorseRequest) error {
				return reason.New(reason.NotInstalled, "not here")
			}
		})
	}
	r := b.submit(request(b.capture()))
	if got := r.GetRefusal(); got.GetPermanent() || reason.Reason(got.GetReason()) != reason.NotInstalled {
		t.Errorf("got %v", r)
	}
}

func TestWithdrawnAlgorithmIsRefusedForGood(t *testing.T) {
	b := newBench(t)
	c := b.capture()
	b.do(func(n *statetest.Network) {
		n.Accept(n.Sign(&recordv1.AlgorithmStatus{Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(),
			Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW}, statetest.Body()))
	})
	r := b.submit(request(c))
	if got := r.GetRefusal(); !got.GetPermanent() || reason.Reason(got.GetReason()) != reason.AlgorithmNotInForce {
		t.Errorf("got %v", r)
	}
}

// What goes wrong between gateway and ledger for a moment is not the meter's
// business.
func TestLedgerInTrouble(t *testing.T) {
	twice := func(err error) func() error {
		calls := new(atomic.Int32)
		return func() error {
			if calls.Add(1) <= 2 {
				return err
			}
			return nil
		}
	}
	lost, missing, wrong := twice(reason.New(reason.NotCertified, "lost")), twice(io.EOF), twice(io.EOF)
	for _, c := range []struct {
		name    string
		submit  func() error
		outcome func(r *ledgerv1.SubmitResponse) error
	}{
		{"no leader", twice(reason.New(reason.NotLeader, "election")), nil},
		{"not certified in time", twice(reason.New(reason.NotCertified, "slow")), nil},
		{"a submission refused as a whole", twice(reason.New(reason.Malformed, "nonsense")), nil},
		{"a reply is lost, the block is there", nil, func(*ledgerv1.SubmitResponse) error { return lost() }},
		{"a receipt is missing", nil, func(r *ledgerv1.SubmitResponse) error {
			if missing() != nil {
				r.Outcomes[1].Receipt = nil
			}
			return nil
		}},
		{"the set is refused with a permanent reason", nil, func(r *ledgerv1.SubmitResponse) error {
			if wrong() != nil {
				for _, o := range r.Outcomes {
					o.Accepted, o.Receipt, o.Reason = false, nil, string(reason.BadSignature)
				}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(r *ledgertest.Replica) {
				if c.submit != nil {
					r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error { return c.submit() }
				}
				r.OnAnswer = c.outcome
			})
			b.accept(b.capture())
			if got := len(b.ledger.Measurements()); got != 1 {
				t.Errorf("%d measurements", got)
			}
		})
	}
}

func TestLedgerThatRefusesEverything(t *testing.T) {
	b := newBench(t, func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error { return reason.New(reason.TooLarge, "always") }
	})
	r := b.submit(request(b.capture()))
	if got := r.GetRefusal(); got.GetPermanent() || reason.Reason(got.GetReason()) != reason.NotReady {
		t.Errorf("a replica that refuses everything as a whole: %v", r)
	}
}

// A stopping gateway answers what it took, and says that it stops.
func TestStopAnswersWhatWasTaken(t *testing.T) {
	b := newBench(t)
	asked, release := make(chan struct{}, 8), make(chan struct{})
	for _, e := range b.endorsers {
		e.set(func(e *endorser) {
			e.before = func(ctx context.Context, _ *computev1.EndorseRequest) error {
				asked <- struct{}{}
				select {
				case <-release:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	stream, err := b.client.SubmitStream(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := b.capture()
	if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: request(c)}); err != nil {
		t.Fatal(err)
	}
	<-asked // it is on its way
	stopped := make(chan struct{})
	go func() { defer close(stopped); b.stop() }()
	// As soon as it stops, new samples are refused with a reason. A poll that
	// comes before waits for the held sample's answer, so it has a deadline of
	// its own, below the time that the gateway takes to stop.
	for stopping := false; !stopping; {
		poll, cancel := context.WithTimeout(b.ctx, time.Second)
		r, err := b.client.Submit(poll, request(c))
		stopping = err != nil && poll.Err() == nil || reason.Reason(r.GetRefusal().GetReason()) == reason.NotReady
		cancel()
		if r.GetReceipt() != nil {
			t.Fatal("nothing holds the sample")
		}
		if b.ctx.Err() != nil {
			t.Fatal("the gateway never said that it stops")
		}
	}
	close(release)
	r, err := stream.Recv()
	if err != nil || r.GetSubmit().GetReceipt() == nil {
		t.Errorf("the sample that was taken: %v, %v", r, err)
	}
	if _, err := stream.Recv(); reason.Of(err) != reason.NotReady {
		t.Errorf("the stream ended with %v", err)
	}
	<-stopped
}

// What cannot be settled in time is answered all the same.
func TestStopDoesNotWaitForEver(t *testing.T) {
	b := newBench(t)
	asked := make(chan struct{}, 8)
	for _, e := range b.endorsers {
		e.set(func(e *endorser) {
			e.before = func(ctx context.Context, r *computev1.EndorseRequest) error { asked <- struct{}{}; return hang(ctx, r) }
		})
	}
	stream, err := b.client.SubmitStream(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: request(b.capture())}); err != nil {
		t.Fatal(err)
	}
	<-asked
	b.stop()
	r, err := stream.Recv()
	if got := r.GetSubmit().GetRefusal(); err != nil || reason.Reason(got.GetReason()) != reason.NotReady || got.GetPermanent() {
		t.Errorf("the sample that was taken: %v, %v", r, err)
	}
}

func TestN1_OnlyMetersAndNodesSend(t *testing.T) {
	b := newBench(t)
	public := ingestv1.NewIngestServiceClient(b.dial(""))
	if _, err := public.Submit(b.ctx, request(b.capture())); reason.Of(err) != reason.PermissionDenied {
		t.Errorf("the public: %v", err)
	}
	stranger := ingestv1.NewIngestServiceClient(b.dial("nobody"))
	if _, err := stranger.Submit(b.ctx, request(b.capture())); reason.Of(err) != reason.PermissionDenied {
		t.Errorf("a key that is not registered: %v", err)
	}
	if _, err := public.GetHead(b.ctx, &ingestv1.GetHeadRequest{}); err != nil {
		t.Errorf("the head is public: %v", err)
	}
}

func TestReflection(t *testing.T) {
	b := newBench(t)
	stream, err := reflectionv1.NewServerReflectionClient(b.dial("")).ServerReflectionInfo(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range response.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, "lacre.ingest.v1.IngestService") {
		t.Errorf("reflection lists %v", names)
	}
}

func TestDeadlineOfAStreamIsHonoured(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	stream, err := b.client.SubmitStream(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConfigReportsEveryMistake(t *testing.T) {
	c := ingest.Config{NodeID: "UPPER", Endorsers: []ingest.Endorser{{NodeID: "a", SPKI: "x"}, {NodeID: "a"}}}
	err := c.Validate()
	for _, want := range []string{"node_id", "tls_key", "signing_key", "endorsers[0].spki", "endorsers[1].node_id"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among: %v", want, err)
		}
	}
}
