package ledger

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/services/ledger/internal/peers"
)

func validatePeers(list []Peer) error {
	var failures []error
	seen := make(map[string]bool)
	for i, p := range list {
		if err := record.CheckID(p.NodeID); err != nil {
			failures = append(failures, fmt.Errorf("peers[%d].node_id: %w", i, err))
		}
		if seen[p.NodeID] {
			failures = append(failures, fmt.Errorf("peers[%d].node_id: %q stands there twice", i, p.NodeID))
		}
		seen[p.NodeID] = true
		if p.SPKI == "" {
			continue
		}
		if _, err := digest.Parse(p.SPKI); err != nil {
			failures = append(failures, fmt.Errorf("peers[%d].spki: %w", i, err))
		}
	}
	return errors.Join(failures...)
}

// SetPeers replaces where the other replicas are, while the replica runs: a
// replica that joins must be in every other's list before the configuration
// that names it. After an error nothing has changed.
func (s *Service) SetPeers(list []Peer) error {
	if err := validatePeers(list); err != nil {
		return err
	}
	before := s.book.Swap(&list)
	if err := s.peers.Set(s.peerList(list)); err != nil {
		s.book.Store(before)
		return err
	}
	s.log.Info("the addresses of the peers were read again", "peers", len(list))
	return nil
}

func (s *Service) peerList(list []Peer) []peers.Peer {
	out := make([]peers.Peer, len(list))
	for i, p := range list {
		out[i] = peers.Peer{NodeID: p.NodeID, Address: p.Address, Check: s.peerCheck(p.NodeID)}
	}
	return out
}

// peerCheck judges the key of a peer's server: the one that the ledger registers
// for the node or, while the ledger that was read so far knows no such node, the
// one that the configuration pins. Fetched blocks carry their own proof.
func (s *Service) peerCheck(id string) identity.Check {
	registered := registry.Node(s.registry, id)
	return func(spki identity.SPKI) error {
		err := registered(spki)
		if err == nil {
			return nil
		}
		pinned, ok := s.peer(id)
		if !ok || pinned.SPKI == "" {
			return err
		}
		if node, failed := state.GetNode(s.store, id); failed != nil || node != nil && node.GetRegistrationIndex() < s.collector.Newest().Block.Size {
			return errors.Join(err, failed)
		}
		if want, failed := digest.Parse(pinned.SPKI); failed != nil || identity.SPKI(want) != spki {
			return errors.Join(err, failed)
		}
		return nil
	}
}

// peer is the local configuration of another replica.
func (s *Service) peer(id string) (Peer, bool) {
	for _, p := range *s.book.Load() {
		if p.NodeID == id {
			return p, true
		}
	}
	return Peer{}, false
}

// resolve is where the ordering engine of a replica is.
func (s *Service) resolve(id string) (string, error) {
	if p, ok := s.peer(id); ok && p.RaftAddress != "" {
		return p.RaftAddress, nil
	}
	return "", fmt.Errorf("replica %q has no address in this node's configuration", id)
}
