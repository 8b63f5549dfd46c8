package meter

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// notary is a ledger as far as a meter can see one: a log, and 3 of 4 replicas
// that certify it. It is honest; gateways are not.
type notary struct {
	genesis  digest.Digest
	origin   string
	logKey   ed25519.PrivateKey
	replicas []ed25519.PrivateKey
	policy   *tlog.Policy
	bundle   *trust.Bundle

	mu     sync.Mutex // guards the rest
	log    *tlog.Range
	nodes  map[tlog.NodeID]digest.Digest
	leaves [][]byte
	blocks uint64                   // sealed; the newest has this height less one
	clock  uint64                   // Unix seconds of the next cosignatures
	done   map[digest.Digest][]byte // receipts given
}

func newNotary(t testing.TB) *notary {
	t.Helper()
	n := &notary{
		genesis: digest.Plain([]byte(t.Name())), log: tlog.NewRange(),
		nodes: map[tlog.NodeID]digest.Digest{}, clock: 1_700_000_000, done: map[digest.Digest][]byte{},
	}
	origin, err := tlog.Origin("test.lacre", n.genesis)
	must(t, err)
	n.origin = origin
	n.logKey = newEd25519(t)
	logKey, err := tlog.NewVerifierKey(origin, tlog.LogKey, n.logKey.Public().(ed25519.PublicKey))
	must(t, err)
	var replicas []tlog.VerifierKey
	for i := range 4 {
		private := newEd25519(t)
		key, err := tlog.NewVerifierKey(fmt.Sprintf("replica-%d", i), tlog.CosignerKey, private.Public().(ed25519.PublicKey))
		must(t, err)
		n.replicas, replicas = append(n.replicas, private), append(replicas, key)
	}
	n.policy, err = tlog.NewQuorumPolicy([]tlog.VerifierKey{logKey}, replicas, 3)
	must(t, err)
	n.bundle, err = trust.New(trust.Epoch{Policy: n.policy})
	must(t, err)
	must(t, n.seal()) // the genesis block
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return private
}

// Node implements tlog.Nodes.
func (n *notary) Node(id tlog.NodeID) (digest.Digest, error) { return n.nodes[id], nil }

// certificate certifies the log as it is; the caller holds mu.
func (n *notary) certificate() (*tlog.Certificate, error) {
	checkpoint := tlog.Checkpoint{Origin: n.origin, Size: n.log.Size(), Root: n.log.Root()}
	logSignature, err := tlog.SignLog(n.logKey, checkpoint)
	if err != nil {
		return nil, err
	}
	var cosignatures []tlog.Cosignature
	for i, key := range n.replicas[1:] {
		c, err := tlog.Cosign(key, fmt.Sprintf("replica-%d", i+1), checkpoint, n.clock)
		if err != nil {
			return nil, err
		}
		cosignatures = append(cosignatures, c)
	}
	return n.policy.Assemble(checkpoint, logSignature, cosignatures)
}

// receipt records a sample and certifies it; the same sample gives the same receipt.
func (n *notary) receipt(request *ingestv1.SubmitRequest) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := sample.Parse(request.GetHeader())
	if err != nil {
		return nil, err
	}
	if old, ok := n.done[s.Digest]; ok {
		return old, nil
	}
	leaf, err := measurement(request, s)
	if err != nil {
		return nil, err
	}
	if err := n.seal(leaf); err != nil {
		return nil, err
	}
	text, err := n.prove(n.log.Size() - 2)
	n.done[s.Digest] = text
	return text, err
}

// measurement is a well-formed leaf; what it names besides the sample is made
// up, for a receipt does not prove it.
func measurement(request *ingestv1.SubmitRequest, s *sample.Sample) ([]byte, error) {
	some := digest.Of(digest.Statement, []byte("made up"))
	c := claim.Claim{
		NetworkID: s.NetworkID, Sample: s.Digest, Algorithm: some, Registration: some,
		ProfileVersion: claim.ProfileVersion, FuelLimit: 2, FuelUsed: 1, Input: some,
		Result: make([]byte, 8), // valid, without values
	}
	b, err := c.Encode()
	if err != nil {
		return nil, err
	}
	return record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
		Header: request.GetHeader(), Signature: request.GetSignature(), Claim: b, EndorsementSet: some[:],
		Approval: some[:], Config: some[:], Disposition: recordv1.Disposition_DISPOSITION_ON_TIME,
	}}})
}

// seal makes a block of leaves and its header; the caller holds mu.
func (n *notary) seal(leaves ...[]byte) error {
	header, err := headerOf(n.blocks)
	if err != nil {
		return err
	}
	for _, leaf := range append(leaves, header) {
		n.append(leaf)
	}
	n.blocks++
	return nil
}

// append puts a leaf into the log; the caller holds mu and will seal.
func (n *notary) append(leaf []byte) (index uint64) {
	n.leaves = append(n.leaves, leaf)
	n.log.AppendVisit([]digest.Digest{tlog.LeafHash(leaf)}, func(id tlog.NodeID, h digest.Digest) { n.nodes[id] = h })
	return n.log.Size() - 1
}

// prove proves a leaf in the log as it is; the caller holds mu.
func (n *notary) prove(index uint64) ([]byte, error) {
	certificate, err := n.certificate()
	if err != nil {
		return nil, err
	}
	path, err := tlog.InclusionProof(n, index, n.log.Size())
	if err != nil {
		return nil, err
	}
	proof, err := tlog.NewProof(n.leaves[index], index, path, certificate)
	if err != nil {
		return nil, err
	}
	return proof.Text(), nil
}

// head answers as a gateway that follows the ledger.
func (n *notary) head() (*ingestv1.GetHeadResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, err := n.prove(n.log.Size() - 1)
	return &ingestv1.GetHeadResponse{Proof: text}, err
}

// headerOf is the header record of a block. It says nothing but the height: a
// meter can judge no more of it.
func headerOf(height uint64) ([]byte, error) {
	return record.Encode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: &recordv1.BlockHeader{Version: 1, Height: height}}})
}

// blockOf is what a sample names that knows a block.
func blockOf(height uint64) digest.Digest {
	header, err := headerOf(height)
	if err != nil {
		panic(err) // cannot be: a header of two numbers
	}
	return record.HeaderDigest(header)
}

// gateway is an ingest service over real TLS sockets that does what a test says.
type gateway struct {
	ingestv1.UnimplementedIngestServiceServer
	address     string
	certificate []byte // DER; who trusts it reaches the gateway

	// answer gives the answers that follow one request, in order; an error ends the
	// stream. Calls are serialised.
	answer func(request *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error)
	head   func() (*ingestv1.GetHeadResponse, error)
	vault  *vault // of evidence

	mu   sync.Mutex
	seen map[uint64]int // requests by counter

	heartbeats     [][]byte // that came
	heartbeatError error    // the answer to the next
}

// startGateway serves until the test ends. It is honest unless changed before
// the meter opens.
func startGateway(t testing.TB, n *notary) *gateway {
	t.Helper()
	g := &gateway{head: n.head, seen: map[uint64]int{}, vault: newVault()}
	g.answer = func(r *ingestv1.SubmitRequest) ([]*ingestv1.SubmitResponse, error) {
		a, err := honest(n, r)
		return []*ingestv1.SubmitResponse{a}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	g.certificate = der
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g.address = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	ingestv1.RegisterIngestServiceServer(server, g)
	evidencev1.RegisterEvidenceServiceServer(server, g.vault)
	go server.Serve(listener) // ends with Stop
	t.Cleanup(server.Stop)
	return g
}

// deadAddress is one where nobody listens: the port of tcpmux, which no system has
// served for decades and no outgoing connection is given.
const deadAddress = "127.0.0.1:1"

func digestOf(r *ingestv1.SubmitRequest) []byte {
	s, err := sample.Parse(r.GetHeader())
	if err != nil {
		return nil
	}
	return s.Digest[:]
}

// honest is the receipt, after the checks of which a meter must pass every one.
func honest(n *notary, r *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	text, err := n.receipt(r)
	return receiptAnswer(r, text), err
}

func receiptAnswer(r *ingestv1.SubmitRequest, text []byte) *ingestv1.SubmitResponse {
	return &ingestv1.SubmitResponse{Sample: digestOf(r), Answer: &ingestv1.SubmitResponse_Receipt{Receipt: &ingestv1.Receipt{Receipt: text}}}
}

func refusalAnswer(r *ingestv1.SubmitRequest, refusal *ingestv1.Refusal) *ingestv1.SubmitResponse {
	return &ingestv1.SubmitResponse{Sample: digestOf(r), Answer: &ingestv1.SubmitResponse_Refusal{Refusal: refusal}}
}

func pendingAnswer(r *ingestv1.SubmitRequest) *ingestv1.SubmitResponse {
	return &ingestv1.SubmitResponse{Sample: digestOf(r), Answer: &ingestv1.SubmitResponse_Pending{Pending: &ingestv1.Pending{}}}
}

func (g *gateway) GetHead(context.Context, *ingestv1.GetHeadRequest) (*ingestv1.GetHeadResponse, error) {
	return g.head()
}

func (g *gateway) SubmitHeartbeat(_ context.Context, r *ingestv1.SubmitHeartbeatRequest) (*ingestv1.SubmitHeartbeatResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heartbeats = append(g.heartbeats, r.GetRecord())
	return &ingestv1.SubmitHeartbeatResponse{}, g.heartbeatError
}

func (g *gateway) SubmitStream(stream ingestv1.IngestService_SubmitStreamServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		s, err := sample.Parse(request.GetSubmit().GetHeader())
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		g.mu.Lock()
		g.seen[s.Counter]++
		answers, failure := g.answer(request.GetSubmit())
		g.mu.Unlock()
		for _, a := range answers {
			if a == nil {
				continue
			}
			if err := stream.Send(&ingestv1.SubmitStreamResponse{Submit: a}); err != nil {
				return err
			}
		}
		if failure != nil {
			return failure
		}
	}
}

// requests counts how often a counter came.
func (g *gateway) requests(counter uint64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[counter]
}

// checkChain verifies what any verifier would of a meter's samples.
func checkChain(t *testing.T, key signature.Key, samples []*sample.Sample, signatures [][]byte) {
	t.Helper()
	for i, s := range samples {
		if !signature.Verify(key.Kind(), key, s.Signed(), signatures[i]) {
			t.Errorf("counter %d: its signature does not verify", s.Counter)
		}
		if i > 0 && (s.Counter != samples[i-1].Counter+1 || s.Previous != samples[i-1].Digest) {
			t.Errorf("counter %d does not follow counter %d", s.Counter, samples[i-1].Counter)
		}
	}
}
