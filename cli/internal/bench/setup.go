package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// submitting is how many statements are on their way at a time; the approval
// service takes 64.
const submitting = 48

// approve has the built-in module approved under a policy of so many
// organisations, and installs it at every endorser.
func (r *run) approve(ctx context.Context, client approvalv1.ApprovalServiceClient) error {
	manufacturer, err := statement.ReadKey(r.network.KeyPath(devnet.Manufacturer))
	if err != nil {
		return err
	}
	manufacturerKey, err := statement.VerifierKey(manufacturer.Public())
	if err != nil {
		return err
	}
	notified, err := statement.ReadKey(r.network.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return err
	}
	place, err := statement.PlaceOf(ctx, client, record.SubjectAlgorithm(digest.Plain(speed.Module())))
	if err != nil {
		return err
	}
	var endorsers []policy.Policy
	for _, node := range r.network.ByRole(recordv1.Role_ROLE_ENDORSER) {
		endorsers = append(endorsers, policy.Organisation(node.Organisation))
	}
	report := digest.Plain([]byte("no type test: a benchmark"))
	draft := statement.Speed(place, time.Now(), devnet.NotifiedBody, devnet.Manufacturer, manufacturerKey, policy.OutOf(r.Endorsements, endorsers...), report)
	payload, err := draft.Encode()
	if err != nil {
		return err
	}
	signed, err := record.SignStatement(record.TypeApproval, payload, notified, manufacturer)
	if err != nil {
		return err
	}
	if _, err := statement.Submit(ctx, client, signed); err != nil {
		return fmt.Errorf("approve the module: %w", err)
	}
	return r.atEndorsers(func(client computev1.ComputeServiceClient) error {
		_, err := client.InstallAlgorithm(ctx, &computev1.InstallAlgorithmRequest{Module: speed.Module()})
		return err
	})
}

// atEndorsers calls each endorser as the gateway that contracted it.
func (r *run) atEndorsers(f func(computev1.ComputeServiceClient) error) error {
	gateway, err := r.network.NodeIdentity(devnet.Gateway)
	if err != nil {
		return err
	}
	for _, e := range r.network.ByRole(recordv1.Role_ROLE_ENDORSER) {
		connection, err := r.network.Dial(e.ID, gateway)
		if err != nil {
			return err
		}
		if err := errors.Join(f(computev1.NewComputeServiceClient(connection)), connection.Close()); err != nil {
			return fmt.Errorf("endorser %s: %w", e.ID, err)
		}
	}
	return nil
}

// register makes a meter for each client, keys in memory, and has all of them
// registered; then it waits until every node knows them.
func (r *run) register(ctx context.Context, client approvalv1.ApprovalServiceClient) error {
	notified, err := statement.ReadKey(r.network.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return err
	}
	r.senders = make([]*sender, r.Clients)
	heights := make([]uint64, r.Clients)
	err = parallel(ctx, submitting, r.Clients, func(i int) error {
		c, err := r.newSender(i)
		if err != nil {
			return err
		}
		r.senders[i] = c
		heights[i], err = r.registerOne(ctx, client, notified, c)
		if err != nil {
			return fmt.Errorf("register meter %s: %w", c.id, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	highest := uint64(0)
	for _, h := range heights {
		highest = max(highest, h)
	}
	return r.awaitFollowers(ctx, highest)
}

func (r *run) registerOne(ctx context.Context, client approvalv1.ApprovalServiceClient, notified crypto.Signer, c *sender) (height uint64, err error) {
	now := time.Now()
	place := statement.Place{NetworkID: r.networkID, Sequence: 1} // a new network knows none of them
	draft, err := statement.Registration(place, now, statement.Meter{
		ID: c.id, Public: c.key.Public(), TLS: c.tls.SPKI(), Seal: "none (simulated)",
		Site:               &recordv1.Site{Name: "simulated road", LatitudeE7: -235505000, LongitudeE7: -466333000, Lane: 1},
		SpacingMillimetres: spacingMillimetres, SampleRateMillihertz: r.sampleRateMillihertz(),
		Verification: &recordv1.Verification{Certificate: "simulated", ValidFromUnixNano: now.Add(-time.Hour).UnixNano(), ValidUntilUnixNano: now.AddDate(1, 0, 0).UnixNano()},
	})
	if err != nil {
		return 0, err
	}
	draft.Channels = uint32(r.Channels)
	signed, err := record.NewStatement(draft, notified)
	if err != nil {
		return 0, err
	}
	for {
		response, err := statement.Submit(ctx, client, signed)
		if err == nil || rpcerror.IsPermanent(err) || ctx.Err() != nil {
			return response.GetCertifiedHeight(), err
		}
		// Too many at a time, or a leader that changes: the same statement again.
		if err := pause(ctx, max(rpcerror.Delay(err), 50*time.Millisecond)); err != nil {
			return 0, err
		}
	}
}

// awaitFollowers waits until the gateway and the endorsers have seen a height:
// before that, a registered meter is a stranger to them.
func (r *run) awaitFollowers(ctx context.Context, height uint64) error {
	if err := r.head.await(ctx, height); err != nil {
		return fmt.Errorf("the gateway does not reach block %d: %w", height, err)
	}
	module := digest.Plain(speed.Module())
	return r.atEndorsers(func(client computev1.ComputeServiceClient) error {
		for {
			// A batch of rubbish is answered with the height that the endorser stands at.
			response, err := client.Endorse(ctx, &computev1.EndorseRequest{Algorithm: module[:], Samples: []*computev1.SignedSample{{Header: []byte{0}}}})
			if err != nil || response.GetCertifiedHeight() >= height {
				return err
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	})
}

// newSender makes the keys of a client's meter.
func (r *run) newSender(i int) (*sender, error) {
	c := &sender{run: r, id: fmt.Sprintf("bench-%05d", i+1)}
	var err error
	if r.keyKind(i) == statement.P256 {
		c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		_, c.key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	_, tlsKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c.tls, err = identity.NewNode(tlsKey)
	return c, err
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
