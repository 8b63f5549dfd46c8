package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/digest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

func newModule(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "module",
		Short: "Algorithm modules: inspect, test, install, export",
		Long: `A module is a WebAssembly binary of the sandbox profile; its identity is the
SHA-256 of its bytes. Where a module's file is expected, "speed" means the
built-in speed module.`,
	}, newModuleInspect(a), newModuleTest(a), newModuleInstall(a), newModuleGet(a), newModuleExport(a))
}

// inspected is what `module inspect` finds.
type inspected struct {
	File    string         `json:"file"`
	Digest  string         `json:"sha256"`
	Bytes   int            `json:"bytes"`
	Profile string         `json:"profile"`
	Valid   bool           `json:"valid"`
	Rule    string         `json:"rule,omitempty"` // the first that the module breaks
	Offset  int            `json:"offset,omitempty"`
	Detail  string         `json:"detail,omitempty"`
	Name    string         `json:"name,omitempty"`
	Version string         `json:"version,omitempty"`
	Layout  *modulesLayout `json:"layout,omitempty"`
}

type modulesLayout struct {
	MemoryBytes uint32 `json:"memory_bytes"`
	InputPtr    uint32 `json:"input_ptr"`
	InputCap    uint32 `json:"input_cap"`
	OutputPtr   uint32 `json:"output_ptr"`
	OutputCap   uint32 `json:"output_cap"`
	Functions   int    `json:"functions"`
}

func newModuleInspect(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a module against the sandbox profile and show its identity",
		Long: `Validates a module as an endorser does before anything runs, and names the first
rule that it breaks. Exit code: 0 within the profile, 1 not.`,
		Example: `  lacre module inspect speed
  lacre module inspect algorithms/speed/speed.wasm --json`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			module, err := readModule(args[0])
			if err != nil {
				return err
			}
			i := inspect(args[0], module)
			if err := a.print(i, i.text()); err != nil {
				return err
			}
			if !i.Valid {
				return exit(ExitRefuted)
			}
			return nil
		},
	})
}

func inspect(file string, module []byte) *inspected {
	i := &inspected{File: file, Digest: digest.Plain(module).String(), Bytes: len(module), Profile: profile.Version}
	m, err := profile.Check(module)
	var broken *profile.Error
	switch {
	case errors.As(err, &broken):
		i.Rule, i.Offset, i.Detail = string(broken.Reason), broken.Offset, err.Error()
		return i
	case err != nil:
		i.Detail = err.Error()
		return i
	}
	i.Valid, i.Name, i.Version = true, m.Name, m.Version
	i.Layout = &modulesLayout{m.MemoryBytes, m.InputPtr, m.InputCap, m.OutputPtr, m.OutputCap, m.FunctionCount}
	return i
}

func (i *inspected) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "file      %s, %d bytes\nSHA-256   %s\n", i.File, i.Bytes, i.Digest)
	if !i.Valid {
		fmt.Fprintf(&b, "refused   %s\nnot within profile %s\n", i.Detail, i.Profile)
		return b.String()
	}
	l := i.Layout
	fmt.Fprintf(&b, "module    %s %s, %d functions\nmemory    %d bytes\ninput     %d to %d (%d bytes)\noutput    %d to %d (%d bytes)\nwithin profile %s\n",
		i.Name, i.Version, l.Functions, l.MemoryBytes, l.InputPtr, l.InputPtr+l.InputCap, l.InputCap, l.OutputPtr, l.OutputPtr+l.OutputCap, l.OutputCap, i.Profile)
	return b.String()
}

func newModuleExport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "export FILE",
		Short:   "Write the built-in speed module to a file",
		Example: `  lacre module export speed.wasm`,
		Args:    exactly(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.writeFile(args[0], speed.Module()) },
	}
}

// installedAt is one endorser's answer.
type installedAt struct {
	Endorser  string `json:"endorser"`
	Algorithm string `json:"algorithm"`
}

func newModuleInstall(a *app) *cobra.Command {
	var t target
	var tlsKey string
	c := a.reading(&cobra.Command{
		Use:   "install FILE",
		Short: "Hand an approved module to the endorsers",
		Long: `Hands a module to every endorser of the network directory, as its gateway; or,
with --server, --spki and --tls-key, to one endorser, as the node whose TLS key
that is. A module that its approval withholds goes only to the endorsers of the
organisations that the policy names. An endorser refuses a module that no approval
names, and records the refused attempt on the ledger, where "lacre events" shows it.`,
		Example: `  lacre module install speed
  lacre module install speed.wasm --server 10.0.0.5:4000 --spki HEX --tls-key gateway-tls.pem`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			module, err := readModule(args[0])
			if err != nil {
				return err
			}
			installed, err := install(c.Context(), &t, tlsKey, module)
			var b strings.Builder
			for _, i := range installed {
				fmt.Fprintf(&b, "installed %s at %s\n", i.Algorithm, i.Endorser)
			}
			return errors.Join(a.print(installed, b.String()), err)
		},
	})
	t.flags(c)
	c.Flags().StringVar(&tlsKey, "tls-key", "", "with --server: file of the caller's TLS key")
	return c
}

func install(ctx context.Context, t *target, tlsKey string, module []byte) ([]installedAt, error) {
	installed := []installedAt{}
	at := func(name, address string, spki identity.SPKI, as *identity.Node) error {
		return call(ctx, address, spki, as, func(ctx context.Context, c grpc.ClientConnInterface) error {
			response, err := computev1.NewComputeServiceClient(c).InstallAlgorithm(ctx, &computev1.InstallAlgorithmRequest{Module: module})
			if err != nil {
				return fmt.Errorf("install at %s: %w", name, err)
			}
			installed = append(installed, installedAt{name, hex.EncodeToString(response.GetAlgorithm())})
			return nil
		})
	}
	if t.server != "" {
		if tlsKey == "" {
			return installed, usage("--tls-key is needed with --server: endorsers take modules from registered gateways only")
		}
		as, err := identity.Load(tlsKey)
		if err != nil {
			return installed, err
		}
		address, spki, err := t.endpoint(recordv1.Role_ROLE_ENDORSER)
		if err != nil {
			return installed, err
		}
		return installed, at(address, address, spki, as)
	}
	n, err := t.required()
	if err != nil {
		return installed, err
	}
	as, err := n.OwnIdentity(recordv1.Role_ROLE_GATEWAY)
	if err != nil {
		return installed, err
	}
	may, err := contracted(ctx, t, digest.Plain(module))
	if err != nil {
		return installed, err
	}
	for _, node := range n.ByRole(recordv1.Role_ROLE_ENDORSER) {
		if !may(node.Organisation) {
			continue
		}
		spki, err := digest.Parse(node.SPKI)
		if err == nil {
			err = at(node.ID, node.Address, identity.SPKI(spki), as)
		}
		if err != nil {
			return installed, err
		}
	}
	return installed, nil
}
