package command

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/platform/version"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

func newVersion(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:   "version",
		Short: "Which build this is, and the identity of the built-in module",
		Example: `  lacre version
  lacre version --json`,
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			definition := speed.Schema()
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Profile string `json:"sandbox_profile"`
				Module  string `json:"module"`
				Digest  string `json:"module_sha256"`
			}{version.String(), runtime.Version(), profile.Version, definition.Name + " " + definition.Version, digest.Plain(speed.Module()).String()}
			return a.print(v, fmt.Sprintf("lacre    %s (%s)\nsandbox  profile %s\nmodule   %s, SHA-256 %s\n", v.Version, v.Go, v.Profile, v.Module, v.Digest))
		},
	})
}
