//go:build !robustness

package ledger

import "github.com/lacre-metrology/lacre/services/ledger/internal/certify"

// broadcast hands a cosignature to the peers.
func (s *Service) broadcast(signed certify.Signed) { s.peers.Broadcast(signed) }
