package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// moduleGet is the command line of `module get`.
type moduleGet struct {
	target
	tlsKey, out string
}

func newModuleGet(a *app) *cobra.Command {
	var g moduleGet
	c := &cobra.Command{
		Use:   "get MODULE",
		Short: "Get an approved module from an endorser",
		Long: `Asks an endorser for a module by its SHA-256, and compares what comes with it. A
module that its approval withholds goes to a node of an approval service alone:
give its TLS key with --tls-key. That copy is the notified body's escrow; with
"lacre audit --module FILE" it computes the results again.`,
		Example: `  lacre module get HEX --out speed.wasm
  lacre module get HEX --tls-key nodes/approval/tls.pem --out escrow.wasm`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := digest.Parse(args[0])
			if err != nil {
				return usage("MODULE: %w", err)
			}
			module, err := g.fetch(c.Context(), id)
			if err != nil {
				return err
			}
			return a.writeFile(g.out, module)
		},
	}
	g.flags(c)
	c.Flags().StringVar(&g.tlsKey, "tls-key", "", "file of the TLS key of the node that asks (default: the public)")
	c.Flags().StringVar(&g.out, "out", "", "file to write (default: stdout)")
	return c
}

// fetch asks the endorsers one after another.
func (g *moduleGet) fetch(ctx context.Context, id digest.Digest) ([]byte, error) {
	var as *identity.Node
	var err error
	if g.tlsKey != "" {
		if as, err = identity.Load(g.tlsKey); err != nil {
			return nil, err
		}
	}
	if g.server != "" {
		address, spki, err := g.endpoint(recordv1.Role_ROLE_ENDORSER)
		if err != nil {
			return nil, err
		}
		return getModule(ctx, address, spki, as, id)
	}
	network, err := g.required()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, node := range network.ByRole(recordv1.Role_ROLE_ENDORSER) {
		spki, err := digest.Parse(node.SPKI)
		if err != nil {
			return nil, err
		}
		module, err := getModule(ctx, node.Address, identity.SPKI(spki), as, id)
		if err == nil {
			return module, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", node.ID, err))
	}
	return nil, errors.Join(failures...)
}

func getModule(ctx context.Context, address string, spki identity.SPKI, as *identity.Node, id digest.Digest) (module []byte, err error) {
	err = call(ctx, address, spki, as, func(ctx context.Context, c grpc.ClientConnInterface) error {
		response, err := computev1.NewComputeServiceClient(c).GetAlgorithm(ctx, &computev1.GetAlgorithmRequest{Algorithm: id.Bytes()})
		module = response.GetModule()
		return err
	})
	if err != nil {
		return nil, err
	}
	if got := digest.Plain(module); got != id {
		return nil, &exitError{code: ExitRefuted, err: fmt.Errorf("the endorser gave bytes with SHA-256 %s, asked for was %s", got, id)}
	}
	return module, nil
}
