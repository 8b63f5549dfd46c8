package command

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/core/trust"
)

func newTrustUpdate(a *app) *cobra.Command {
	var t target
	var f trustFlags
	var from string
	c := a.reading(&cobra.Command{
		Use:   "update",
		Short: "Extend a pinned trust bundle by the configurations that followed",
		Long: `Takes every configuration of the network from a replica, or from a file, and
believes none: each must be in a tree certified by the replicas before it and by
its own, follow the one before, and carry the signatures of a majority of the root
keys. Then the bundle is written with the new epochs, and the configurations beside
it, in the file "configurations": hand both on, and publish the new digest.

A history that contradicts the bundle is refused with both sides (exit code 1); one
that is older than the bundle, with exit code 2. Nothing is written then.`,
		Example: `  lacre trust update --network institute
  lacre trust update --from 127.0.0.1:4000 --spki HEX --trust trust --pin DIGEST
  lacre trust update --from configurations --trust trust`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			file := ""
			if info, err := os.Stat(from); from != "" && err == nil && !info.IsDir() {
				file = from
			} else if from != "" {
				t.server = from
			}
			n, err := t.network()
			if err != nil {
				return err
			}
			path := f.file
			if path == "" && n != nil {
				path = n.TrustPath()
			}
			before, err := f.read(n)
			if err != nil {
				return err
			}
			history, verified, err := t.verified(c.Context(), &f, file)
			if err != nil {
				return err
			}
			if verified.Trust.Digest() != before.Digest() || !exists(path, change.HistoryFile) {
				if err := change.Keep(path, history, verified); err != nil {
					return err
				}
			}
			return a.printTrustUpdate(path, before, verified.Trust)
		},
	})
	t.flags(c)
	f.flags(c)
	c.Flags().StringVar(&from, "from", "", "HOST:PORT of a replica, or a file of configurations (default: a replica of the network)")
	return c
}

func exists(trustPath, name string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(trustPath), name))
	return err == nil
}

func (a *app) printTrustUpdate(path string, before, after *trust.Bundle) error {
	v := struct {
		Trust  string `json:"trust"`
		Before string `json:"digest_before"`
		Digest string `json:"digest"`
		Epochs int    `json:"epochs"`
		Added  int    `json:"epochs_added"`
	}{path, before.Digest().String(), after.Digest().String(), len(after.Epochs()), len(after.Epochs()) - len(before.Epochs())}
	if v.Before == v.Digest {
		return a.print(v, fmt.Sprintf("nothing new: %d epochs\ndigest   %s\n", v.Epochs, v.Digest))
	}
	return a.print(v, fmt.Sprintf("%d epochs added, %d in all\nbefore   %s\ndigest   %s\n", v.Added, v.Epochs, v.Before, v.Digest))
}
