package api

import (
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// trustBundle makes the verifier's trust bundle from the configurations on the
// ledger up to a certified height. A configuration is alone in its block (rule
// C6), and that block is the last that the one before certifies.
func trustBundle(store *storage.Store, networkID digest.Digest, certified uint64) (*trust.Bundle, error) {
	var epochs []trust.Epoch // newest first
	last := uint64(0)        // tree size at which the epoch ends; 0 while it is open
	for height := certified; ; height-- {
		first, err := firstUnder(store, height, func(b state.BlockRef) digest.Digest { return b.Config })
		if err != nil {
			return nil, err
		}
		message, err := configOf(store, first)
		if err != nil {
			return nil, err
		}
		policy, err := state.PolicyOf(message, networkID)
		if err != nil {
			return nil, err
		}
		epochs = append(epochs, trust.Epoch{Policy: policy, LastSize: last})
		if first.Height == 0 {
			break
		}
		last, height = first.Size, first.Height
		if message.GetRecovery() != nil { // rule C8: the replicas before certified nothing of this block
			last = first.FirstIndex
		}
	}
	slices.Reverse(epochs)
	return trust.New(epochs...)
}

// configOf reads the configuration that a block brought: its first leaf.
func configOf(store *storage.Store, block state.BlockRef) (*recordv1.NetworkConfig, error) {
	leaf, err := store.Record(block.FirstIndex)
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return nil, err
	}
	message := new(recordv1.NetworkConfig)
	if err := record.Decode(r.GetStatement().GetPayload(), record.MaxBytes, message); err != nil {
		return nil, fmt.Errorf("configuration of block %d: %w", block.Height, err)
	}
	return message, nil
}

// presentable parses a certificate for whoever verifies it with a trust bundle.
// That of a block that brought a configuration carries the cosignatures of both
// quorums (rule C6); the bundle has the old one answer for that size, and no
// cosignature may be left over.
func (s *Server) presentable(c storage.Certificate) (*tlog.Certificate, error) {
	certificate, err := tlog.ParseCertificate(c.Note)
	if err != nil || c.Height == 0 {
		return certificate, err
	}
	before, err := blockAt(s.Store, c.Height-1)
	if err != nil {
		return nil, err
	}
	block, err := blockAt(s.Store, c.Height)
	if err != nil || block.Config == before.Config {
		return certificate, err
	}
	if brought, err := configOf(s.Store, block); err != nil || brought.GetRecovery() != nil {
		return certificate, err // the new quorum's alone
	}
	first, err := firstUnder(s.Store, before.Height, func(b state.BlockRef) digest.Digest { return b.Config })
	if err != nil {
		return nil, err
	}
	message, err := configOf(s.Store, first)
	if err != nil {
		return nil, err
	}
	policy, err := state.PolicyOf(message, s.NetworkID)
	if err != nil {
		return nil, err
	}
	return policy.Assemble(certificate.Checkpoint, certificate.Log, certificate.Cosignatures)
}
