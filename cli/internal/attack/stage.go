package attack

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/trust"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// startTimeout bounds the start of the network.
const startTimeout = time.Minute

// stage is a running network with an approved module, and what an attacker may
// have of it. It is used by one goroutine.
type stage struct {
	network   *devnet.Network
	networkID digest.Digest
	trust     *trust.Bundle
	approvals approvalv1.ApprovalServiceClient
	module    digest.Digest
	approval  *envelope.Envelope // of the module, in force

	connections map[string]*grpc.ClientConn // by node and caller
	stop        func() error                // of the network and the connections; again is nothing
}

// raise founds a network in dir, starts it, and has the module approved: two of
// three endorsing organisations must agree.
func raise(ctx context.Context, dir string) (s *stage, err error) {
	s = &stage{module: digest.Plain(speed.Module()), connections: make(map[string]*grpc.ClientConn)}
	if s.network, _, err = devnet.LoadOrCreate(dir, time.Now()); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.network.Run(running, slog.New(slog.DiscardHandler)) }()
	connections := s.connections
	stop := sync.OnceValue(func() error {
		var failures []error
		for _, c := range connections {
			failures = append(failures, c.Close())
		}
		cancel()
		return errors.Join(append(failures, <-ended)...)
	})
	s.stop = stop
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	starting, done := context.WithTimeout(ctx, startTimeout)
	defer done()
	if err := s.network.WaitReady(starting); err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(s.network.TrustPath())
	if err != nil {
		return nil, err
	}
	if s.trust, err = trust.Parse(bundle); err != nil {
		return nil, err
	}
	if s.networkID, err = digest.Parse(s.network.NetworkID); err != nil {
		return nil, err
	}
	connection, err := s.dial(devnet.Approval, nil)
	if err != nil {
		return nil, err
	}
	s.approvals = approvalv1.NewApprovalServiceClient(connection)
	if err := s.approve(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// dial connects to a node; the connection is the stage's.
func (s *stage) dial(node string, as *identity.Node) (*grpc.ClientConn, error) {
	name := node
	if as != nil {
		name += fmt.Sprintf(" as %x", as.SPKI())
	}
	if c := s.connections[name]; c != nil {
		return c, nil
	}
	connection, err := s.network.Dial(node, as)
	if err == nil {
		s.connections[name] = connection
	}
	return connection, err
}

// node connects to a node under the identity of another, "" for the public.
func (s *stage) node(node, as string) (*grpc.ClientConn, error) {
	var own *identity.Node
	if as != "" {
		var err error
		if own, err = s.network.NodeIdentity(as); err != nil {
			return nil, err
		}
	}
	return s.dial(node, own)
}

// ledger is the first replica, asked under the identity of a node.
func (s *stage) ledger(as string) (ledgerv1.LedgerServiceClient, error) {
	connection, err := s.node(s.replica().ID, as)
	if err != nil {
		return nil, err
	}
	return ledgerv1.NewLedgerServiceClient(connection), nil
}

func (s *stage) replica() devnet.Node { return s.network.ByRole(recordv1.Role_ROLE_REPLICA)[0] }

func (s *stage) endorsers() []devnet.Node { return s.network.ByRole(recordv1.Role_ROLE_ENDORSER) }

// key is an offline key of the network.
func (s *stage) key(owner string) (crypto.Signer, error) {
	return statement.ReadKey(s.network.KeyPath(owner))
}

// terms is an approval of the module at the next place of its chain.
func (s *stage) terms(ctx context.Context, manufacturer crypto.Signer) (*approval.Approval, error) {
	place, err := statement.PlaceOf(ctx, s.approvals, record.SubjectAlgorithm(s.module))
	if err != nil {
		return nil, err
	}
	key, err := statement.VerifierKey(manufacturer.Public())
	if err != nil {
		return nil, err
	}
	var endorsing []policy.Policy
	for _, o := range devnet.EndorsingOrganisations() {
		endorsing = append(endorsing, policy.Organisation(o))
	}
	return statement.Speed(place, time.Now(), devnet.NotifiedBody, devnet.Manufacturer, key, policy.OutOf(2, endorsing...), digest.Plain([]byte("a stage has no type test"))), nil
}

func (s *stage) approve(ctx context.Context) error {
	manufacturer, err := s.key(devnet.Manufacturer)
	if err != nil {
		return err
	}
	notified, err := s.key(devnet.NotifiedBody)
	if err != nil {
		return err
	}
	terms, err := s.terms(ctx, manufacturer)
	if err != nil {
		return err
	}
	payload, err := terms.Encode()
	if err != nil {
		return err
	}
	if s.approval, err = record.SignStatement(record.TypeApproval, payload, notified, manufacturer); err != nil {
		return err
	}
	if _, err := statement.Submit(ctx, s.approvals, s.approval); err != nil {
		return err
	}
	for _, e := range s.endorsers() {
		if err := s.install(ctx, e.ID, speed.Module()); err != nil {
			return fmt.Errorf("install at %s: %w", e.ID, err)
		}
	}
	return nil
}

func (s *stage) install(ctx context.Context, endorser string, module []byte) error {
	connection, err := s.node(endorser, devnet.Gateway)
	if err != nil {
		return err
	}
	_, err = computev1.NewComputeServiceClient(connection).InstallAlgorithm(ctx, &computev1.InstallAlgorithmRequest{Module: module})
	return err
}

// state submits the next statement on a subject, signed by the owners of keys.
func (s *stage) state(ctx context.Context, subject string, draft func(*recordv1.StatementHeader) proto.Message, owners ...string) (*envelope.Envelope, error) {
	var signers []crypto.Signer
	for _, owner := range owners {
		key, err := s.key(owner)
		if err != nil {
			return nil, err
		}
		signers = append(signers, key)
	}
	return s.stateWith(ctx, subject, draft, signers...)
}

// stateWith is state with the signers themselves.
func (s *stage) stateWith(ctx context.Context, subject string, draft func(*recordv1.StatementHeader) proto.Message, signers ...crypto.Signer) (*envelope.Envelope, error) {
	place, err := statement.PlaceOf(ctx, s.approvals, subject)
	if err != nil {
		return nil, err
	}
	signed, err := record.NewStatement(draft(place.Header(subject, time.Now())), signers...)
	if err != nil {
		return nil, err
	}
	answer, err := statement.Submit(ctx, s.approvals, signed)
	if err != nil {
		return nil, err
	}
	return signed, s.known(ctx, answer.GetCertifiedHeight())
}

// known waits until the replica and the gateway that are asked have seen a
// certified block.
func (s *stage) known(ctx context.Context, height uint64) error {
	client, err := s.ledger("")
	if err != nil {
		return err
	}
	for {
		status, err := client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		seen, _, err := s.head(ctx)
		if err != nil {
			return err
		}
		if min(seen, status.GetCertifiedHeight()) >= height {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryAfter):
		}
	}
}

// wantRefusal is what most attacks must meet; it returns what was seen.
func wantRefusal(err error, want reason.Reason) (string, error) {
	if err == nil {
		return "", succeeded("it was not refused, want %s", want)
	}
	if got := reason.Of(err); got != want {
		if got == "" {
			return "", err
		}
		return "", succeeded("it was refused with %v, which is not why: want %s", err, want)
	}
	return err.Error(), nil
}

// await follows the ledger until it holds an event that the caller wants; the
// node that refuses reports on its own time.
func (s *stage) await(ctx context.Context, what string, wanted func(*recordv1.EventReport) bool) (*recordv1.EventReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := s.ledger("")
	if err != nil {
		return nil, err
	}
	stream, err := client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: ledgerv1.StreamView_STREAM_VIEW_RECORDS})
	if err != nil {
		return nil, err
	}
	for {
		block, err := stream.Recv()
		if ctx.Err() != nil {
			return nil, succeeded("%s is not on the ledger", what)
		}
		if err != nil {
			return nil, err
		}
		for _, leaf := range block.GetLeaves() {
			r, err := record.Parse(leaf.GetRecord())
			if err != nil {
				return nil, err
			}
			if r.GetSecurityEvent() == nil {
				continue
			}
			report := new(recordv1.EventReport)
			if err := record.Decode(r.GetSecurityEvent().GetReport(), record.MaxBytes, report); err != nil {
				return nil, err
			}
			if wanted(report) {
				return report, nil
			}
		}
	}
}
