package attack

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/vector"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

const (
	spacingMillimetres   = 2000
	sampleRateMillihertz = 1_000_000

	retryAfter = 50 * time.Millisecond
	maxTries   = 200
)

// sensor is a registered meter that signs whatever it is told to.
type sensor struct {
	stage  *stage
	id     string
	key    crypto.Signer
	tls    *identity.Node
	ingest ingestv1.IngestServiceClient

	first    *ingestv1.SubmitRequest // the first sample, which has a receipt
	counter  uint64                  // of the newest sample
	previous digest.Digest
}

// sensor makes a meter's keys, has the notified body register it, and measures
// once, so that everybody who must know the meter does.
func (s *stage) sensor(ctx context.Context, id string) (*sensor, error) {
	m, err := s.unregistered(id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	_, err = s.state(ctx, record.SubjectMeter(id), func(h *recordv1.StatementHeader) proto.Message {
		draft, failed := statement.Registration(statement.Place{NetworkID: s.networkID, Sequence: h.GetSequence()}, now, statement.Meter{
			ID: id, Public: m.key.Public(), TLS: m.tls.SPKI(), Seal: "S-" + id, Site: &recordv1.Site{Name: "simulated road", Lane: 1},
			SpacingMillimetres: spacingMillimetres, SampleRateMillihertz: sampleRateMillihertz,
			Verification: &recordv1.Verification{Certificate: "simulated", ValidFromUnixNano: now.Add(-time.Hour).UnixNano(), ValidUntilUnixNano: now.AddDate(1, 0, 0).UnixNano()},
		})
		err = failed
		return draft
	}, devnet.NotifiedBody)
	if err != nil {
		return nil, fmt.Errorf("register meter %s: %w", id, err)
	}
	m.first, err = m.honest(ctx)
	return m, err
}

// unregistered makes a meter's keys alone.
func (s *stage) unregistered(id string) (*sensor, error) {
	m := &sensor{stage: s, id: id}
	dir := s.network.MeterDir(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if m.key, err = statement.GenerateKey(filepath.Join(dir, "key.pem"), statement.Ed25519); err != nil {
		return nil, err
	}
	if m.tls, err = identity.Generate(filepath.Join(dir, "tls.pem")); err != nil {
		return nil, err
	}
	connection, err := s.dial(devnet.Gateway, m.tls)
	if err != nil {
		return nil, err
	}
	m.ingest = ingestv1.NewIngestServiceClient(connection)
	return m, nil
}

// passing is the signal of one vehicle at 80 km/h, encoded.
func passing() ([]byte, uint32, error) {
	rng := sim.NewRand(1, 1)
	recording := sim.Pass(sim.Good(80, sampleRateMillihertz/1000, spacingMillimetres/1000., sim.Families, rng), rng)
	raw, err := vector.Encode(recordv1.Encoding_ENCODING_RICE, recording.Samples)
	return raw, uint32(len(recording.Samples[0])), err
}

// capture signs the next sample, changed as the caller likes, with a key.
func (m *sensor) capture(ctx context.Context, key crypto.Signer, change ...func(*sample.Header)) (*ingestv1.SubmitRequest, *sample.Sample, error) {
	height, block, err := m.stage.head(ctx)
	if err != nil {
		return nil, nil, err
	}
	raw, n, err := passing()
	if err != nil {
		return nil, nil, err
	}
	h := &sample.Header{
		NetworkID: m.stage.networkID, MeterID: m.id, Counter: m.counter + 1, Previous: m.previous,
		CapturedAtUnixNano: time.Now().UnixNano(), ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		KnownHeight: height, KnownBlock: block, Channels: 2, SamplesPerChannel: n,
		SampleRateMillihertz: sampleRateMillihertz, Encoding: recordv1.Encoding_ENCODING_RICE, RawDigest: sample.DigestRaw(raw),
	}
	for _, f := range change {
		f(h)
	}
	signed, sig, err := sample.Sign(key, h)
	if err != nil {
		return nil, nil, err
	}
	return &ingestv1.SubmitRequest{Header: signed.Bytes, Signature: sig, RawVector: raw}, signed, nil
}

// send hands a sample to the gateway; nil means that it has a receipt.
func (m *sensor) send(ctx context.Context, request *ingestv1.SubmitRequest) error {
	response, err := m.ingest.Submit(ctx, request)
	if err != nil {
		return err
	}
	switch {
	case response.GetReceipt() != nil:
		return nil
	case response.GetRefusal() != nil:
		return &reason.Error{Reason: reason.Reason(response.GetRefusal().GetReason()), Detail: response.GetRefusal().GetDetail()}
	}
	return fmt.Errorf("meter %s: the gateway has no answer yet", m.id)
}

// honest measures once, as it should be.
func (m *sensor) honest(ctx context.Context) (*ingestv1.SubmitRequest, error) {
	request, signed, err := m.capture(ctx, m.key)
	if err != nil {
		return nil, err
	}
	if err := patiently(ctx, func() error { return m.send(ctx, request) }); err != nil {
		return nil, fmt.Errorf("an honest sample: %w", err)
	}
	m.counter, m.previous = signed.Counter, signed.Digest
	return request, nil
}

// patiently asks again, as a meter's outbox does, while the reason may pass: who
// asks may be ahead of who answers.
func patiently(ctx context.Context, ask func() error) error {
	err := ask()
	for tries := 0; err != nil && tries < maxTries && !rpcerror.Permanent(reason.Of(err)); tries++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryAfter):
		}
		err = ask()
	}
	return err
}

// attempt sends a sample that must be refused, and then an honest one, which must
// not be: an attack costs the meter nothing.
func (m *sensor) attempt(ctx context.Context, request *ingestv1.SubmitRequest, want reason.Reason) (string, error) {
	seen, err := wantRefusal(m.send(ctx, request), want)
	if err != nil {
		return "", err
	}
	_, err = m.honest(ctx)
	return seen, err
}

// head is the newest block that the gateway proves.
func (s *stage) head(ctx context.Context) (uint64, digest.Digest, error) {
	connection, err := s.gatewayAsPublic()
	if err != nil {
		return 0, digest.Zero, err
	}
	response, err := connection.GetHead(ctx, &ingestv1.GetHeadRequest{})
	if err != nil {
		return 0, digest.Zero, err
	}
	proof, err := tlog.ParseProof(response.GetProof())
	if err != nil {
		return 0, digest.Zero, err
	}
	r, err := record.Parse(proof.Extra)
	if err != nil {
		return 0, digest.Zero, err
	}
	return r.GetBlockHeader().GetHeight(), record.HeaderDigest(proof.Extra), nil
}

func (s *stage) gatewayAsPublic() (ingestv1.IngestServiceClient, error) {
	connection, err := s.dial(devnet.Gateway, nil)
	if err != nil {
		return nil, err
	}
	return ingestv1.NewIngestServiceClient(connection), nil
}
