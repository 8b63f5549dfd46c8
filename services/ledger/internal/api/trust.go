package api

import (
	"fmt"
	"slices"
	"sort"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// trustBundle makes the verifier's trust bundle from the configurations on the
// ledger, the genesis configuration first. A configuration is alone in its
// block (rule C6), and that block is the last that the one before certifies.
func trustBundle(store *storage.Store) (*trust.Bundle, error) {
	config, err := state.GetConfig(store)
	if err != nil {
		return nil, err
	}
	messages := []*recordv1.NetworkConfig{config.Message}
	var ends []uint64 // tree sizes at which all but the newest end, newest first
	for height := config.Height; height > 0; {
		block, _, err := store.Block(height)
		if err != nil {
			return nil, err
		}
		ends = append(ends, block.Size)
		before, _, err := store.Block(height - 1)
		if err != nil {
			return nil, err
		}
		// Blocks under one configuration are consecutive: find the first of them.
		var failed error
		first := sort.Search(int(height), func(h int) bool {
			ref, _, err := store.Block(uint64(h))
			if err != nil {
				failed = err
			}
			return ref.Config == before.Config
		})
		if failed != nil {
			return nil, failed
		}
		message, err := configOf(store, uint64(first))
		if err != nil {
			return nil, err
		}
		messages, height = append(messages, message), uint64(first)
	}
	slices.Reverse(messages)
	slices.Reverse(ends)
	epochs := make([]trust.Epoch, len(messages))
	for i, m := range messages {
		policy, err := state.PolicyOf(m, config.NetworkID)
		if err != nil {
			return nil, err
		}
		epochs[i].Policy = policy
		if i < len(ends) {
			epochs[i].LastSize = ends[i]
		}
	}
	return trust.New(epochs...)
}

// configOf reads the configuration that a block brought.
func configOf(store *storage.Store, height uint64) (*recordv1.NetworkConfig, error) {
	leaves, err := store.Leaves(height)
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(leaves[0])
	if err != nil {
		return nil, err
	}
	message := new(recordv1.NetworkConfig)
	if err := record.Decode(r.GetStatement().GetPayload(), record.MaxBytes, message); err != nil {
		return nil, fmt.Errorf("configuration of block %d: %w", height, err)
	}
	return message, nil
}
