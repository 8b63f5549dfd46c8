package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/vector"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

const (
	spacingMillimetres   = 2000
	sampleRateMillihertz = 1_000_000
	honestMeters         = 4
	vectorCount          = 16
)

// prepare has the module approved and installed, and the meters registered.
func (n *network) prepare(ctx context.Context) error {
	connection, err := n.dial(devnet.Approval)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	client := approvalv1.NewApprovalServiceClient(connection)
	if err := n.approve(ctx, client); err != nil {
		return fmt.Errorf("approve the module: %w", err)
	}
	height := uint64(0)
	for i := range honestMeters + 1 {
		s, err := newSigner(n, fmt.Sprintf("meter-%02d", i+1))
		if err != nil {
			return err
		}
		n.meters = append(n.meters, s)
		if height, err = n.register(ctx, client, s); err != nil {
			return fmt.Errorf("register %s: %w", s.id, err)
		}
	}
	if err := n.simulate(); err != nil {
		return err
	}
	return n.followed(ctx, height)
}

// simulate makes the raw vectors that the meters sign in turn.
func (n *network) simulate() error {
	for i := range uint64(vectorCount) {
		random := sim.NewRand(20261127, i)
		pass := sim.Pass(sim.Good(130+40*random.Float64(), sampleRateMillihertz/1000, spacingMillimetres/1000., sim.Families, random), random)
		raw, err := vector.Encode(recordv1.Encoding_ENCODING_RICE, pass.Samples)
		if err != nil {
			return err
		}
		n.vectors, n.samples = append(n.vectors, raw), append(n.samples, len(pass.Samples[0]))
	}
	return nil
}

func (n *network) approve(ctx context.Context, client approvalv1.ApprovalServiceClient) error {
	manufacturer, err := statement.ReadKey(n.KeyPath(devnet.Manufacturer))
	if err != nil {
		return err
	}
	manufacturerKey, err := statement.VerifierKey(manufacturer.Public())
	if err != nil {
		return err
	}
	notified, err := statement.ReadKey(n.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return err
	}
	place, err := statement.PlaceOf(ctx, client, record.SubjectAlgorithm(digest.Plain(speed.Module())))
	if err != nil {
		return err
	}
	var endorsers []policy.Policy
	for _, o := range devnet.EndorsingOrganisations() {
		endorsers = append(endorsers, policy.Organisation(o))
	}
	report := digest.Plain([]byte("no type test: a robustness run"))
	draft := statement.Speed(place, time.Now(), devnet.NotifiedBody, devnet.Manufacturer, manufacturerKey, policy.OutOf(2, endorsers...), report)
	payload, err := draft.Encode()
	if err != nil {
		return err
	}
	signed, err := record.SignStatement(record.TypeApproval, payload, notified, manufacturer)
	if err != nil {
		return err
	}
	if _, err := statement.Submit(ctx, client, signed); err != nil {
		return err
	}
	return n.atEndorsers(func(client computev1.ComputeServiceClient) error {
		_, err := client.InstallAlgorithm(ctx, &computev1.InstallAlgorithmRequest{Module: speed.Module()})
		return err
	})
}

// atEndorsers calls each endorser as the gateway that contracted it.
func (n *network) atEndorsers(f func(computev1.ComputeServiceClient) error) error {
	gateway, err := n.NodeIdentity(devnet.Gateway)
	if err != nil {
		return err
	}
	for _, e := range n.ByRole(recordv1.Role_ROLE_ENDORSER) {
		if e.ID == leftOut {
			continue
		}
		connection, err := n.Dial(e.ID, gateway)
		if err != nil {
			return err
		}
		if err := errors.Join(f(computev1.NewComputeServiceClient(connection)), connection.Close()); err != nil {
			return fmt.Errorf("endorser %s: %w", e.ID, err)
		}
	}
	return nil
}

func (n *network) register(ctx context.Context, client approvalv1.ApprovalServiceClient, s *signer) (height uint64, err error) {
	notified, err := statement.ReadKey(n.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return 0, err
	}
	now := time.Now()
	draft, err := statement.Registration(statement.Place{NetworkID: n.networkID, Sequence: 1}, now, statement.Meter{
		ID: s.id, Public: s.key.Public(), TLS: s.tls.SPKI(), Seal: "none (simulated)",
		Site:               &recordv1.Site{Name: "simulated road", LatitudeE7: -235505000, LongitudeE7: -466333000, Lane: 1},
		SpacingMillimetres: spacingMillimetres, SampleRateMillihertz: sampleRateMillihertz,
		Verification: &recordv1.Verification{Certificate: "simulated", ValidFromUnixNano: now.Add(-time.Hour).UnixNano(), ValidUntilUnixNano: now.AddDate(1, 0, 0).UnixNano()},
	})
	if err != nil {
		return 0, err
	}
	signed, err := record.NewStatement(draft, notified)
	if err != nil {
		return 0, err
	}
	response, err := statement.Submit(ctx, client, signed)
	return response.GetCertifiedHeight(), err
}

// followed waits until the endorsers have seen a height: before that a registered
// meter is a stranger to them.
func (n *network) followed(ctx context.Context, height uint64) error {
	module := digest.Plain(speed.Module())
	return n.atEndorsers(func(client computev1.ComputeServiceClient) error {
		for {
			// A batch of rubbish is answered with the height that the endorser stands at.
			response, err := client.Endorse(ctx, &computev1.EndorseRequest{Algorithm: module[:], Samples: []*computev1.SignedSample{{Header: []byte{0}}}})
			if err != nil || response.GetCertifiedHeight() >= height {
				return err
			}
			if err := wait(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	})
}

// signer is a meter's keys.
type signer struct {
	id  string
	key crypto.Signer
	tls *identity.Node
}

func newSigner(_ *network, id string) (*signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	_, tlsKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	node, err := identity.NewNode(tlsKey)
	return &signer{id: id, key: key, tls: node}, err
}

// wait waits, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
