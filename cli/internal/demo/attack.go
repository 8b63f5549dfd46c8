package demo

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"time"

	"errors"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// showReceipt verifies the first meter's first receipt with its bundle and
// prints it in words.
func (d *demo) showReceipt(ctx context.Context) error {
	encoded, err := d.bundle(ctx, d.meters[0].id, 1)
	if err != nil {
		return err
	}
	contents, report := receipt.VerifyBundle(encoded, d.trust, nil)
	d.hold(report.Verdict == receipt.Verified, "the first bundle is %v: %s", report.Verdict, report.Conclusion)
	d.say("\nreceipt    %s", strings.ReplaceAll(strings.TrimSpace(receipt.Describe(contents.Receipt, contents).String()), "\n", "\n           "))
	return nil
}

func (d *demo) bundle(ctx context.Context, meterID string, counter uint64) ([]byte, error) {
	connection, err := d.network.Dial(d.network.ByRole(recordv1.Role_ROLE_REPLICA)[0].ID, nil)
	if err != nil {
		return nil, err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	response, err := ledgerv1.NewLedgerServiceClient(connection).GetBundle(ctx, &ledgerv1.GetBundleRequest{
		Measurement: &ledgerv1.MeasurementKey{MeterId: meterID, Counter: counter},
	})
	return response.GetBundle(), err
}

// attack tries what an attacker would, and wants each refused with its code.
func (d *demo) attack(ctx context.Context) error {
	d.say("")
	if err := d.tamperedSample(ctx); err != nil {
		return err
	}
	if err := d.replayedSample(ctx); err != nil {
		return err
	}
	return d.tamperedModule(ctx)
}

// dialAs opens a connection to a node under a node's or meter's identity.
func (d *demo) dialGatewayAs(s *sensor) (*grpc.ClientConn, error) {
	return d.network.Dial(devnet.Gateway, s.tls)
}

// tamperedSample sends a certified sample again with one bit of its raw vector
// flipped.
func (d *demo) tamperedSample(ctx context.Context) error {
	s := d.meters[0]
	encoded, err := d.bundle(ctx, s.id, 1)
	if err != nil {
		return err
	}
	contents, _ := receipt.VerifyBundle(encoded, d.trust, nil)
	connection, err := d.dialGatewayAs(s)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	raw := bytes.Clone(contents.RawVector)
	raw[len(raw)/2] ^= 1
	m := contents.Receipt.Message
	answer, err := ingestv1.NewIngestServiceClient(connection).Submit(ctx, &ingestv1.SubmitRequest{Header: m.GetHeader(), Signature: m.GetSignature(), RawVector: raw})
	if err != nil {
		return err
	}
	d.refused("tampered sample", reason.DigestMismatch, &reason.Error{Reason: reason.Reason(answer.GetRefusal().GetReason()), Detail: answer.GetRefusal().GetDetail()})
	return nil
}

// replayedSample submits a certified measurement again, as a gateway could.
func (d *demo) replayedSample(ctx context.Context) error {
	encoded, err := d.bundle(ctx, d.meters[0].id, 1)
	if err != nil {
		return err
	}
	bundle, err := receipt.ParseBundle(encoded)
	if err != nil {
		return err
	}
	certified, err := receipt.Parse(bundle.GetReceipt())
	if err != nil {
		return err
	}
	gateway, err := d.network.NodeIdentity(devnet.Gateway)
	if err != nil {
		return err
	}
	connection, err := d.network.Dial(d.network.ByRole(recordv1.Role_ROLE_REPLICA)[0].ID, gateway)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	response, err := ledgerv1.NewLedgerServiceClient(connection).Submit(ctx, &ledgerv1.SubmitRequest{
		Records:    [][]byte{bundle.GetEndorsementSet().GetRecord(), certified.Record},
		RawVectors: [][]byte{bundle.GetRawVector()},
	})
	if err != nil {
		return err
	}
	outcome := response.GetOutcomes()[1]
	d.hold(!outcome.GetAccepted(), "a replayed sample became a second record")
	d.refused("replayed sample", reason.Duplicate, &reason.Error{Reason: reason.Reason(outcome.GetReason()), Detail: outcome.GetDetail()})
	return nil
}

// tamperedModule offers an endorser a module with one byte changed, and finds
// the refusal on the ledger.
func (d *demo) tamperedModule(ctx context.Context) error {
	module := bytes.Clone(speed.Module())
	module[len(module)-1] ^= 1
	endorser := d.network.ByRole(recordv1.Role_ROLE_ENDORSER)[0].ID
	err := d.installAt(ctx, endorser, module)
	var refusal *reason.Error
	if !errors.As(err, &refusal) {
		d.hold(false, "a tampered module was not refused: %v", err)
		return nil
	}
	d.refused("tampered module", reason.UnknownAlgorithm, refusal)
	event, err := d.findEvent(ctx, recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION)
	if err != nil {
		return err
	}
	d.hold(event != nil, "the refused installation is not on the ledger")
	if event != nil {
		d.say("           recorded on the ledger: %s reported by %s, %s", event.GetSubject(), event.GetReporter(), event.GetDetail())
	}
	return nil
}

func (d *demo) refused(what string, want reason.Reason, got *reason.Error) {
	d.hold(got.Reason == want, "%s was refused with %q, want %q", what, got.Reason, want)
	d.say("refused    %s: %v", what, got)
}

// findEvent follows the ledger until it holds a security event of a kind: the
// node that refuses reports on its own time. It gives nil after half a minute.
func (d *demo) findEvent(ctx context.Context, kind recordv1.EventKind) (*recordv1.EventReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	connection, err := d.network.Dial(d.network.ByRole(recordv1.Role_ROLE_REPLICA)[0].ID, nil)
	if err != nil {
		return nil, err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	stream, err := ledgerv1.NewLedgerServiceClient(connection).StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: ledgerv1.StreamView_STREAM_VIEW_RECORDS})
	if err != nil {
		return nil, err
	}
	for {
		block, err := stream.Recv()
		if ctx.Err() != nil {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, leaf := range block.GetLeaves() {
			r, err := record.Parse(leaf.GetRecord())
			if err != nil {
				return nil, err
			}
			report := new(recordv1.EventReport)
			if r.GetSecurityEvent() == nil {
				continue
			}
			if err := record.Decode(r.GetSecurityEvent().GetReport(), record.MaxBytes, report); err != nil {
				return nil, err
			}
			if report.GetKind() == kind {
				return report, nil
			}
		}
	}
}

func (d *demo) receiptsPattern() string {
	return filepath.Join(d.network.Dir, "meters", "*", "outbox", "receipts")
}
