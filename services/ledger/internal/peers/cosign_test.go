package peers

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// taking is a replica that keeps what it is handed.
type taking struct {
	replicav1.UnimplementedReplicaServiceServer
	most     int           // heights on one stream; 0 is no bound
	patience time.Duration // until a height is sent again

	mu      sync.Mutex
	heights []uint64 // as they came
	streams int
	singles int
	came    chan struct{}
}

func (r *taking) take(height uint64) {
	r.heights = append(r.heights, height)
	r.came <- struct{}{}
}

func (r *taking) Cosign(_ context.Context, request *replicav1.CosignRequest) (*replicav1.CosignResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.singles++
	r.take(request.GetHeight())
	return &replicav1.CosignResponse{}, nil
}

func (r *taking) Cosignatures(stream grpc.ClientStreamingServer[replicav1.CosignaturesRequest, replicav1.CosignaturesResponse]) error {
	r.mu.Lock()
	r.streams++
	r.mu.Unlock()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for taken := 0; r.most == 0 || taken < r.most; {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		r.mu.Lock()
		for _, c := range request.GetCosignatures() {
			r.take(c.GetHeight())
			taken++
		}
		r.mu.Unlock()
	}
	return reason.New(reason.Malformed, "it has had enough")
}

// singly is a replica of a build that knows no stream of cosignatures.
type singly struct{ *taking }

func (s singly) Cosignatures(stream grpc.ClientStreamingServer[replicav1.CosignaturesRequest, replicav1.CosignaturesResponse]) error {
	return s.UnimplementedReplicaServiceServer.Cosignatures(stream)
}

// pushed hands heights 1 to n to a peer, each when it has the one before, and
// again where it is slow to come: what is on its way when a stream ends is lost.
func pushed(t *testing.T, replica *taking, service replicav1.ReplicaServiceServer, n uint64) {
	t.Helper()
	node, err := identity.NewNode(statetest.Key("tls"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(node.ServerTLS())))
	replicav1.RegisterReplicaServiceServer(server, service)
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listening) }()
	everybody := func(identity.SPKI) error { return nil }
	p, err := New([]Peer{{NodeID: "replica-01", Address: listening.Addr().String(), Check: everybody}}, node, 1<<20, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	s := signed(t, 1)
	for s.Height = 1; s.Height <= n; {
		p.Broadcast(s)
		select {
		case <-replica.came:
			s.Height++
		case <-time.After(replica.patience):
		case <-t.Context().Done():
			t.Fatalf("height %d did not come", s.Height)
		}
	}
	cancel()
	<-ran
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	want := make([]uint64, n)
	for i := range want {
		want[i] = uint64(i) + 1
	}
	replica.heights = slices.Compact(replica.heights)
	if !slices.Equal(replica.heights, want) {
		t.Errorf("heights %v came, want 1 to %d", replica.heights, n)
	}
}

func TestCosignaturesTravelOnOneStream(t *testing.T) {
	replica := &taking{patience: time.Minute, came: make(chan struct{}, 1)}
	if pushed(t, replica, replica, 20); replica.streams != 1 || replica.singles != 0 {
		t.Errorf("%d streams and %d single calls, want one stream", replica.streams, replica.singles)
	}
}

// A replica of another build gets them too, the first included.
func TestAReplicaThatKnowsNoStreamIsCalled(t *testing.T) {
	replica := &taking{patience: time.Minute, came: make(chan struct{}, 1)}
	if pushed(t, replica, singly{replica}, 20); replica.streams != 0 || replica.singles != 20 {
		t.Errorf("%d streams and %d single calls, want 20 calls", replica.streams, replica.singles)
	}
}

func TestAStreamThatEndedIsOpenedAgain(t *testing.T) {
	replica := &taking{most: 4, patience: 100 * time.Millisecond, came: make(chan struct{}, 64)}
	if pushed(t, replica, replica, 20); replica.streams < 5 || replica.singles != 0 {
		t.Errorf("%d streams and %d single calls, want at least 5 streams", replica.streams, replica.singles)
	}
}
