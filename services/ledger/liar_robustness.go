//go:build robustness

package ledger

import (
	"slices"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// broadcast hands a cosignature to the peers, or what the suite has this replica
// say instead. Only the last of them is told another root: it is to name the double
// signer, and the first one may have ended with DATA_LOSS, because a leader that
// equivocates gives that one other entries.
func (s *Service) broadcast(signed certify.Signed) {
	_ = fault.Around(fault.Publish, func() error { return nil }) // it returns nothing that could fail
	var ids []string
	for _, p := range s.config.Peers {
		ids = append(ids, p.NodeID)
	}
	witness := slices.Max(ids)
	switch {
	case fault.On(fault.Withhold):
		fault.Told(fault.Withhold)
		return
	case fault.On(fault.BadCosign):
		fault.Told(fault.BadCosign)
		signed.Cosignature.Bytes[7] ^= 1
	case fault.On(fault.DoubleSign):
		other, err := s.signer.Forge(signed)
		if err != nil {
			s.log.Error("forging", "error", err)
			return
		}
		fault.Told(fault.DoubleSign)
		s.peers.SendTo(witness, other)
	case fault.On(fault.OldCosigns):
		if old := said.Swap(&signed); old != nil {
			fault.Told(fault.OldCosigns)
			defer s.peers.Broadcast(*old)
		}
	}
	s.peers.Broadcast(signed)
}

// said is the cosignature before; a process of the suite runs one replica.
var said atomic.Pointer[certify.Signed]
