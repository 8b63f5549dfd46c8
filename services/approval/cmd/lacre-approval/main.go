// Command lacre-approval runs one approval service from a configuration file.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/approval"
)

func main() {
	os.Exit(daemon.Main("approval", os.Args[1:], os.Stderr, func(ctx context.Context, c approval.Config, log *slog.Logger) error {
		service, err := approval.New(c, log)
		if err != nil {
			return err
		}
		return service.Run(ctx)
	}))
}
