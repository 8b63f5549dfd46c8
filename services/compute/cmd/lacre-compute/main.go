// Command lacre-compute runs one compute service from a configuration file.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/compute"
)

func main() {
	os.Exit(daemon.Main("compute", os.Args[1:], os.Stderr, func(ctx context.Context, c compute.Config, log *slog.Logger) error {
		service, err := compute.New(ctx, c, log)
		if err != nil {
			return err
		}
		return service.Run(ctx)
	}))
}
