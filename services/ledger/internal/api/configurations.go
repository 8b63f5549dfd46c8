package api

import (
	"context"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// maxHistoryBytes ends an answer early: other people's gRPC clients accept 4 MiB.
const maxHistoryBytes = 2 << 20

// ListConfigurations returns the certified configurations from a sequence on, each
// with its proof to the certificate of its own block.
func (s *Server) ListConfigurations(_ context.Context, request *ledgerv1.ListConfigurationsRequest) (*ledgerv1.ListConfigurationsResponse, error) {
	blocks, err := s.configurationBlocks(s.Collector.Newest().Block.Height)
	if err != nil {
		return nil, err
	}
	first := max(request.GetFromSequence(), 1)
	if first > uint64(len(blocks)) {
		return nil, reason.New(reason.NotFound, "configuration %d is asked for, the newest certified is %d", first, len(blocks))
	}
	history, response, size := &recordv1.ConfigurationHistory{}, &ledgerv1.ListConfigurationsResponse{}, 0
	for i := first - 1; i < uint64(len(blocks)); i++ {
		item, err := s.certifiedConfiguration(blocks[i])
		if err != nil {
			return nil, err
		}
		if size += len(item.GetConfiguration().GetRecord()) + len(item.GetCertificate()); size > maxHistoryBytes && i > first-1 {
			response.NextSequence = i + 1
			break
		}
		history.Configurations = append(history.Configurations, item)
	}
	response.History, err = governance.Encode(history)
	return response, err
}

// configurationBlocks are the blocks up to a height that brought a configuration.
func (s *Server) configurationBlocks(height uint64) ([]state.BlockRef, error) {
	var blocks []state.BlockRef // newest first
	for {
		first, err := firstUnder(s.Store, height, func(b state.BlockRef) digest.Digest { return b.Config })
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, first)
		if first.Height == 0 {
			slices.Reverse(blocks)
			return blocks, nil
		}
		height = first.Height - 1
	}
}

func (s *Server) certifiedConfiguration(block state.BlockRef) (*recordv1.CertifiedConfiguration, error) {
	certificate, size, err := s.ofBlock(block)
	if err != nil {
		return nil, err
	}
	path, err := tlog.InclusionProof(s.Store, block.FirstIndex, size)
	if err != nil {
		return nil, err
	}
	leaf, err := s.Store.Record(block.FirstIndex)
	if err != nil {
		return nil, err
	}
	return &recordv1.CertifiedConfiguration{Configuration: receipt.Prove(leaf, block.FirstIndex, path), Certificate: certificate}, nil
}

// ofBlock is the certificate of the very block that brought a configuration, by
// both quorums. It is kept, or stands in the header of the next block, which has
// it by rule C6. Of the genesis block the first that there is serves.
func (s *Server) ofBlock(block state.BlockRef) (note []byte, size uint64, err error) {
	c, ok, err := s.Certificates.From(block.Height)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case ok && c.Height == block.Height:
		return c.Note, block.Size, nil
	case block.Height == 0 && ok:
		certificate, err := s.presentable(c)
		if err != nil {
			return nil, 0, err
		}
		return certificate.Text(), certificate.Checkpoint.Size, nil
	}
	next, found, err := s.Store.Block(block.Height + 1)
	if err != nil {
		return nil, 0, err
	}
	if found {
		leaf, err := s.Store.Record(next.Size - 1)
		if err != nil {
			return nil, 0, err
		}
		r, err := record.Parse(leaf)
		if err != nil {
			return nil, 0, err
		}
		if h := r.GetBlockHeader(); h.GetCertifiedHeight() == block.Height && len(h.GetCertificate()) > 0 {
			return h.GetCertificate(), block.Size, nil
		}
	}
	return nil, 0, reason.New(reason.NotCertified, "this replica does not hold the certificate of block %d; ask another", block.Height)
}
