package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// defaultNetworkDir is where `lacre dev` keeps its network, and where the other
// commands look for one.
const defaultNetworkDir = ".lacre/dev"

// readyTimeout bounds the start of a development network.
const readyTimeout = time.Minute

func newDev(a *app) *cobra.Command {
	var dir string
	var verbose bool
	c := a.reading(&cobra.Command{
		Use:   "dev",
		Short: "Start a network on this machine and leave it running",
		Long: `Starts the network of "lacre demo" in a directory that is kept and locked, and
leaves it running until SIGINT or SIGTERM. A restart continues it; nothing that
was applied is applied again. Every key lies in the directory, those of the
notified body and the organisations too, so it is for development only.`,
		Example: `  lacre dev
  lacre dev --dir /tmp/network --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runDev(c.Context(), dir, verbose) },
	})
	c.Flags().StringVar(&dir, "dir", defaultNetworkDir, "directory of the network")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the nodes' logs")
	return c
}

func (a *app) runDev(ctx context.Context, dir string, verbose bool) error {
	network, created, err := devnet.LoadOrCreate(dir, time.Now())
	if err != nil {
		return err
	}
	// Run locks it too. But where another process runs the network already, its
	// nodes would answer that they are ready before this one fails.
	if err := unlocked(network.Dir); err != nil {
		return err
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		err := network.Run(running, a.logger(verbose))
		stop(err) // whoever waits for the network need not wait any longer
		ended <- err
	}()
	starting, cancel := context.WithTimeout(running, readyTimeout)
	defer cancel()
	forget := context.AfterFunc(ctx, func() { stop(nil) }) // SIGINT
	defer forget()
	if err := network.WaitReady(starting); err != nil {
		stop(nil)
		if e := <-ended; e != nil {
			return e // why the network ended says more than that it was not ready
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := a.printNetwork(network, created); err != nil {
		stop(nil)
		return errors.Join(err, <-ended)
	}
	err = <-ended
	a.say("stopped; \"lacre dev --dir %s\" continues", dir)
	return err
}

// unlocked says whether no other process runs the network in dir.
func unlocked(dir string) error {
	lock, err := durable.LockDir(dir, "lacre dev")
	if err != nil {
		return err
	}
	return lock.Unlock()
}

// printNetwork says where everybody is and what to try.
func (a *app) printNetwork(n *devnet.Network, created bool) error {
	bundle, err := readTrust(n.TrustPath())
	if err != nil {
		return err
	}
	if a.json {
		return json.NewEncoder(a.out).Encode(struct {
			*devnet.Network
			Dir     string `json:"dir"`
			Created bool   `json:"created"`
			Trust   string `json:"trust"`
			Digest  string `json:"trust_digest"`
		}{n, n.Dir, created, n.TrustPath(), bundle.Digest().String()})
	}
	var b strings.Builder
	word := "continues"
	if created {
		word = "founded"
	}
	fmt.Fprintf(&b, "network  %s %s in %s\n         id %s\n\n", n.Name, word, n.Dir, n.NetworkID)
	for _, node := range n.Nodes {
		fmt.Fprintf(&b, "  %-20s %-12s %-22s SPKI %s\n", node.ID, node.Organisation, node.Address, node.SPKI)
	}
	fmt.Fprintf(&b, "\ntrust    %s\n         digest %s\n\n%s\nready; SIGINT (Ctrl-C) stops\n", n.TrustPath(), bundle.Digest(), examples(n))
	_, err = a.out.Write([]byte(b.String()))
	return err
}

// examples are commands for another terminal.
func examples(n *devnet.Network) string {
	at := ""
	if here, err := filepath.Abs(defaultNetworkDir); err != nil || here != n.Dir {
		at = " --network " + n.Dir
	}
	replica := n.ByRole(recordv1.Role_ROLE_REPLICA)[0]
	return fmt.Sprintf(`try, in another terminal:
  lacre module test --out report.json
  lacre approval draft%[1]s --test-report report.json --out approval.json
  lacre approval sign approval.json --key %[2]s --key %[3]s --out approval.dsse
  lacre approval submit approval.dsse%[1]s && lacre module install speed%[1]s
  lacre meter keygen my-meter%[1]s && lacre meter register my-meter --key %[2]s%[1]s
  lacre meter simulate my-meter --passes 20%[1]s
  lacre receipt get my-meter 1 --out receipt.tlog%[1]s
  lacre receipt verify receipt.tlog --trust %[4]s
  lacre audit --from %[5]s%[1]s
  buf curl --protocol grpc --insecure https://%[5]s/lacre.ledger.v1.LedgerService/GetStatus
`, at, n.KeyPath(devnet.NotifiedBody), n.KeyPath(devnet.Manufacturer), n.TrustPath(), replica.Address)
}

func readTrust(path string) (*trust.Bundle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	bundle, err := trust.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("trust bundle %s: %w", path, err)
	}
	return bundle, nil
}
