package ingest_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ingest"
)

// endorser is a fake that signs what it is told to: by default that every
// sample is valid.
type endorser struct {
	computev1.UnimplementedComputeServiceServer
	node   statetest.Node
	ledger *ledgertest.Ledger
	config ingest.Endorser
	stop   func()

	mu      sync.Mutex // guards the rest
	before  func(ctx context.Context, request *computev1.EndorseRequest) error
	claims  func(s *sample.Sample, c *claim.Claim)                // changes a claim before it is signed
	refuses func(s *sample.Sample) *computev1.SampleOutcome       // nil claims
	after   func(response *computev1.EndorseResponse) (err error) // changes the answer
	asked   int
}

// set changes what the endorser does.
func (e *endorser) set(change func(e *endorser)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

func serveEndorser(t *testing.T, l *ledgertest.Ledger, node statetest.Node) *endorser {
	t.Helper()
	own, err := identity.NewNode(ledgertest.TLSKey(node.ID))
	if err != nil {
		t.Fatal(err)
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&computev1.ComputeService_ServiceDesc, identity.RolePublic)
	server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{Node: own, Allow: allow, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	spki := own.SPKI()
	e := &endorser{node: node, ledger: l, config: ingest.Endorser{NodeID: node.ID, Address: server.Addr().String(), SPKI: hex.EncodeToString(spki[:])}}
	computev1.RegisterComputeServiceServer(server, e)
	e.stop = start(t, server.Run)
	return e
}

func (e *endorser) Endorse(ctx context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	e.mu.Lock()
	e.asked++
	before, claims, refuses, after := e.before, e.claims, e.refuses, e.after
	e.mu.Unlock()
	if before != nil {
		if err := before(ctx, request); err != nil {
			return nil, err
		}
	}
	response := &computev1.EndorseResponse{NodeId: e.node.ID}
	algorithm, err := digest.FromBytes(request.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	var network digest.Digest
	var hashes []digest.Digest
	for _, given := range request.GetSamples() {
		s, err := sample.Parse(given.GetHeader())
		if err != nil {
			return nil, err
		}
		if refuses != nil {
			if outcome := refuses(s); outcome != nil {
				response.Outcomes = append(response.Outcomes, outcome)
				continue
			}
		}
		network = s.NetworkID
		c := &claim.Claim{
			NetworkID: s.NetworkID, Sample: s.Digest, Algorithm: algorithm, Registration: e.registration(s.MeterID),
			ProfileVersion: claim.ProfileVersion, FuelLimit: 1_000_000, FuelUsed: 1234,
			Input: digest.Of(digest.ClaimInput, given.GetRawVector()), Result: statetest.Result(0, 83_512, 4_200, 1),
		}
		if claims != nil {
			claims(s, c)
		}
		b, err := c.Encode()
		if err != nil {
			return nil, err
		}
		response.Outcomes = append(response.Outcomes, &computev1.SampleOutcome{Claim: b})
		hashes = append(hashes, claim.Hash(b))
	}
	if len(hashes) > 0 {
		response.Signature, err = signature.Sign(e.node.Key, signature.Ed25519ZIP215, claim.EndorsementMessage(network, algorithm, hashes))
		if err != nil {
			return nil, err
		}
	}
	if after != nil {
		err = after(response)
	}
	return response, err
}

func (e *endorser) registration(meter string) (d digest.Digest) {
	e.ledger.Do(func(n *statetest.Network) {
		if m, err := state.GetMeter(n.Store, meter); err == nil && m != nil {
			d = digest.Digest(m.GetRegistration())
		}
	})
	return d
}
