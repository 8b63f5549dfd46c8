package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newNetworkLearn(a *app) *cobra.Command {
	var dir string
	var gone, keys []string
	c := a.reading(&cobra.Command{
		Use:   "learn [MEMBERFILE]...",
		Short: "Learn where new nodes are, and forget those that are gone",
		Long: `Takes the addresses of member files ("lacre init", "lacre node new") into the network's
directory: into network.json, and into the configuration of every node in it, "peers" of a
replica, "replicas" and "endorsers" of the others. --without takes out a node that is gone
for good, --spki exchanges the pinned TLS key of one whose key was renewed ("lacre key show"
prints the SPKI digest). What an operator wrote there otherwise stays, and so do owner and mode; comments
do not. Addresses carry no trust: whoever answers must hold the key that the ledger
registers, or until the ledger is read so far, the one of the member file.

A replica reads its peers again on SIGHUP (systemctl reload); other services are restarted.`,
		Example: `  lacre network learn replica-institute-2.member --without replica-institute --network /var/lib/lacre
  lacre network learn --without endorser-county --network operator
  lacre network learn --spki endorser-institute=HEX --network operator`,
		RunE: func(_ *cobra.Command, args []string) error {
			if dir == "" || len(args)+len(gone)+len(keys) == 0 {
				return usage("--network DIR is needed, and member files, --without ID or --spki ID=HEX")
			}
			renewed := make(map[string]digest.Digest)
			for _, text := range keys {
				id, hex, _ := strings.Cut(text, "=")
				spki, err := digest.Parse(hex)
				if err != nil {
					return usage("--spki is %q, want ID=HEX: %w", text, err)
				}
				renewed[id] = spki
			}
			var members []*founding.Member
			var failures []error
			for _, path := range args {
				m, _, err := founding.ReadMember(path)
				members, failures = append(members, m), append(failures, err)
			}
			if err := errors.Join(failures...); err != nil {
				return err
			}
			book, changed, err := founding.Learn(dir, members, gone, renewed)
			if err != nil {
				return err
			}
			var b strings.Builder
			fmt.Fprintf(&b, "network  %s, %d nodes\n", book.Name, len(book.Nodes))
			for _, n := range changed {
				next := "restart " + programs[recordv1.Role(n.Role)]
				if recordv1.Role(n.Role) == recordv1.Role_ROLE_REPLICA {
					next = "send SIGHUP to " + programs[recordv1.Role(n.Role)]
				}
				fmt.Fprintf(&b, "  %-24s %s: %s\n", n.ID, n.Config, next)
			}
			return a.print(struct {
				*founding.Book
				Changed []founding.Learnt `json:"changed"`
			}{book, changed}, b.String())
		},
	})
	c.Flags().StringVar(&dir, "network", "", "directory of the network (with network.json)")
	c.Flags().StringArrayVar(&keys, "spki", nil, "ID=HEX: SHA-256 of the new TLS public key of a node, in hexadecimal (repeat)")
	c.Flags().StringArrayVar(&gone, "without", nil, "id of a node that is gone for good (repeat)")
	return c
}
