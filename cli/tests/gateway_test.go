package tests

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// dropping is a gateway that passes heartbeats on and drops every sample.
type dropping struct {
	ingestv1.UnimplementedIngestServiceServer
	honest ingestv1.IngestServiceClient // as the meter
}

func (d *dropping) GetHead(ctx context.Context, r *ingestv1.GetHeadRequest) (*ingestv1.GetHeadResponse, error) {
	return d.honest.GetHead(ctx, r)
}

func (d *dropping) SubmitHeartbeat(ctx context.Context, r *ingestv1.SubmitHeartbeatRequest) (*ingestv1.SubmitHeartbeatResponse, error) {
	return d.honest.SubmitHeartbeat(ctx, r)
}

func (d *dropping) SubmitStream(stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// dropper runs one in front of a network's gateway, for a meter of the network
// directory, until the script ends; it sets $DROPPER and $DROPPERSPKI.
func dropper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: dropper DIR METER")
	}
	dir := ts.MkAbs(args[0])
	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	ts.Check(err)
	var n devnet.Network
	ts.Check(json.Unmarshal(b, &n))
	gateway := n.ByRole(recordv1.Role_ROLE_GATEWAY)[0]
	spki, err := digest.Parse(gateway.SPKI)
	ts.Check(err)
	meter, err := identity.Load(filepath.Join(dir, "meters", args[1], "tls.pem"))
	ts.Check(err)
	quiet := slog.New(slog.DiscardHandler)
	honest, err := rpcclient.Dial(gateway.Address, rpcclient.Options{Node: meter, Server: identity.Pin(identity.SPKI(spki)), Logger: quiet})
	ts.Check(err)
	node, err := identity.Generate(filepath.Join(dir, "dropper.pem"))
	ts.Check(err)
	allow := rpcserver.Allow{}
	allow.AllowService(&ingestv1.IngestService_ServiceDesc, identity.RolePublic)
	server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{Node: node, Allow: allow, Logger: quiet})
	ts.Check(err)
	ingestv1.RegisterIngestServiceServer(server, &dropping{honest: ingestv1.NewIngestServiceClient(honest)})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	ts.Defer(func() {
		stop()
		if err := errors.Join(<-ended, honest.Close()); err != nil {
			ts.Logf("dropper: %v", err)
		}
	})
	ts.Setenv("DROPPER", server.Addr().String())
	own := node.SPKI()
	ts.Setenv("DROPPERSPKI", digest.Digest(own).String())
}
