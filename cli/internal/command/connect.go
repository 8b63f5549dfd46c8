package command

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
)

// target says which network a command means: a directory that knows all its
// nodes, or one node by address and pinned key.
type target struct {
	dir    string // --network
	server string // --server
	spki   string // --spki
}

// flags declares --network, --server and --spki.
func (t *target) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.dir, "network", "", "directory of a network (with network.json); default "+defaultNetworkDir+" if there is one")
	c.Flags().StringVar(&t.server, "server", "", "HOST:PORT of the node to ask, instead of the network's")
	c.Flags().StringVar(&t.spki, "spki", "", "SHA-256 of that node's TLS public key in hexadecimal; needed when no network directory names the node")
}

// network loads the directory; nil without one.
func (t *target) network() (*devnet.Network, error) {
	dir := t.dir
	if dir == "" {
		dir = defaultNetworkDir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	n, err := devnet.Load(dir)
	if t.dir == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("--network %s holds no network.json; \"lacre dev --dir %s\" makes a network there", t.dir, t.dir)
	}
	return n, err
}

// required is network, and an error without one.
func (t *target) required() (*devnet.Network, error) {
	n, err := t.network()
	if err == nil && n == nil {
		err = usage("no network here: run \"lacre dev\", or give --network DIR")
	}
	return n, err
}

// endpoint is where a node of a role answers, and its TLS key.
func (t *target) endpoint(role recordv1.Role) (address string, spki identity.SPKI, err error) {
	network, err := t.network()
	if err != nil {
		return "", spki, err
	}
	address, key := t.server, t.spki
	switch {
	case address == "" && network == nil:
		return "", spki, usage("no network here: run \"lacre dev\", or give --network DIR, or --server HOST:PORT with --spki HEX")
	case address == "":
		node := network.ByRole(role)[0]
		address, key = node.Address, node.SPKI
	case key == "" && network != nil:
		for _, node := range network.Nodes {
			if node.Address == address {
				key = node.SPKI
			}
		}
	}
	if key == "" {
		return "", spki, usage("the TLS key of %s is not known: give --spki HEX, or the --network DIR that names it", address)
	}
	d, err := digest.Parse(key)
	if err != nil {
		return "", spki, usage("--spki: %w", err)
	}
	return address, identity.SPKI(d), nil
}

// call connects to a node of a role, as the public, and calls f.
func (t *target) call(ctx context.Context, role recordv1.Role, f func(context.Context, grpc.ClientConnInterface) error) error {
	address, spki, err := t.endpoint(role)
	if err != nil {
		return err
	}
	return call(ctx, address, spki, nil, f)
}

// call connects to a node, as the public if as is nil, and calls f.
func call(ctx context.Context, address string, spki identity.SPKI, as *identity.Node, f func(context.Context, grpc.ClientConnInterface) error) error {
	connection, err := rpcclient.Dial(address, rpcclient.Options{Node: as, Server: identity.Pin(spki), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, connection), connection.Close())
}

// trustFlags declares --trust and --pin.
type trustFlags struct {
	file, pin string
}

func (t *trustFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.file, "trust", "", "file of the trust bundle")
	c.Flags().StringVar(&t.pin, "pin", "", "digest that the trust bundle must have, in hexadecimal")
}

// read reads the bundle, or that of the network directory; nil without either.
func (t *trustFlags) read(n *devnet.Network) (*trust.Bundle, error) {
	file := t.file
	if file == "" && n != nil {
		file = n.TrustPath()
	}
	if file == "" {
		if t.pin != "" {
			return nil, usage("--pin without --trust: there is no trust bundle to compare")
		}
		return nil, nil
	}
	bundle, err := readTrust(file)
	if err != nil {
		return nil, err
	}
	return bundle, t.check(bundle)
}

// check compares a bundle's digest with --pin.
func (t *trustFlags) check(bundle *trust.Bundle) error {
	if t.pin == "" {
		return nil
	}
	want, err := digest.Parse(t.pin)
	if err != nil {
		return usage("--pin: %w", err)
	}
	if got := bundle.Digest(); got != want {
		return &exitError{code: ExitRefuted, err: errors.New("the trust bundle has digest " + got.String() + ", pinned is " + want.String())}
	}
	return nil
}

// writeFile writes an artefact that may be read by all; "-" and "" are stdout.
func (a *app) writeFile(path string, content []byte) error {
	if path == "" || path == "-" {
		_, err := a.out.Write(content)
		return err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // receipts, bundles and statements are there to be handed on.
		return err
	}
	a.say("wrote %s (%d bytes)", path, len(content))
	return nil
}
