// Command lacre is the whole of Lacre on a command line: a development network,
// approvals and meters, receipts and audits. `lacre help` lists the commands.
package main

import (
	"os"

	"github.com/lacre-metrology/lacre/cli/internal/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
