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
	os.Exit(daemon.Main("ledger", os.Args[1:], os.Stderr, func(ctx context.Context, c ledger.Config, log *slog.Logger) error {
		service, err := ledger.New(c, log)
		if err != nil {
			return err
		}
		return service.Run(ctx)
	}))
}
