// Command lacre-ledger runs one ledger service from a configuration file.
package main

import (
	"os"

	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func main() {
	os.Exit(daemon.MainReloading("ledger", os.Args[1:], os.Stderr, ledger.Serve))
}
