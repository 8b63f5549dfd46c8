// Command lacre-ledger runs one ledger service from a configuration file.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func main() {
	os.Exit(daemon.MainReloading("ledger", os.Args[1:], os.Stderr, func(ctx context.Context, c ledger.Config, reload func(func(ledger.Config) error), log *slog.Logger) error {
		service, err := ledger.New(c, log)
		if err != nil {
			return err
		}
		reload(func(c ledger.Config) error { return service.SetPeers(c.Peers) })
		return service.Run(ctx)
	}))
}
