package ledger

import (
	"errors"
	"net"
	"net/http"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// openAdmin opens the operator's port.
func (s *Service) openAdmin() (err error) {
	s.metrics.MustRegister(s.gauges(), admin.Certificate(s.node.NotAfter))
	s.admin, err = admin.New(s.config.Admin, admin.Options{
		Service: "ledger", NodeID: s.config.NodeID, Formats: map[string]int{"proposal": propose.Version},
		Registry: s.metrics, Ready: s.server.Ready, Logger: s.log,
		Handlers: map[string]http.Handler{BackupPath: http.HandlerFunc(s.serveBackup)},
	})
	return err
}

// AdminAddr is where the admin port listens; nil when there is none.
func (s *Service) AdminAddr() net.Addr { return s.admin.Addr() }

// Close releases what New opened, of a replica that is never run.
func (s *Service) Close() error {
	var failures []error
	for i := len(s.opened) - 1; i >= 0; i-- {
		failures = append(failures, s.opened[i]())
	}
	s.opened = nil
	return dataLoss(errors.Join(failures...))
}
