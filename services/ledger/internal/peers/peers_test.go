package peers

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
)

func signed(tb testing.TB, height uint64) certify.Signed {
	checkpoint := tlog.Checkpoint{Origin: "origin.test/0011223344556677", Size: 10 * height, Root: digest.Plain([]byte("root"))}
	log, err := tlog.SignLog(statetest.Key("log"), checkpoint)
	if err != nil {
		tb.Fatal(err)
	}
	cosignature, err := tlog.Cosign(statetest.Key("cosigner"), checkpoint.Origin+"/replica-00", checkpoint, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	return certify.Signed{Height: height, Checkpoint: checkpoint, Log: log, Cosignature: cosignature}
}

func TestCosignaturesTravelExactly(t *testing.T) {
	want := signed(t, 3)
	got, err := FromRequest(ToRequest(want))
	if err != nil || got != want {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
	for name, change := range map[string]func(*replicav1.CosignRequest){
		"no checkpoint":    func(r *replicav1.CosignRequest) { r.Checkpoint = nil },
		"no log signature": func(r *replicav1.CosignRequest) { r.LogSignature = nil },
		"cut cosignature":  func(r *replicav1.CosignRequest) { r.Cosignature = r.Cosignature[:40] },
	} {
		request := ToRequest(want)
		change(request)
		if _, err := FromRequest(request); reason.Of(err) != reason.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A peer that takes nothing holds up nobody: the newest cosignatures stay.
func TestOldestCosignatureGivesWay(t *testing.T) {
	node, err := identity.NewNode(statetest.Key("tls"))
	if err != nil {
		t.Fatal(err)
	}
	nobody := func(identity.SPKI) error { return errors.New("nobody") }
	p, err := New([]Peer{{NodeID: "replica-01", Address: "127.0.0.1:1", Check: nobody}}, node, 1<<20, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := signed(t, 1)
	for height := range uint64(MaxCosignatures + 10) {
		s.Height = height
		p.Broadcast(s) // nothing runs that would take them
	}
	queue := p.peers["replica-01"].cosign
	if first := <-queue; len(queue) != MaxCosignatures-1 || first.GetHeight() != 10 {
		t.Errorf("%d are left behind height %d, want %d behind 10", len(queue), first.GetHeight(), MaxCosignatures-1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if answers, err := p.Positions(ctx, nil, 0); len(answers) != 0 || err == nil {
		t.Errorf("answers %v of nobody", answers)
	}
	if _, err := p.Forward(ctx, "replica-09", nil); reason.Of(err) != reason.NotLeader {
		t.Errorf("forward to a replica without an address: %v", err)
	}
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run ends with %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// A peer that is silent, as one whose machine is gone, does not hold up what the
// answers of the others are enough for.
func TestASilentPeerIsNotWaitedForOnceThereIsEnough(t *testing.T) {
	node, err := identity.NewNode(statetest.Key("tls"))
	if err != nil {
		t.Fatal(err)
	}
	everybody := func(identity.SPKI) error { return nil }
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(node.ServerTLS())))
	replicav1.RegisterReplicaServiceServer(server, standing{})
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listening) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p, err := New([]Peer{
		{NodeID: "replica-01", Address: listening.Addr().String(), Check: everybody},
		{NodeID: "replica-02", Address: silent.Addr().String(), Check: everybody},
	}, node, 1<<20, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	enough := func(answers map[string]*replicav1.PositionResponse) bool { return len(answers) == 1 }
	answers, err := p.Positions(t.Context(), enough, 0) // which does not end for the silent one
	if err != nil || len(answers) != 1 || answers["replica-01"].GetAppliedHeight() != 7 {
		t.Errorf("answers %v (%v), want the one of replica-01", answers, err)
	}
}

// standing is a replica that answers where it stands.
type standing struct {
	replicav1.UnimplementedReplicaServiceServer
}

func (standing) Position(context.Context, *replicav1.PositionRequest) (*replicav1.PositionResponse, error) {
	return &replicav1.PositionResponse{AppliedHeight: 7}, nil
}

func FuzzFromRequest(f *testing.F) {
	r := ToRequest(signed(f, 3))
	f.Add(r.GetCheckpoint(), r.GetLogSignature(), r.GetCosignature())
	f.Fuzz(func(t *testing.T, checkpoint, log, cosignature []byte) {
		request := &replicav1.CosignRequest{Checkpoint: checkpoint, LogSignature: log, Cosignature: cosignature}
		s, err := FromRequest(request)
		if err != nil {
			return
		}
		again := ToRequest(s)
		if !bytes.Equal(again.GetCheckpoint(), checkpoint) || !bytes.Equal(again.GetLogSignature(), log) || !bytes.Equal(again.GetCosignature(), cosignature) {
			t.Errorf("%q %q %q is read as %+v", checkpoint, log, cosignature, s)
		}
	})
}
