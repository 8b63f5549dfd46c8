// Command lacre-ledger runs one ledger service from a configuration file.
package main

import (
	"os"

	_ "gocloud.dev/blob/s3blob" // raw vectors in S3

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func main() {
	os.Exit(daemon.MainReloading("ledger", os.Args[1:], os.Stderr, ledger.Serve))
}
