package meter

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/vector"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// hasty is ordinary timing with short delays: what is retried is retried at once.
var hasty = timing{
	reconnect:     backoff{first: time.Millisecond, most: 5 * time.Millisecond},
	retry:         backoff{first: time.Millisecond, most: 5 * time.Millisecond},
	maxRetryAfter: time.Millisecond,
	answer:        time.Minute, // tests of silence shorten it
	progress:      time.Minute,
	watch:         5 * time.Millisecond,
	head:          time.Millisecond,
	keepHeads:     0,
}

// captureTime is after every block of a fresh notary.
var captureTime = time.Unix(1_700_000_100, 0)

func capture(i int) Capture {
	channels := [][]int16{make([]int16, 50), make([]int16, 50)}
	for c := range channels {
		for j := range channels[c] {
			channels[c][j] = int16(i + j*(c+1))
		}
	}
	return Capture{Channels: channels, CapturedAt: captureTime.Add(time.Duration(i) * time.Second), ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED}
}

// alarms collects what a meter raises.
type alarms struct {
	mu   sync.Mutex
	list []Alarm
	more chan struct{} // capacity 1
}

func newAlarms() *alarms { return &alarms{more: make(chan struct{}, 1)} }

func (a *alarms) take(alarm Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, alarm)
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *alarms) of(kind AlarmKind) []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.list), func(x Alarm) bool { return x.Kind != kind })
}

// await waits for n alarms of a kind.
func (a *alarms) await(t *testing.T, kind AlarmKind, n int) []Alarm {
	t.Helper()
	for {
		if got := a.of(kind); len(got) >= n {
			return got
		}
		select {
		case <-a.more:
		case <-t.Context().Done():
			t.Fatalf("no %d alarms of %s", n, kind)
		}
	}
}

// configOf is a configuration for the gateways, in a new directory.
func configOf(t testing.TB, n *notary, gateways ...*gateway) Config {
	roots := x509.NewCertPool()
	c := Config{
		NetworkID: n.genesis, MeterID: "meter-1", Channels: 2, SampleRateMillihertz: 1_000_000,
		Signer: newEd25519(t), Trust: n.bundle, Dir: t.TempDir(), TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
	}
	for _, g := range gateways {
		c.Endpoints = append(c.Endpoints, g.address)
		if certificate, err := x509.ParseCertificate(g.certificate); err == nil {
			roots.AddCert(certificate)
		}
	}
	return c
}

func openMeter(t testing.TB, c Config, timings ...timing) *Meter {
	t.Helper()
	timings = append(timings, hasty)
	m, err := open(t.Context(), c, timings[0])
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

func recordAll(t testing.TB, m *Meter, n int) []Ticket {
	t.Helper()
	first := int(m.Stats().NextCounter)
	var tickets []Ticket
	for i := range n {
		ticket, err := m.Record(t.Context(), capture(first+i))
		must(t, err)
		tickets = append(tickets, ticket)
	}
	return tickets
}

// stored collects the receipts of a meter, and checks each by itself.
func stored(t *testing.T, m *Meter, n *notary) (counters []uint64, samples []*sample.Sample, signatures [][]byte) {
	t.Helper()
	for r, err := range m.Receipts() {
		must(t, err)
		proof, err := tlog.ParseProof(r.Text)
		must(t, err)
		leaf, err := proof.VerifyRecord(signature.Direct{}, n.bundle)
		must(t, err)
		parsed, err := record.Parse(leaf)
		must(t, err)
		s, err := sample.Parse(parsed.GetMeasurement().GetHeader())
		must(t, err)
		if s.Counter != r.Counter || s.Digest != r.Sample {
			t.Errorf("receipt %d, %s certifies %d, %s", r.Counter, r.Sample.Short(), s.Counter, s.Digest.Short())
		}
		if text, err := os.ReadFile(r.Path); err != nil || !bytes.Equal(text, r.Text) {
			t.Errorf("%s: %v", r.Path, err)
		}
		counters, samples, signatures = append(counters, r.Counter), append(samples, s), append(signatures, parsed.GetMeasurement().GetSignature())
	}
	return counters, samples, signatures
}

func oneTo(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

func TestSamplesBecomeReceipts(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	for name, signer := range map[string]crypto.Signer{"ed25519": newEd25519(t), "p256": p256} {
		t.Run(name, func(t *testing.T) {
			n := newNotary(t)
			g := startGateway(t, n)
			vectors := map[uint64][]byte{}
			g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				s, err := sample.Parse(r.GetHeader())
				if err != nil {
					return nil, err
				}
				vectors[s.Counter] = r.GetRawVector()
				a, err := honest(n, r)
				return []*ingestv1.SubmitResponse{a}, err
			}
			c := configOf(t, n, g)
			c.Signer = signer
			called := make(chan Receipt, 20)
			c.OnReceipt = func(r Receipt) { called <- r }
			m := openMeter(t, c)
			tickets := recordAll(t, m, 20)
			must(t, m.Flush(t.Context()))
			counters, samples, signatures := stored(t, m, n)
			if !slices.Equal(counters, oneTo(20)) {
				t.Fatalf("receipts of %v, want 1 to 20", counters)
			}
			kind, err := sample.KindOf(signer.Public())
			must(t, err)
			key, err := signature.KeyOf(kind, signer.Public())
			must(t, err)
			checkChain(t, key, samples, signatures)
			for i, s := range samples {
				want := capture(i + 1)
				if s.MeterID != "meter-1" || s.NetworkID != n.genesis || s.CapturedAtUnixNano != want.CapturedAt.UnixNano() ||
					s.KnownBlock != blockOf(s.KnownHeight) || s.Encoding != recordv1.Encoding_ENCODING_RICE {
					t.Errorf("header %+v", s.Header)
				}
				got, err := vector.Decode(s.Encoding, s.Channels, s.SamplesPerChannel, vectors[s.Counter])
				if err != nil || !reflect.DeepEqual(got, want.Channels) || sample.DigestRaw(vectors[s.Counter]) != s.RawDigest {
					t.Errorf("raw vector %d: %v", s.Counter, err)
				}
			}
			for _, ticket := range tickets {
				if r, err := m.Wait(t.Context(), ticket); err != nil || r.Counter != ticket.Counter {
					t.Errorf("wait %d: %v", ticket.Counter, err)
				}
				<-called
			}
			if s := m.Stats(); s.Pending != 0 || s.PendingBytes != 0 || s.Receipts != 20 || s.Certified != 20 || s.Recorded != 20 || s.NextCounter != 21 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestAnswersMayComeInAnyOrder(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	var held []*ingestv1.SubmitResponse
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		a, err := honest(n, r)
		stranger := &ingestv1.SubmitResponse{Sample: make([]byte, digest.Size)}
		if held = append(held, a); len(held) < 5 || err != nil {
			return []*ingestv1.SubmitResponse{stranger}, err // an answer to what was never asked says nothing
		}
		slices.Reverse(held)
		now := append(slices.Clone(held), held[0]) // and one of them twice
		held = nil
		return now, nil
	}
	m := openMeter(t, configOf(t, n, g))
	recordAll(t, m, 20)
	must(t, m.Flush(t.Context()))
	if counters, _, _ := stored(t, m, n); !slices.Equal(counters, oneTo(20)) {
		t.Errorf("receipts of %v, want 1 to 20", counters)
	}
}

func TestDroppedStreamsLoseNothing(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	calls := 0
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		a, err := honest(n, r)
		switch calls++; {
		case err != nil:
			return nil, err
		case calls%3 == 0: // recorded, but the reply is lost
			return nil, status.Error(codes.Unavailable, "gone")
		case calls%7 == 0: // the reply comes, and then the end
			return []*ingestv1.SubmitResponse{a}, status.Error(codes.ResourceExhausted, "later")
		}
		return []*ingestv1.SubmitResponse{a}, nil
	}
	m := openMeter(t, configOf(t, n, g))
	recordAll(t, m, 25)
	must(t, m.Flush(t.Context()))
	if counters, _, _ := stored(t, m, n); !slices.Equal(counters, oneTo(25)) {
		t.Errorf("receipts of %v, want 1 to 25", counters)
	}
	if s := m.Stats(); s.Sessions < 2 || s.LastError == "" {
		t.Errorf("%d sessions, last error %q; the gateway dropped several", s.Sessions, s.LastError)
	}
}

// forgeries are receipts that a lying gateway may make up.
func forgeries(t *testing.T, n *notary) map[string]func(r *ingestv1.SubmitRequest) []byte {
	t.Helper()
	stranger := newNotary(t) // the same network id and origin, other keys
	n.mu.Lock()
	defer n.mu.Unlock()
	other, err := n.prove(n.append([]byte("a leaf that is no record")))
	must(t, err)
	event, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_SecurityEvent{SecurityEvent: &recordv1.SecurityEvent{Report: []byte("r"), Signature: []byte("s")}}})
	must(t, err)
	event, err = n.prove(n.append(event))
	must(t, err)
	must(t, n.seal())
	foreign := sampleRequest(t, n, 77)
	genuine := func(r *ingestv1.SubmitRequest) []byte {
		text, err := n.receipt(r)
		if err != nil {
			t.Error(err)
		}
		return slices.Clone(text)
	}
	return map[string]func(r *ingestv1.SubmitRequest) []byte{
		"nothing":            func(*ingestv1.SubmitRequest) []byte { return nil },
		"another leaf":       func(*ingestv1.SubmitRequest) []byte { return other },
		"another record":     func(*ingestv1.SubmitRequest) []byte { return event },
		"another sample's":   func(*ingestv1.SubmitRequest) []byte { return genuine(foreign) },
		"another ledger's":   func(r *ingestv1.SubmitRequest) []byte { b, _ := stranger.receipt(r); return b },
		"a flipped bit":      func(r *ingestv1.SubmitRequest) []byte { b := genuine(r); b[len(b)-20] ^= 1; return b },
		"a cosignature less": func(r *ingestv1.SubmitRequest) []byte { return withoutLastLine(genuine(r)) },
		"extra replaced": func(r *ingestv1.SubmitRequest) []byte {
			p, err := tlog.ParseProof(genuine(foreign))
			if err != nil {
				t.Error(err)
				return nil
			}
			mine, err := tlog.ParseProof(genuine(r))
			if err != nil {
				t.Error(err)
				return nil
			}
			p.Extra = mine.Extra
			return p.Text()
		},
	}
}

func withoutLastLine(b []byte) []byte {
	text := strings.TrimSuffix(string(b), "\n")
	return []byte(text[:strings.LastIndexByte(text, '\n')+1])
}

// sampleRequest is another meter's sample.
func sampleRequest(t *testing.T, n *notary, counter uint64) *ingestv1.SubmitRequest {
	t.Helper()
	s, sig, err := sample.Sign(newEd25519(t), &sample.Header{
		NetworkID: n.genesis, MeterID: "meter-2", Counter: counter, Previous: digest.Of(digest.Sample), CapturedAtUnixNano: 1,
		ClockSync: recordv1.ClockSync_CLOCK_SYNC_HOLDOVER, Channels: 2, SamplesPerChannel: 1, SampleRateMillihertz: 1,
		Encoding: recordv1.Encoding_ENCODING_INT16,
	})
	must(t, err)
	return &ingestv1.SubmitRequest{Header: s.Bytes, Signature: sig}
}

func TestForgedReceiptLeavesTheSampleInTheOutbox(t *testing.T) {
	for name := range forgeries(t, newNotary(t)) {
		t.Run(name, func(t *testing.T) {
			n := newNotary(t)
			forge := forgeries(t, n)[name]
			liar := startGateway(t, n)
			lying := true
			liar.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				if !lying {
					a, err := honest(n, r)
					return []*ingestv1.SubmitResponse{a}, err
				}
				return []*ingestv1.SubmitResponse{receiptAnswer(r, forge(r))}, nil
			}
			c := configOf(t, n, liar)
			raised := newAlarms()
			c.OnAlarm = raised.take
			m := openMeter(t, c)
			ticket := recordAll(t, m, 1)[0]
			raised.await(t, AlarmBadReceipt, 3) // it keeps lying, the sample stays
			if s := m.Stats(); s.Pending != 1 || s.Receipts != 0 || s.BadReceipts < 3 {
				t.Fatalf("stats %+v", s)
			}
			liar.mu.Lock()
			lying = false
			liar.mu.Unlock()
			if _, err := m.Wait(t.Context(), ticket); err != nil {
				t.Errorf("honest at last: %v", err)
			}
		})
	}
}

func TestOtherGatewaysAreTried(t *testing.T) {
	for name, bad := range map[string]func(t *testing.T, g *gateway){
		"it forges": func(_ *testing.T, g *gateway) {
			g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				return []*ingestv1.SubmitResponse{receiptAnswer(r, []byte("forged"))}, nil
			}
		},
		"it is silent": func(_ *testing.T, g *gateway) {
			g.answer = func(*ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) { return nil, nil }
		},
		"it says pending for ever": func(_ *testing.T, g *gateway) {
			g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				return []*ingestv1.SubmitResponse{pendingAnswer(r)}, nil
			}
		},
		"its answers are empty": func(_ *testing.T, g *gateway) {
			g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				return []*ingestv1.SubmitResponse{{Sample: digestOf(r)}}, nil
			}
		},
		"its answers name nothing": func(_ *testing.T, g *gateway) {
			g.answer = func(*ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
				return []*ingestv1.SubmitResponse{{}}, nil
			}
		},
		"its certificate is not trusted": func(_ *testing.T, g *gateway) { g.certificate = nil },
		"nobody listens":                 func(t *testing.T, g *gateway) { g.address = deadAddress },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNotary(t)
			first, second := startGateway(t, n), startGateway(t, n)
			bad(t, first)
			c := configOf(t, n, first, second)
			impatient := hasty
			impatient.answer, impatient.progress = 100*time.Millisecond, 100*time.Millisecond
			m := openMeter(t, c, impatient)
			recordAll(t, m, 3)
			must(t, m.Flush(t.Context()))
			if counters, _, _ := stored(t, m, n); !slices.Equal(counters, oneTo(3)) {
				t.Errorf("receipts of %v, want 1 to 3", counters)
			}
		})
	}
}

func TestN2_PermanentRefusalIsKeptAndBlocksNothing(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	refusing := true
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		if s, _ := sample.Parse(r.GetHeader()); refusing && s.Counter%2 == 0 {
			return []*ingestv1.SubmitResponse{refusalAnswer(r, &ingestv1.Refusal{Reason: "BACK_DATED", Detail: "1 < 2", Permanent: true})}, nil
		}
		a, err := honest(n, r)
		return []*ingestv1.SubmitResponse{a}, err
	}
	c := configOf(t, n, g)
	raised := newAlarms()
	c.OnAlarm = raised.take
	m := openMeter(t, c)
	tickets := recordAll(t, m, 4)
	must(t, m.Flush(t.Context()))
	if counters, _, _ := stored(t, m, n); !slices.Equal(counters, []uint64{1, 3}) {
		t.Errorf("receipts of %v, want 1 and 3", counters)
	}
	var listed []uint64
	for r, err := range m.Refused() {
		must(t, err)
		listed = append(listed, r.Counter)
		if r.Reason != reason.BackDated || r.Detail != "1 < 2" || r.Endpoint != g.address || r.Sample != tickets[r.Counter-1].Sample.String() {
			t.Errorf("refused %+v", r)
		}
		if _, err := os.Stat(r.Path); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(listed, []uint64{2, 4}) {
		t.Errorf("refused %v, want 2 and 4", listed)
	}
	_, err := m.Wait(t.Context(), tickets[3])
	var refused *RefusedError
	if !errors.As(err, &refused) || !errors.Is(err, reason.New(reason.BackDated, "")) {
		t.Errorf("wait for a refused sample: %v", err)
	}
	if got := raised.of(AlarmRefused); len(got) != 2 {
		t.Errorf("%d alarms, want 2", len(got))
	}
	must(t, m.Close())
	m = openMeter(t, c) // the newest sample is among the refused, and the chain goes on
	if s := m.Stats(); s.NextCounter != 5 || s.RefusedStored != 2 || s.Pending != 0 {
		t.Errorf("after a restart: %+v", s)
	}
	g.mu.Lock()
	refusing = false
	g.mu.Unlock()
	must(t, m.RetryRefused(2))
	must(t, m.RetryRefused(4))
	recordAll(t, m, 1)
	must(t, m.Flush(t.Context()))
	counters, samples, signatures := stored(t, m, n)
	if !slices.Equal(counters, oneTo(5)) {
		t.Errorf("receipts of %v after the retry, want 1 to 5", counters)
	}
	key, err := signature.KeyOf(signature.Ed25519ZIP215, c.Signer.Public())
	must(t, err)
	checkChain(t, key, samples, signatures)
}

func TestPendingAndTransientRefusalsAreAskedAgain(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		s, err := sample.Parse(r.GetHeader())
		if err != nil {
			return nil, err
		}
		switch g.seen[s.Counter] {
		case 1:
			return []*ingestv1.SubmitResponse{pendingAnswer(r)}, nil
		case 2:
			return []*ingestv1.SubmitResponse{refusalAnswer(r, &ingestv1.Refusal{Reason: "OVERLOADED", RetryAfterMillis: 1})}, nil
		case 3:
			return []*ingestv1.SubmitResponse{refusalAnswer(r, &ingestv1.Refusal{Reason: "NOT_CERTIFIED"})}, nil
		case 4: // a delay that would silence the meter for seven weeks is cut short
			return []*ingestv1.SubmitResponse{refusalAnswer(r, &ingestv1.Refusal{Reason: "OVERLOADED", RetryAfterMillis: 1<<32 - 1})}, nil
		}
		a, err := honest(n, r)
		return []*ingestv1.SubmitResponse{a}, err
	}
	m := openMeter(t, configOf(t, n, g))
	recordAll(t, m, 5)
	must(t, m.Flush(t.Context()))
	for _, counter := range oneTo(5) {
		if got := g.requests(counter); got != 5 {
			t.Errorf("counter %d was sent %d times, want 5", counter, got)
		}
	}
	if s := m.Stats(); s.Sessions != 1 || s.RefusedStored != 0 {
		t.Errorf("stats %+v: such answers end no session and refuse nothing", s)
	}
}

func TestL8_FullOutboxRefusesAndAlarms(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	open := make(chan struct{})
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		select {
		case <-open:
		default:
			return []*ingestv1.SubmitResponse{pendingAnswer(r)}, nil
		}
		a, err := honest(n, r)
		return []*ingestv1.SubmitResponse{a}, err
	}
	c := configOf(t, n, g)
	raised := newAlarms()
	c.OnAlarm, c.MaxBytes = raised.take, 2000
	m := openMeter(t, c)
	var full error
	recorded := 0
	for full == nil {
		if _, full = m.Record(t.Context(), capture(1)); full == nil {
			recorded++
		}
	}
	s := m.Stats()
	if !errors.Is(full, ErrOutboxFull) || s.Pending != recorded || s.PendingBytes > 2000 || s.OutboxFull != 1 || recorded == 0 {
		t.Errorf("%v after %d samples, stats %+v", full, recorded, s)
	}
	if got := raised.of(AlarmOutboxFull); len(got) != 1 || !errors.Is(got[0].Err, ErrOutboxFull) {
		t.Errorf("alarms %+v, want one", got)
	}
	close(open)
	must(t, m.Flush(t.Context()))
	recordAll(t, m, 1)
	must(t, m.Flush(t.Context()))
	if counters, _, _ := stored(t, m, n); !slices.Equal(counters, oneTo(recorded+1)) {
		t.Errorf("receipts of %v, want 1 to %d: no counter was lost", counters, recorded+1)
	}
}

func TestDamagedSampleIsSetAsideWithAnAlarm(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	c := configOf(t, n, g)
	closed := startGateway(t, n)
	closed.answer = func(*ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) { return nil, nil }
	away := c
	away.Endpoints, away.TLS = []string{closed.address}, configOf(t, n, closed).TLS
	m := openMeter(t, away)
	tickets := recordAll(t, m, 3)
	must(t, m.Close())
	path := fmt.Sprintf("%s/queue/%020d.sample", c.Dir, 2)
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	raised := newAlarms()
	c.OnAlarm, c.Signer = raised.take, away.Signer
	m = openMeter(t, c)
	must(t, m.Flush(t.Context()))
	if got := raised.of(AlarmDamaged); len(got) != 1 || got[0].Counter != 2 || !errors.Is(got[0].Err, ErrDamaged) {
		t.Errorf("alarms %+v, want one of counter 2", got)
	}
	if counters, _, _ := stored(t, m, n); !slices.Equal(counters, []uint64{1, 3}) {
		t.Errorf("receipts of %v, want 1 and 3", counters)
	}
	if _, err := m.Wait(t.Context(), tickets[1]); !errors.Is(err, ErrUnknownTicket) {
		t.Errorf("wait for the damaged one: %v", err)
	}
}

// A head is believed for its proof; no sample names any other.
func TestHeadIsBelievedOnlyWithItsProof(t *testing.T) {
	n := newNotary(t)
	change := func(change func(p *tlog.Proof)) []byte {
		text, err := n.prove(n.log.Size() - 1)
		must(t, err)
		p, err := tlog.ParseProof(text)
		must(t, err)
		change(p)
		return p.Text()
	}
	under := func(leaf []byte) []byte { // a certified tree that no ledger has: its last leaf is no header
		text, err := n.prove(n.append(leaf))
		must(t, err)
		return text
	}
	statement, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Statement{Statement: &recordv1.Envelope{}}})
	must(t, err)
	another, err := headerOf(1000)
	must(t, err)
	must(t, n.seal())
	bare, err := n.certificate()
	must(t, err)
	older, err := n.prove(0) // genuine, and not the last
	must(t, err)
	foreign, err := newNotary(t).head() // the same network id and origin, other keys
	must(t, err)
	lies := []struct {
		name string
		text []byte
	}{
		{"nothing", nil},
		{"a certificate without a proof", bare.Text()},
		{"an altered certificate", change(func(p *tlog.Proof) { p.Certificate.Cosignatures[1].Bytes[7] ^= 1 })},
		{"an incomplete certificate", withoutLastLine(change(func(*tlog.Proof) {}))},
		{"a record that is not the last leaf", older},
		{"its index altered", change(func(p *tlog.Proof) { p.Index-- })},
		{"a header of another height", change(func(p *tlog.Proof) { p.Extra = another })},
		{"no header", change(func(p *tlog.Proof) { p.Extra = nil })},
		{"another ledger's", foreign.GetProof()},
		{"a statement", under(statement)},
		{"no record", under([]byte("header, trust me"))},
	}
	must(t, n.seal())
	v := newVerifier(n.bundle)
	for _, lie := range lies {
		if b, err := v.head(lie.text); err == nil || b != (KnownBlock{}) {
			t.Errorf("%s: %+v was taken", lie.name, b)
		}
	}

	g := startGateway(t, n)
	var mu sync.Mutex
	calls := 0
	g.head = func() (*ingestv1.GetHeadResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		switch calls++; {
		case calls <= len(lies):
			return &ingestv1.GetHeadResponse{Proof: lies[calls-1].text}, nil
		case calls == len(lies)+1:
			return nil, status.Error(codes.Unavailable, "no ledger")
		}
		return n.head()
	}
	c := configOf(t, n, g)
	raised := newAlarms()
	c.OnAlarm = raised.take
	m := openMeter(t, c)
	recordAll(t, m, 1) // waits for a head to be believed
	must(t, m.Flush(t.Context()))
	if got := raised.of(AlarmBadHead); len(got) != len(lies) {
		t.Errorf("%d alarms, want %d: %v", len(got), len(lies), got)
	}
	_, samples, _ := stored(t, m, n)
	if s := samples[0]; s.KnownHeight != 2 || s.KnownBlock != blockOf(2) {
		t.Errorf("the sample names block %d, %s; want 2, %s", s.KnownHeight, s.KnownBlock.Short(), blockOf(2).Short())
	}
}

func TestHeadSaysWhatItsProofSays(t *testing.T) {
	n := newNotary(t)
	must(t, n.seal())
	h, err := n.head()
	must(t, err)
	got, err := newVerifier(n.bundle).head(h.GetProof())
	if want := (KnownBlock{Height: 1, Header: blockOf(1), CertifiedAt: time.Unix(1_700_000_000, 0)}); err != nil || got != want {
		t.Errorf("%+v, want %+v: %v", got, want, err)
	}
}

func TestS2_SampleNamesTheNewestBlockNotYoungerThanItself(t *testing.T) {
	files, err := outbox.OpenDir(t.TempDir())
	must(t, err)
	defer files.Close()
	k, err := loadKnown(files)
	must(t, err)
	if _, ok := k.at(captureTime); ok {
		t.Fatal("a new meter knows a block")
	}
	block := func(height uint64) KnownBlock {
		return KnownBlock{Height: height, Header: blockOf(height), CertifiedAt: time.Unix(int64(100*height), 0).UTC()}
	}
	for height := uint64(1); height <= 100; height++ {
		added, err := k.add(block(height))
		if err != nil || !added {
			t.Fatalf("block %d: %v, %v", height, added, err)
		}
	}
	if len(k.blocks) != maxKnown {
		t.Errorf("%d blocks kept, want %d", len(k.blocks), maxKnown)
	}
	if added, err := k.add(block(99)); added || err != nil {
		t.Errorf("an older block: %v, %v", added, err)
	}
	if _, err := k.add(KnownBlock{Height: 100, Header: blockOf(1)}); err == nil {
		t.Error("another header of a known height was taken")
	}
	must(t, k.keep(0))
	reloaded, err := loadKnown(files)
	must(t, err)
	for _, k := range []*known{k, reloaded} {
		for second, want := range map[int64]uint64{10_050: 100, 10_000: 100, 9_999: 99, 5_000: 50, 150: 1, 50: 1} {
			if got, ok := k.at(time.Unix(second, 0)); !ok || got != block(want) {
				t.Errorf("captured at %d s: block %d, want %d", second, got.Height, want)
			}
		}
	}
	k.drop(100, blockOf(100))
	if got := k.newest(); got.Height != 99 {
		t.Errorf("newest is %d after 100 turned out unknown, want 99", got.Height)
	}
}

// A refusal for the block costs the sample (rule N2) and that block: the next
// sample names another.
func TestUnknownBlockIsDropped(t *testing.T) {
	n := newNotary(t)
	must(t, n.seal())
	must(t, n.seal())
	g := startGateway(t, n)
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		s, err := sample.Parse(r.GetHeader())
		if err == nil && s.KnownHeight != 1 {
			return []*ingestv1.SubmitResponse{refusalAnswer(r, &ingestv1.Refusal{Reason: string(reason.UnknownBlock), Permanent: true})}, nil
		}
		a, err := honest(n, r)
		return []*ingestv1.SubmitResponse{a}, err
	}
	c := configOf(t, n, g)
	c.KnownBlock = KnownBlock{Height: 1, Header: blockOf(1), CertifiedAt: time.Unix(1, 0)}
	once := hasty
	once.head = time.Hour
	m := openMeter(t, c, once)
	var refused error
	for refused == nil { // until a sample names the head
		_, refused = m.Wait(t.Context(), recordAll(t, m, 1)[0])
	}
	if reason.Of(refused) != reason.UnknownBlock {
		t.Fatalf("a sample that names the head: %v", refused)
	}
	if _, err := m.Wait(t.Context(), recordAll(t, m, 1)[0]); err != nil {
		t.Errorf("the next sample: %v", err)
	}
}

func TestRecordRefuses(t *testing.T) {
	n := newNotary(t)
	m := openMeter(t, configOf(t, n, startGateway(t, n)))
	recordAll(t, m, 2)
	for name, c := range map[string]struct {
		change func(c *Capture)
		want   reason.Reason
	}{
		"a channel less":   {func(c *Capture) { c.Channels = c.Channels[:1] }, reason.WrongChannelCount},
		"ragged":           {func(c *Capture) { c.Channels[1] = c.Channels[1][1:] }, reason.Malformed},
		"empty":            {func(c *Capture) { c.Channels = make([][]int16, 2) }, reason.Malformed},
		"unknown encoding": {func(c *Capture) { c.Encoding = 9 }, reason.Malformed},
		"too large": {func(c *Capture) {
			c.Encoding, c.Channels = 1, [][]int16{make([]int16, 131072), make([]int16, 131072)}
			c.Channels = append(c.Channels, c.Channels...)[:2]
		}, ""},
		"no clock state":      {func(c *Capture) { c.ClockSync = 0 }, reason.Malformed},
		"before the last one": {func(c *Capture) { c.CapturedAt = captureTime }, reason.TimeNotMonotonic},
		"too much evidence": {func(c *Capture) {
			c.Evidence = slices.Repeat([]sample.Evidence{{Digest: digest.Plain(nil), Size: 1, MediaType: "a/b"}}, sample.MaxEvidence+1)
		}, reason.Malformed},
		"a time that is not":    {func(c *Capture) { c.CapturedAt = time.Time{} }, reason.TimeNotMonotonic},
		"nothing wrong with it": {func(*Capture) {}, ""},
	} {
		next := m.Stats().NextCounter
		taken := capture(10)
		c.change(&taken)
		_, err := m.Record(t.Context(), taken)
		if reason.Of(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if used := m.Stats().NextCounter - next; err != nil && used != 0 {
			t.Errorf("%s: a refused capture used %d counters", name, used)
		}
	}
	must(t, m.Close())
	if _, err := m.Record(t.Context(), capture(20)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := m.RetryRefused(1); !errors.Is(err, ErrClosed) {
		t.Errorf("retry after Close: %v", err)
	}
}

func TestNewMeterWithoutGatewayWaitsForABlock(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	g.head = func() (*ingestv1.GetHeadResponse, error) { return nil, status.Error(codes.Unavailable, "") }
	m := openMeter(t, configOf(t, n, g))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Record(ctx, capture(1)); !errors.Is(err, ErrNoKnownBlock) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, ErrNoKnownBlock)
	}
}

func TestOpenNamesAllFaults(t *testing.T) {
	_, err := Open(t.Context(), Config{MaxBytes: -1, MeterID: "Bad Name"})
	if err == nil {
		t.Fatal("an empty configuration was taken")
	}
	for _, field := range []string{"NetworkID", "MeterID", "Channels", "SampleRate", "Endpoints", "TLS", "Dir", "MaxBytes", "Signer", "Trust"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	n, other := newNotary(t), digest.Plain([]byte("other"))
	c := configOf(t, n, startGateway(t, n))
	c.NetworkID = other
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "trust bundle") {
		t.Errorf("a trust bundle of another network: %v", err)
	}
	c.NetworkID = n.genesis
	openMeter(t, c)
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrLocked) {
		t.Errorf("the same directory twice: %v", err)
	}
}

func TestTrustIsUpdatedForTheSameLogOnly(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	c := configOf(t, n, g)
	old, err := trust.New(trust.Epoch{Policy: n.policy, LastSize: 1})
	must(t, err)
	c.Trust = old // it ends before the samples come
	c.KnownBlock = KnownBlock{Height: 1, Header: blockOf(1), CertifiedAt: time.Unix(1, 0)}
	raised := newAlarms()
	c.OnAlarm = raised.take
	m := openMeter(t, c)
	ticket := recordAll(t, m, 1)[0]
	raised.await(t, AlarmBadReceipt, 1)
	if err := m.UpdateTrust(otherBundle(t)); err == nil {
		t.Error("a bundle of another log was taken")
	}
	must(t, m.UpdateTrust(n.bundle))
	if _, err := m.Wait(t.Context(), ticket); err != nil {
		t.Error(err)
	}
}

// otherBundle is the bundle of another log.
func otherBundle(t *testing.T) *trust.Bundle {
	t.Helper()
	var bundle *trust.Bundle
	t.Run("another log", func(t *testing.T) { bundle = newNotary(t).bundle }) // origins come from test names
	return bundle
}

// TestKillAndRestart kills a recording process without warning, again and
// again, and looks at what the outbox says afterwards: every counter that the
// process reported is there, chained, and none is there twice.
func TestKillAndRestart(t *testing.T) {
	if dir := os.Getenv("METER_KILL_DIR"); dir != "" {
		recordUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	reported := uint64(0)
	for kill := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestKillAndRestart$", "-test.v")
		child.Env = append(os.Environ(), "METER_KILL_DIR="+dir)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 20+kill && lines.Scan(); {
			var counter uint64
			if _, err := fmt.Sscanf(lines.Text(), "recorded %d", &counter); err == nil {
				if counter <= reported {
					t.Fatalf("counter %d again, after %d", counter, reported)
				}
				reported = counter
				n++
			}
		}
		must(t, child.Process.Kill())
		_ = child.Wait() // killed: an error is what it must be
	}
	if reported < 80 {
		t.Fatalf("the last counter is %d; the processes recorded 86", reported)
	}
	files, err := outbox.OpenDir(dir)
	must(t, err)
	defer files.Close()
	box, err := outbox.Open(files, outbox.Options{NetworkID: newNotary(t).genesis, MeterID: "meter-1", MaxBytes: 1})
	must(t, err)
	var samples []*sample.Sample
	var signatures [][]byte
	for _, it := range box.Pending() {
		e, err := box.Read(it.Counter)
		must(t, err)
		samples, signatures = append(samples, e.Sample), append(signatures, e.Signature)
	}
	if got := uint64(len(samples)); got < reported || got > reported+1 || samples[0].Counter != 1 {
		t.Errorf("%d samples from counter %d, %d were reported", got, samples[0].Counter, reported)
	}
	key, err := signature.KeyOf(signature.Ed25519ZIP215, killSigner.Public())
	must(t, err)
	checkChain(t, key, samples, signatures)
}

var killSigner = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func recordUntilKilled(t *testing.T, dir string) {
	n := newNotary(t) // its network id depends on the test's name only: parent and child agree
	c := Config{
		NetworkID: n.genesis, MeterID: "meter-1", Channels: 2, SampleRateMillihertz: 1, Signer: killSigner, Trust: n.bundle, Dir: dir,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13}, Endpoints: []string{deadAddress},
		KnownBlock: KnownBlock{Height: 1, Header: blockOf(1), CertifiedAt: time.Unix(1, 0)},
	}
	m, err := Open(t.Context(), c)
	must(t, err)
	for {
		ticket, err := m.Record(t.Context(), capture(int(m.Stats().NextCounter)))
		must(t, err)
		fmt.Printf("recorded %d\n", ticket.Counter)
	}
}

func BenchmarkRecord(b *testing.B) {
	n := newNotary(b)
	c := configOf(b, n, startGateway(b, n))
	c.Endpoints = []string{deadAddress}
	c.KnownBlock = KnownBlock{Height: 1, Header: blockOf(1), CertifiedAt: time.Unix(1, 0)}
	c.MaxBytes = 1 << 40
	m := openMeter(b, c, ordinary)
	taken := capture(1)
	for b.Loop() {
		if _, err := m.Record(b.Context(), taken); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecordToReceipt(b *testing.B) {
	n := newNotary(b)
	m := openMeter(b, configOf(b, n, startGateway(b, n)), ordinary)
	taken := capture(1)
	for b.Loop() {
		if _, err := m.Record(b.Context(), taken); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
