package command

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/serviceconfig"
)

func newConfig(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Configuration files of the services: examples, checks",
	}, newConfigExample(a), newConfigValidate(a))
}

func newConfigExample(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "example SERVICE",
		Short: "Print a service's configuration with a comment on every key",
		Long: `Prints the example configuration of a service (` + strings.Join(serviceconfig.Names, ", ") + `), as
deploy/config has it.`,
		Example:   `  lacre config example ledger > ledger.yaml`,
		ValidArgs: serviceconfig.Names,
		Args:      exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := serviceconfig.Example(args[0])
			if unknown := (*serviceconfig.UnknownError)(nil); errors.As(err, &unknown) {
				return usage("%w", err)
			}
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}

// judgedConfig is the outcome of `config validate`.
type judgedConfig struct {
	File     string                  `json:"file"`
	Service  string                  `json:"service"`
	Valid    bool                    `json:"valid"`
	Problems []serviceconfig.Problem `json:"problems"`
}

func newConfigValidate(a *app) *cobra.Command {
	var textOnly bool
	c := a.reading(&cobra.Command{
		Use:   "validate SERVICE FILE",
		Short: "Check a service's configuration, and the files that it names",
		Long: `Decodes the file as the service does, so that a key it does not know is an error,
and looks at every file that it names: keys must be there, readable by nobody
else, and parse; a replica's ledger must have been begun. All problems are
printed at once, with their lines. SERVICE is one of ` + strings.Join(serviceconfig.Names, ", ") + `,
or "auto". The exit code is 0 if it is sound and 1 if it is not.`,
		Example: `  lacre config validate ledger /etc/lacre/ledger.yaml
  lacre config validate auto institute/nodes/replica-institute/config.yaml --json
  lacre config validate ingest deploy/config/ingest.yaml --text-only`,
		Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error { return a.runValidate(args[0], args[1], !textOnly) },
	})
	c.Flags().BoolVar(&textOnly, "text-only", false, "check the file alone, not those that it names")
	return c
}

func (a *app) runValidate(service, file string, withFiles bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if service == "auto" {
		if service, err = serviceconfig.Detect(text); err != nil {
			return &exitError{code: ExitRefuted, err: fmt.Errorf("%s: %w", file, err)}
		}
	}
	problems, err := serviceconfig.Validate(service, text, withFiles)
	if unknown := (*serviceconfig.UnknownError)(nil); errors.As(err, &unknown) {
		return usage("%w", err)
	}
	if err != nil {
		return err
	}
	judged := judgedConfig{File: file, Service: service, Valid: len(problems) == 0, Problems: problems}
	if judged.Problems == nil {
		judged.Problems = []serviceconfig.Problem{}
	}
	var b strings.Builder
	for _, p := range problems {
		at := file
		if p.Line > 0 {
			at = fmt.Sprintf("%s:%d", file, p.Line)
		}
		fmt.Fprintf(&b, "%s: %s\n", at, p.Text)
	}
	if judged.Valid {
		fmt.Fprintf(&b, "%s: sound, for lacre-%s\n", file, service)
	}
	if err := a.print(judged, b.String()); err != nil {
		return err
	}
	if !judged.Valid {
		return exit(ExitRefuted)
	}
	return nil
}

// newPorts is a help topic.
func newPorts() *cobra.Command {
	var b strings.Builder
	b.WriteString("The ports that the examples and \"lacre init\" propose; every one is configured:\n\n")
	for _, p := range serviceconfig.Ports {
		fmt.Fprintf(&b, "  %-9s %d  %-14s %-24s %s\n", p.Service, p.Number, p.Key, p.Protocol, p.Reach)
	}
	b.WriteString("\nEvery gRPC connection is TLS with pinned keys; let no proxy end it in between.\n")
	return &cobra.Command{Use: "ports", Short: "The ports of the services", Long: b.String()}
}
