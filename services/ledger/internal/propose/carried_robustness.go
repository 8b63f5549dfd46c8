//go:build robustness

package propose

import (
	"sync/atomic"

	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// last is the certificate that was carried before this replica began to withhold.
var last atomic.Pointer[certify.Certified]

// carried is the certificate that a proposal carries: the newest, or an old one
// for as long as the suite has this replica withhold them.
func carried(newest certify.Certified) certify.Certified {
	if old := last.Load(); old != nil && fault.On(fault.Withhold) {
		return *old
	}
	last.Store(&newest)
	return newest
}
