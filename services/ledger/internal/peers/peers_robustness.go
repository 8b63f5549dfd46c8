//go:build robustness

package peers

import "github.com/lacre-metrology/lacre/services/ledger/internal/certify"

// SendTo queues a cosignature for one peer alone; the queue may have no room.
func (p *Peers) SendTo(id string, s certify.Signed) {
	select {
	case p.peers[id].cosign <- ToRequest(s):
	default:
	}
}
