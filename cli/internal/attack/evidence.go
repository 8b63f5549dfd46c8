package attack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/evidencekey"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

var strangerReadsEvidence = Scenario{
	Name: "stranger-reads-evidence", Attacker: "gateway, endorser and the public ask for a plate image, and an organisation without an evidence key tries to become a reader",
	Answer: string(reason.PermissionDenied) + ", and " + string(reason.InvalidStatement) + " to the registration; the stored bytes open for the authority alone", Record: "the authority's own reading, EVIDENCE_READ",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "camera")
		if err != nil {
			return "", err
		}
		key, err := evidencekey.Open(s.network.KeyPath(devnet.EvidenceKey), func() (string, error) { return "", errors.New("the development network's is not encrypted") })
		if err != nil {
			return "", err
		}
		where := evidence.Context{NetworkID: s.networkID, MeterID: m.id, MediaType: "image/jpeg"}
		var sealed bytes.Buffer
		piece, err := evidence.Seal(&sealed, key.PublicKey().Bytes(), where, strings.NewReader("the plate is ABC-1D23"))
		if err != nil {
			return "", err
		}
		if err := m.put(ctx, piece, sealed.Bytes()); err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key, func(h *sample.Header) { h.Evidence = []sample.Evidence{piece} })
		if err != nil {
			return "", err
		}
		if err := m.send(ctx, request); err != nil {
			return "", err
		}
		seen := ""
		for _, as := range []string{"", devnet.Gateway, s.endorsers()[0].ID} {
			connection, err := s.node(devnet.Gateway, as)
			if err != nil {
				return "", err
			}
			_, err = read(ctx, connection, piece)
			if seen, err = wantRefusal(err, reason.PermissionDenied); err != nil {
				return "", err
			}
		}
		_, _, err = s.register(ctx, "curious", "university", recordv1.Role_ROLE_AUTHORITY)
		refused, err := wantRefusal(err, reason.InvalidStatement)
		if err != nil {
			return "", err
		}
		_, tls, err := s.register(ctx, "reader", devnet.Authority, recordv1.Role_ROLE_AUTHORITY)
		if err != nil {
			return "", err
		}
		connection, err := s.dial(devnet.Gateway, tls)
		if err != nil {
			return "", err
		}
		got, err := read(ctx, connection, piece)
		if err != nil {
			return "", err
		}
		var content bytes.Buffer
		if err := evidence.Open(&content, key, where, bytes.NewReader(got)); err != nil {
			return "", err
		}
		if bytes.Contains(got, []byte("ABC-1D23")) || !strings.Contains(content.String(), "ABC-1D23") {
			return "", succeeded("the stored piece shows the plate, or does not hold it")
		}
		event, err := s.await(ctx, "the authority's reading", func(r *recordv1.EventReport) bool {
			return r.GetKind() == recordv1.EventKind_EVENT_KIND_EVIDENCE_READ && r.GetSubject() == record.SubjectEvidence(piece.Digest)
		})
		if err != nil {
			return "", err
		}
		return seen + "; " + refused + "; recorded: " + event.GetDetail(), nil
	},
}

// put uploads a sealed piece as the meter.
func (m *sensor) put(ctx context.Context, piece sample.Evidence, sealed []byte) error {
	connection, err := m.stage.dial(devnet.Gateway, m.tls)
	if err != nil {
		return err
	}
	stream, err := evidencev1.NewEvidenceServiceClient(connection).Put(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(
		stream.Send(&evidencev1.PutRequest{Part: &evidencev1.PutRequest_Piece{Piece: &evidencev1.Piece{Digest: piece.Digest.Bytes(), Size: piece.Size}}}),
		stream.Send(&evidencev1.PutRequest{Part: &evidencev1.PutRequest_Chunk{Chunk: sealed}}))
	if _, answer := stream.CloseAndRecv(); answer != nil {
		return answer // why the gateway ended the call says more than that it did
	}
	return err
}

// read asks a gateway for a piece.
func read(ctx context.Context, connection *grpc.ClientConn, piece sample.Evidence) (content []byte, err error) {
	stream, err := evidencev1.NewEvidenceServiceClient(connection).Get(ctx, &evidencev1.GetRequest{Digest: piece.Digest.Bytes(), Purpose: "attack"})
	for err == nil {
		var part *evidencev1.GetResponse
		if part, err = stream.Recv(); err == nil {
			content = append(content, part.GetChunk()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return content, err
}
