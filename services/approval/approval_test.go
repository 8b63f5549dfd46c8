package approval_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval"
)

// bench is a front door before a ledger in memory, asked by the public.
type bench struct {
	t      *testing.T
	ctx    context.Context // bounds every wait
	ledger *ledgertest.Ledger
	client approvalv1.ApprovalServiceClient
	conn   *grpc.ClientConn
}

func newBench(t *testing.T, configure ...func(*ledgertest.Replica)) *bench {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, ledger: ledgertest.New(t, statetest.Options{})}
	c := approval.Config{NodeID: "approval", TLSKey: filepath.Join(t.TempDir(), "tls.pem"), Server: rpcserver.Config{Listen: "127.0.0.1:0"}}
	b.ledger.Do(func(n *statetest.Network) { c.Ledger.NetworkID = n.ID.String() })
	if err := identity.WriteKey(c.TLSKey, ledgertest.TLSKey("approval")); err != nil {
		t.Fatal(err)
	}
	replica := b.ledger.Serve(t, "replica", configure...)
	c.Ledger.Replicas = []follower.Endpoint{{Address: replica.Address, SPKI: replica.SPKI}}
	service, err := approval.New(c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := service.Run(running); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	node, err := identity.NewNode(ledgertest.TLSKey("approval"))
	if err != nil {
		t.Fatal(err)
	}
	if b.conn, err = rpcclient.Dial(service.Addr().String(), rpcclient.Options{Server: identity.Pin(node.SPKI()), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.conn.Close() })
	b.client = approvalv1.NewApprovalServiceClient(b.conn)
	watching, cancelWatch := context.WithCancel(ctx)
	defer cancelWatch()
	watch, err := healthv1.NewHealthClient(b.conn).Watch(watching, &healthv1.HealthCheckRequest{Service: "lacre.approval.v1.ApprovalService"})
	for err == nil {
		var response *healthv1.HealthCheckResponse
		if response, err = watch.Recv(); response.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return b
		}
	}
	t.Fatal(err)
	return nil
}

// file is the envelope of a leaf as a signer hands it in: DSSE's JSON.
func file(t *testing.T, leaf []byte) []byte {
	t.Helper()
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	b, err := record.ToEnvelope(r.GetStatement()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) make(f func(n *statetest.Network) []byte) (envelope []byte) {
	b.ledger.Do(func(n *statetest.Network) { envelope = file(b.t, f(n)) })
	return envelope
}

func (b *bench) submit(envelope []byte) (*approvalv1.SubmitStatementResponse, error) {
	return b.client.SubmitStatement(b.ctx, &approvalv1.SubmitStatementRequest{Envelope: envelope})
}

func approve(n *statetest.Network) []byte {
	return n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker())
}

func meter(id string) func(n *statetest.Network) []byte {
	return func(n *statetest.Network) []byte {
		return n.Sign(n.MeterRegistration(id, statetest.Key(id)), statetest.Body())
	}
}

func TestStatementsAreSubmittedOnce(t *testing.T) {
	b := newBench(t)
	envelope := b.make(approve)
	first, err := b.submit(envelope)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.submit(envelope)
	if err != nil || again.GetIndex() != first.GetIndex() || !bytes.Equal(again.GetStatement(), first.GetStatement()) {
		t.Errorf("the same statement again: %v, %v; first %v", again, err, first)
	}
	// Whoever asks next sees it.
	list, err := b.client.ListApprovals(b.ctx, &approvalv1.ListApprovalsRequest{})
	if err != nil || len(list.GetApprovals()) != 1 || !bytes.Equal(list.GetApprovals()[0].GetStatement(), first.GetStatement()) || list.GetCertifiedHeight() < first.GetCertifiedHeight() {
		t.Errorf("list %v, %v", list, err)
	}
	if a := list.GetApprovals()[0]; a.GetSuspended() || a.GetWithdrawn() || !bytes.Contains(a.GetPayload(), []byte("in-toto")) {
		t.Errorf("approval %v", a)
	}
	var subject string
	b.ledger.Do(func(n *statetest.Network) { subject = record.SubjectAlgorithm(n.Algorithm) })
	next, err := b.client.GetSubject(b.ctx, &approvalv1.GetSubjectRequest{Subject: subject})
	if err != nil || next.GetNextSequence() != 2 || !bytes.Equal(next.GetPredecessor(), first.GetStatement()) {
		t.Errorf("the next statement must carry %v, %v", next, err)
	}
	fresh, err := b.client.GetSubject(b.ctx, &approvalv1.GetSubjectRequest{Subject: "meter/meter-77"})
	if err != nil || fresh.GetNextSequence() != 1 || len(fresh.GetPredecessor()) != 0 || len(fresh.GetNetworkId()) != digest.Size {
		t.Errorf("a subject without a statement: %v, %v", fresh, err)
	}
	if _, err := b.client.GetSubject(b.ctx, &approvalv1.GetSubjectRequest{Subject: "anything"}); reason.Of(err) != reason.Malformed {
		t.Errorf("no subject: %v", err)
	}
}

func TestStandingFollowsTheStatements(t *testing.T) {
	b := newBench(t)
	for _, f := range []func(n *statetest.Network) []byte{approve, meter("meter-01"), meter("meter-02")} {
		if _, err := b.submit(b.make(f)); err != nil {
			t.Fatal(err)
		}
	}
	suspend := b.make(func(n *statetest.Network) []byte {
		return n.Sign(&recordv1.AlgorithmStatus{Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(),
			Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, EffectiveAtUnixNano: n.NowUnix * statetest.Second}, statetest.Body())
	})
	bar := b.make(func(n *statetest.Network) []byte {
		return n.Sign(&recordv1.MeterStatus{Header: n.Header(record.SubjectMeter("meter-01")), MeterId: "meter-01",
			Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}, statetest.Body())
	})
	for _, envelope := range [][]byte{suspend, bar} {
		if _, err := b.submit(envelope); err != nil {
			t.Fatal(err)
		}
	}
	approvals, err := b.client.ListApprovals(b.ctx, &approvalv1.ListApprovalsRequest{})
	if err != nil || !approvals.GetApprovals()[0].GetSuspended() {
		t.Errorf("approvals %v, %v", approvals, err)
	}
	meters, err := b.client.ListMeters(b.ctx, &approvalv1.ListMetersRequest{})
	if err != nil || len(meters.GetMeters()) != 2 || meters.GetMeters()[0].GetInService() || !meters.GetMeters()[1].GetInService() {
		t.Errorf("meters %v, %v", meters, err)
	}
}

func TestBadStatements(t *testing.T) {
	b := newBench(t)
	if _, err := b.submit(b.make(approve)); err != nil {
		t.Fatal(err)
	}
	good := b.make(meter("meter-01"))
	for _, c := range []struct {
		name string
		bad  []byte
		want reason.Reason
	}{
		{"nothing", nil, reason.Malformed},
		{"rubbish", []byte("{}"), reason.Malformed},
		{"a truncated file", good[:len(good)-10], reason.Malformed},
		{"oversized", bytes.Repeat([]byte(" "), 5<<20), reason.TooLarge},
		{"a stranger's signature", b.make(func(n *statetest.Network) []byte {
			return n.Sign(n.MeterRegistration("meter-01", statetest.Key("m")), statetest.Key("stranger"))
		}), reason.NotAuthorised},
		{"another network's", b.make(func(n *statetest.Network) []byte {
			m := n.MeterRegistration("meter-01", statetest.Key("m"))
			m.Header.NetworkId = make([]byte, 32)
			return n.Sign(m, statetest.Body())
		}), reason.WrongNetwork},
		{"not the next", b.make(func(n *statetest.Network) []byte {
			m := n.MeterRegistration("meter-01", statetest.Key("m"))
			m.Header.Sequence, m.Header.Predecessor = 7, bytes.Repeat([]byte{1}, 32)
			return n.Sign(m, statetest.Body())
		}), reason.OutOfSequence},
		{"what cannot be", b.make(func(n *statetest.Network) []byte {
			m := n.MeterRegistration("meter-01", statetest.Key("m"))
			m.Parameters = m.Parameters[1:]
			return n.Sign(m, statetest.Body())
		}), reason.InvalidStatement},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(b.ledger.Leaves())
			if _, err := b.submit(c.bad); reason.Of(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if after := len(b.ledger.Leaves()); after != before {
				t.Errorf("%d leaves were stored", after-before)
			}
		})
	}
	if _, err := b.submit(good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestPages(t *testing.T) {
	b := newBench(t)
	b.ledger.Do(func(n *statetest.Network) {
		n.Approve()
		for i := range 25 {
			n.Register(fmt.Sprintf("meter-%02d", (i*7)%25)) // in no order
		}
	})
	if _, err := b.submit(b.make(meter("meter-99"))); err != nil { // and wait for all of them
		t.Fatal(err)
	}
	var ids []string
	token, pages := "", 0
	for {
		page, err := b.client.ListMeters(b.ctx, &approvalv1.ListMetersRequest{PageSize: 10, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, m := range page.GetMeters() {
			ids = append(ids, m.GetMeterId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(ids) != 26 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != 26 || pages != 3 {
		t.Errorf("%d pages gave %v", pages, ids)
	}
	whole, err := b.client.ListMeters(b.ctx, &approvalv1.ListMetersRequest{PageSize: 26})
	if err != nil || len(whole.GetMeters()) != 26 || whole.GetNextPageToken() != "" {
		t.Errorf("a page that is just full: %d, %q, %v", len(whole.GetMeters()), whole.GetNextPageToken(), err)
	}
	for name, request := range map[string]*approvalv1.ListMetersRequest{"size": {PageSize: 1001}, "token": {PageToken: "?"}} {
		if _, err := b.client.ListMeters(b.ctx, request); reason.Of(err) != reason.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A ledger in trouble is no refusal of the statement.
func TestLedgerInTrouble(t *testing.T) {
	b := newBench(t, func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error { return reason.New(reason.NotLeader, "election") }
	})
	if _, err := b.submit(b.make(approve)); reason.Of(err) != reason.NotLeader || rpcerror.IsPermanent(err) {
		t.Errorf("no leader: %v", err)
	}
	mute := newBench(t, func(r *ledgertest.Replica) {
		r.OnAnswer = func(r *ledgerv1.SubmitResponse) error { r.Outcomes[0] = &ledgerv1.RecordOutcome{}; return nil }
	})
	if _, err := mute.submit(mute.make(approve)); reason.Of(err) != reason.NotCertified {
		t.Errorf("neither taken nor refused: %v", err)
	}
}

// An election is not the business of whoever hands in a statement.
func TestStatementsWaitForALeader(t *testing.T) {
	var asked atomic.Int32
	b := newBench(t, func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			if asked.Add(1) < 3 {
				return reason.New(reason.NotLeader, "election")
			}
			return nil
		}
	})
	if _, err := b.submit(b.make(approve)); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times, want 3: %v", asked.Load(), err)
	}
}

// The statements that wait for the ledger are bounded, and the deadline of each
// is honoured.
func TestWaitingStatementsAreBounded(t *testing.T) {
	const bound = 64
	arrived := make(chan struct{}, bound)
	b := newBench(t, func(r *ledgertest.Replica) {
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error {
			arrived <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
	})
	envelope := b.make(approve)
	ctx, cancel := context.WithCancel(b.ctx)
	var waiting sync.WaitGroup
	for range bound {
		waiting.Go(func() {
			if _, err := b.client.SubmitStatement(ctx, &approvalv1.SubmitStatementRequest{Envelope: envelope}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	for range bound {
		<-arrived
	}
	if _, err := b.submit(envelope); reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0 {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	waiting.Wait()
}

func TestReflection(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(b.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil || !strings.Contains(response.String(), "lacre.approval.v1.ApprovalService") {
		t.Errorf("%v, %v", response, err)
	}
}
