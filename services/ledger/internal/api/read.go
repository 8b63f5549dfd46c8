package api

import (
	"context"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/version"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

const retryDelay = 250 * time.Millisecond

// GetStatus tells where this replica stands.
func (s *Server) GetStatus(context.Context, *ledgerv1.GetStatusRequest) (*ledgerv1.GetStatusResponse, error) {
	applied := s.Machine.Head().Block
	certified := s.Collector.Newest().Block
	leader, _ := s.Order.Leader()
	cosigners, err := s.Cosigners()
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetStatusResponse{
		NodeId: s.NodeID, Origin: s.Origin, NetworkId: s.NetworkID.Bytes(), Leader: leader,
		AppliedHeight: applied.Height, CertifiedHeight: certified.Height, TreeSize: certified.Size,
		BlockTimeUnixNano: certified.BlockTimeUnixNano, Header: certified.Header.Bytes(), Config: certified.Config.Bytes(),
		Version: version.String(), Cosigners: cosigners, BadProposals: s.Machine.BadProposals(),
	}, nil
}

// Cosigners is what this replica heard of every replica of the configuration, itself among them. A certificate shows
// exactly a quorum, so that this alone tells who is missing.
func (s *Server) Cosigners() ([]*ledgerv1.Cosigner, error) {
	config, err := state.GetConfig(s.Store)
	if err != nil {
		return nil, err
	}
	list := make([]*ledgerv1.Cosigner, len(config.Message.GetReplicas()))
	for i, r := range config.Message.GetReplicas() {
		name := state.CosignerName(s.Origin, r.GetNodeId())
		list[i] = &ledgerv1.Cosigner{NodeId: r.GetNodeId(), Height: s.Collector.Seen(name), TimestampUnix: s.Collector.Heard(name)}
	}
	return list, nil
}

// GetCheckpoint returns the newest certificate, or the first at or above a height.
func (s *Server) GetCheckpoint(_ context.Context, request *ledgerv1.GetCheckpointRequest) (*ledgerv1.GetCheckpointResponse, error) {
	if request.Height == nil {
		certificate, height, err := s.newest()
		if err != nil {
			return nil, err
		}
		return &ledgerv1.GetCheckpointResponse{Height: height, Certificate: certificate.Text()}, nil
	}
	c, ok, err := s.Certificates.From(request.GetHeight())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, reason.New(reason.NotFound, "block %d is not certified; the newest certified is %d", request.GetHeight(), s.Collector.Newest().Block.Height)
	}
	certificate, err := s.presentable(c)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetCheckpointResponse{Height: c.Height, Certificate: certificate.Text()}, nil
}

// newest is the newest certificate under the newest time stamps.
func (s *Server) newest() (*tlog.Certificate, uint64, error) {
	fresh := s.Collector.Fresh()
	if len(fresh.Text) == 0 {
		return nil, 0, reason.New(reason.NotCertified, "no block is certified yet")
	}
	certificate, err := s.presentable(storage.Certificate{Height: fresh.Block.Height, Note: fresh.Text})
	return certificate, fresh.Block.Height, err
}

// NewestCertificate is what GetCheckpoint answers, for the other ways to ask.
func (s *Server) NewestCertificate() (*tlog.Certificate, error) {
	certificate, _, err := s.newest()
	return certificate, err
}

// Guard runs a read that answers by another way than gRPC, as every call runs:
// not after damage was found, and damage that it finds ends the replica.
func (s *Server) Guard(ctx context.Context, read func(context.Context) error) error {
	return s.guard.call(ctx, read)
}

// GetTrust returns the verifier's trust bundle.
func (s *Server) GetTrust(context.Context, *ledgerv1.GetTrustRequest) (*ledgerv1.GetTrustResponse, error) {
	bundle, err := trustBundle(s.Store, s.NetworkID, s.Collector.Newest().Block.Height)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetTrustResponse{Trust: bundle.Bytes()}, nil
}

// GetRecord returns one certified leaf with its inclusion proof.
func (s *Server) GetRecord(_ context.Context, request *ledgerv1.GetRecordRequest) (*ledgerv1.GetRecordResponse, error) {
	certificate, err := s.covering(request.GetIndex())
	if err != nil {
		return nil, err
	}
	record, path, err := s.proven(request.GetIndex(), certificate)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetRecordResponse{Record: record, Proof: bytesOf(path), Certificate: certificate.Text()}, nil
}

// GetReceipt returns the receipt of one measurement.
func (s *Server) GetReceipt(_ context.Context, request *ledgerv1.GetReceiptRequest) (*ledgerv1.GetReceiptResponse, error) {
	index, err := s.locate(request.GetMeasurement())
	if err != nil {
		return nil, err
	}
	text, err := s.receipt(index)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetReceiptResponse{Receipt: text}, nil
}

// GetConsistencyProof shows that one tree extends another.
func (s *Server) GetConsistencyProof(_ context.Context, request *ledgerv1.GetConsistencyProofRequest) (*ledgerv1.GetConsistencyProofResponse, error) {
	certified := s.Collector.Newest().Block.Size
	if request.GetFromSize() > request.GetToSize() || request.GetToSize() > certified {
		return nil, reason.New(reason.NotFound, "sizes %d and %d, want them ascending and at most %d, the certified size", request.GetFromSize(), request.GetToSize(), certified)
	}
	path, err := tlog.ConsistencyProof(s.Store, request.GetFromSize(), request.GetToSize())
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetConsistencyProofResponse{Proof: bytesOf(path)}, nil
}
