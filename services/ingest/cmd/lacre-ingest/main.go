// Command lacre-ingest runs one ingest service from a configuration file.
package main

import (
	"context"
	"log/slog"
	"os"

	_ "gocloud.dev/blob/s3blob" // evidence in S3; here alone, so that no other program links it

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/ingest"
)

func main() {
	os.Exit(daemon.Main("ingest", os.Args[1:], os.Stderr, func(ctx context.Context, c ingest.Config, log *slog.Logger) error {
		service, err := ingest.New(c, log)
		if err != nil {
			return err
		}
		return service.Run(ctx)
	}))
}
