package command

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func newLedger(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "ledger",
		Short: "Begin, copy and look after a replica's directory",
		Long: `Works on the directory of one replica, on the machine where it is. What a ledger
says is read by "audit", "receipt" and "account".`,
	}, newLedgerJoin(a), newLedgerBackup(a), newLedgerRestore(a), newLedgerVerify(a), newLedgerInfo(a))
}

// ledgerJoined is what `ledger join` prints.
type ledgerJoined struct {
	NodeID    string `json:"node_id"`
	NetworkID string `json:"network_id"`
	DataDir   string `json:"data_dir"`
	Peers     int    `json:"peers"`
}

func newLedgerJoin(a *app) *cobra.Command {
	var networkID string
	c := a.reading(&cobra.Command{
		Use:   "join CONFIG",
		Short: "Begin a replica of a ledger that others run",
		Long: `Begins the data directory of a new replica, or of one whose disk is lost, from the
genesis file that its configuration names, after comparing it with --network-id:
which network it is nobody else can tell. Then start lacre-ledger with the same
configuration. It fetches all blocks from any replica in "peers", checks each
against the certificates and by the one transition, follows without a vote, and
gets its vote with the configuration that names it. It may be killed at any
point: started again, it goes on. Its log and "lacre doctor" say how far it is.

The node must be registered as a replica: others answer nobody else. Nothing is
ever overwritten.`,
		Example: `  lacre ledger join /etc/lacre/ledger.yaml --network-id HEX
  lacre doctor --config /etc/lacre/ledger.yaml`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			want, err := digest.Parse(networkID)
			if err != nil {
				return usage("--network-id: %w", err)
			}
			var c ledger.Config
			if err := config.Load(args[0], &c); err != nil {
				return usage("%w", err)
			}
			if len(c.Peers) == 0 {
				return usage("%s names no peers: a replica that joins needs one to fetch from", args[0])
			}
			got, err := ledger.NetworkOf(c.Genesis)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s founds network %s, --network-id is %s: take the genesis file of the right network", c.Genesis, got, want)
			}
			if err := ledger.Init(c, slog.New(slog.DiscardHandler)); err != nil {
				if errors.Is(err, ledger.ErrInitialised) {
					err = fmt.Errorf("%w; start it: it goes on from what it has", err)
				}
				return err
			}
			a.say("start it: lacre-ledger -config %s", args[0])
			return a.print(ledgerJoined{NodeID: c.NodeID, NetworkID: got.String(), DataDir: c.DataDir, Peers: len(c.Peers)},
				fmt.Sprintf("replica %s of network %s begins in %s\n", c.NodeID, got, c.DataDir))
		},
	})
	c.Flags().StringVar(&networkID, "network-id", "", "the id that the network must have, from somebody you trust")
	return c
}
