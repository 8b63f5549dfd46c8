package attack

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

var forgedApproval = Scenario{
	Name: "forged-approval", Attacker: "a manufacturer signs the approval of its own module in the notified body's place",
	Answer: string(reason.NotAuthorised), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		manufacturer, err := s.key(devnet.Manufacturer)
		if err != nil {
			return "", err
		}
		forger, err := statement.GenerateKey(filepath.Join(s.network.Dir, "keys", "forger.pem"), statement.Ed25519)
		if err != nil {
			return "", err
		}
		terms, err := s.terms(ctx, manufacturer)
		if err != nil {
			return "", err
		}
		terms.FuelLimit++
		payload, err := terms.Encode()
		if err != nil {
			return "", err
		}
		signed, err := record.SignStatement(record.TypeApproval, payload, forger, manufacturer)
		if err != nil {
			return "", err
		}
		_, err = statement.Submit(ctx, s.approvals, signed)
		return wantRefusal(err, reason.NotAuthorised)
	},
}

var replayedStatement = Scenario{
	Name: "replayed-statement", Attacker: "a suspended meter's owner hands in the notified body's earlier resumption once more",
	Answer: string(reason.OutOfSequence), Record: "each statement once, in its chain",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "suspended")
		if err != nil {
			return "", err
		}
		act := func(action recordv1.MeterAction) (resumed func() error, err error) {
			signed, err := s.state(ctx, record.SubjectMeter(m.id), func(h *recordv1.StatementHeader) proto.Message {
				return &recordv1.MeterStatus{Header: h, MeterId: m.id, Action: action, EffectiveAtUnixNano: time.Now().UnixNano()}
			}, devnet.NotifiedBody)
			return func() error {
				_, err := statement.Submit(ctx, s.approvals, signed)
				return err
			}, err
		}
		if _, err := act(recordv1.MeterAction_METER_ACTION_SUSPEND); err != nil {
			return "", err
		}
		again, err := act(recordv1.MeterAction_METER_ACTION_RESUME)
		if err != nil {
			return "", err
		}
		if _, err := act(recordv1.MeterAction_METER_ACTION_SUSPEND); err != nil {
			return "", err
		}
		seen, err := wantRefusal(again(), reason.OutOfSequence)
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		still, err := wantRefusal(m.send(ctx, request), reason.MeterNotInService)
		return seen + "; and the meter stays suspended: " + still, err
	},
}

// register makes a node's keys and registers it, signed by its organisation and
// by the key itself.
func (s *stage) register(ctx context.Context, id, organisation string, role recordv1.Role) (signing crypto.Signer, tls *identity.Node, err error) {
	dir := s.network.NodeDir(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if signing, err = statement.GenerateKey(filepath.Join(dir, "signing.pem"), statement.Ed25519); err != nil {
		return nil, nil, err
	}
	if tls, err = identity.Generate(filepath.Join(dir, "tls.pem")); err != nil {
		return nil, nil, err
	}
	registration, err := statement.Node(id, organisation, role, signing.Public(), tls.SPKI())
	if err != nil {
		return nil, nil, err
	}
	root, err := s.key(organisation)
	if err != nil {
		return nil, nil, err
	}
	_, err = s.stateWith(ctx, record.SubjectNode(id), func(h *recordv1.StatementHeader) proto.Message {
		registration.Header = h
		return registration
	}, root, signing)
	return signing, tls, err
}

var stolenNodeKey = Scenario{
	Name: "stolen-node-key", Attacker: "a thief uses the keys of a gateway that its organisation has revoked",
	Answer: string(reason.KeyEnded) + " to the connection, " + string(reason.NotAuthorised) + " to what the key signs", Record: "the revocation",
	run: func(ctx context.Context, s *stage) (string, error) {
		const id, organisation = "gateway-stolen", "operator"
		signing, tls, err := s.register(ctx, id, organisation, recordv1.Role_ROLE_GATEWAY)
		if err != nil {
			return "", err
		}
		report := func(detail string) ([]byte, error) {
			return record.SignEvent(signing, signature.Ed25519ZIP215, &recordv1.EventReport{
				NetworkId: s.networkID.Bytes(), Reporter: id, Kind: recordv1.EventKind_EVENT_KIND_ENGINE_DIVERGENCE,
				Subject: record.SubjectAlgorithm(s.module), Detail: detail,
			})
		}
		connection, err := s.dial(s.replica().ID, tls)
		if err != nil {
			return "", err
		}
		client := ledgerv1.NewLedgerServiceClient(connection)
		before, err := report("before the theft")
		if err != nil {
			return "", err
		}
		if _, err := client.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{before}}); err != nil {
			return "", fmt.Errorf("the node cannot act before it is revoked: %w", err)
		}
		if _, err := s.state(ctx, record.SubjectNode(id), func(h *recordv1.StatementHeader) proto.Message {
			return &recordv1.NodeRevocation{Header: h, NodeId: id, Reason: "stolen"}
		}, organisation); err != nil {
			return "", err
		}
		after, err := report("after the theft")
		if err != nil {
			return "", err
		}
		_, err = client.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{after}})
		seen, err := wantRefusal(err, reason.KeyEnded)
		if err != nil {
			return "", err
		}
		outcomes, err := s.submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{after}}) // an accomplice hands it in
		if err != nil {
			return "", err
		}
		signed, err := wantRefusal(outcomes[0], reason.NotAuthorised)
		return seen + "; " + signed, err
	},
}
