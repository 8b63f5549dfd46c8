package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/vector"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// liar is a gateway that passes everything on and alters each receipt by a bit.
type liar struct {
	ingestv1.UnimplementedIngestServiceServer
	honest ingestv1.IngestServiceClient // as the meter
}

func (l *liar) GetHead(ctx context.Context, r *ingestv1.GetHeadRequest) (*ingestv1.GetHeadResponse, error) {
	return l.honest.GetHead(ctx, r)
}

func (l *liar) SubmitStream(stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := l.honest.Submit(stream.Context(), request.GetSubmit())
		if err != nil {
			return err
		}
		if receipt := answer.GetReceipt().GetReceipt(); len(receipt) > 0 {
			receipt[len(receipt)/2] ^= 1
		}
		if err := stream.Send(&ingestv1.SubmitStreamResponse{Submit: answer}); err != nil {
			return err
		}
	}
}

var lyingGateway = Scenario{
	Name: "lying-gateway", Attacker: "a gateway takes a sample and hands the meter a receipt in which one bit differs",
	Answer: "the meter's SDK refuses the receipt (alarm BAD_RECEIPT) and keeps the sample until an honest gateway answers", Record: "the measurement, with the receipt that the meter then got",
	run: func(ctx context.Context, s *stage) (_ string, err error) {
		m, err := s.sensor(ctx, "lied-to")
		if err != nil {
			return "", err
		}
		node, err := identity.Generate(filepath.Join(s.network.Dir, "liar.pem"))
		if err != nil {
			return "", err
		}
		allow := rpcserver.Allow{}
		allow.AllowService(&ingestv1.IngestService_ServiceDesc, identity.RolePublic)
		server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{Node: node, Allow: allow, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return "", err
		}
		ingestv1.RegisterIngestServiceServer(server, &liar{honest: m.ingest})
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- server.Run(serving) }()
		defer func() {
			stop()
			err = errors.Join(err, <-ended)
		}()
		honest, err := s.network.Node(devnet.Gateway)
		if err != nil {
			return "", err
		}
		spki, err := digest.Parse(honest.SPKI)
		if err != nil {
			return "", err
		}
		alarms, receipts := make(chan meter.Alarm, 64), make(chan meter.Receipt, 1)
		c := meter.Config{
			NetworkID: s.networkID, MeterID: m.id, Channels: 2, SampleRateMillihertz: sampleRateMillihertz, Signer: m.key,
			Endpoints: []string{server.Addr().String()}, TLS: m.tls.ClientTLS(identity.Pin(node.SPKI())), Trust: s.trust,
			Dir: filepath.Join(s.network.MeterDir(m.id), "outbox"), FirstCounter: m.counter + 1, Previous: m.previous,
			OnAlarm: func(a meter.Alarm) {
				select {
				case alarms <- a:
				default:
				}
			},
			OnReceipt: func(r meter.Receipt) { receipts <- r },
		}
		unit, err := meter.Open(ctx, c)
		if err != nil {
			return "", err
		}
		seen, err := lie(ctx, unit, alarms, receipts)
		if err := errors.Join(err, unit.Close()); err != nil {
			return "", err
		}
		c.Endpoints, c.TLS = []string{honest.Address}, m.tls.ClientTLS(identity.Pin(identity.SPKI(spki)))
		if unit, err = meter.Open(ctx, c); err != nil {
			return "", err
		}
		select {
		case <-receipts:
		case <-time.After(20 * time.Second):
			err = succeeded("the honest gateway's receipt does not come: the sample is lost")
		}
		return seen + "; the honest gateway's receipt was taken afterwards", errors.Join(err, unit.Close())
	},
}

// lie records one sample and wants the altered receipt refused.
func lie(ctx context.Context, unit *meter.Meter, alarms <-chan meter.Alarm, receipts <-chan meter.Receipt) (string, error) {
	raw, n, err := passing()
	if err != nil {
		return "", err
	}
	channels, err := vector.Decode(recordv1.Encoding_ENCODING_RICE, 2, n, raw)
	if err != nil {
		return "", err
	}
	if _, err := unit.Record(ctx, meter.Capture{Channels: channels, CapturedAt: time.Now(), ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED}); err != nil {
		return "", err
	}
	for {
		select {
		case a := <-alarms:
			if a.Kind != meter.AlarmBadReceipt {
				continue
			}
			if pending := unit.Stats().Pending; pending != 1 {
				return "", succeeded("%d samples wait, want the one without a receipt", pending)
			}
			return fmt.Sprintf("alarm %s: %v", a.Kind, a.Err), nil
		case r := <-receipts:
			return "", succeeded("an altered receipt was taken for counter %d", r.Counter)
		case <-time.After(20 * time.Second):
			return "", errors.New("the meter neither took nor refused the receipt")
		}
	}
}

var flood = Scenario{
	Name: "flood", Attacker: "a registered meter sends rubbish as fast as it can, from eight connections' worth of calls",
	Answer: string(reason.Overloaded) + " for it, and an honest meter is served as before", Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "flooding")
		if err != nil {
			return "", err
		}
		honest, err := s.sensor(ctx, "beside-a-flood")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		request.RawVector = bytes.Repeat([]byte{1}, 100)
		found := make(chan error, 8)
		calls, callsCtx := errgroup.WithContext(ctx)
		for range 8 {
			calls.Go(func() error {
				for range 1000 {
					switch err := m.send(callsCtx, request); reason.Of(err) {
					case reason.Overloaded:
						found <- err
						return nil
					case reason.DigestMismatch:
					default:
						return err
					}
				}
				return nil
			})
		}
		if _, err := honest.honest(ctx); err != nil {
			return "", succeeded("an honest meter is not served meanwhile: %v", err)
		}
		if err := calls.Wait(); err != nil {
			return "", err
		}
		select {
		case err := <-found:
			return err.Error(), nil
		default:
			return "", succeeded("8,000 samples at once met no limit")
		}
	},
}
