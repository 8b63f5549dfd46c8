package api

import (
	"slices"

	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// lacks tells whether a block is given without a raw vector that expired.
func lacks(stored storage.Stored) bool {
	return slices.ContainsFunc(stored.RawVectors, func(v storage.RawVector) bool { return len(v.Bytes) == 0 })
}

// expiryProof shows the newest certified decision that raw vectors expire to a
// replica that does not hold the ledger yet.
func (s *Server) expiryProof() ([]byte, error) {
	certificate, height, err := s.newest()
	if err != nil {
		return nil, err
	}
	decisions, err := state.Expiries(s.Store)
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Backward(decisions) {
		index := d.GetLast().GetIndex()
		if index >= certificate.Checkpoint.Size {
			continue
		}
		leaf, path, err := s.proven(index, certificate)
		if err != nil {
			return nil, err
		}
		blocks, err := s.configurationBlocks(height)
		if err != nil {
			return nil, err
		}
		proof := &recordv1.ProvenExpiry{Configurations: &recordv1.ConfigurationHistory{}, Decision: receipt.Prove(leaf, index, path), Certificate: certificate.Text()}
		for _, block := range blocks {
			item, err := s.certifiedConfiguration(block)
			if err != nil {
				return nil, err
			}
			proof.Configurations.Configurations = append(proof.Configurations.Configurations, item)
		}
		return governance.EncodeExpiry(proof)
	}
	return nil, reason.New(reason.NotCertified, "no decision that raw vectors expire is certified here yet")
}
