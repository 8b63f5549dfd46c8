package command

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/doctor"
)

// examine is what `doctor` was asked for.
type examine struct {
	t       target
	configs []string
}

func newDoctor(a *app) *cobra.Command {
	var e examine
	c := a.reading(&cobra.Command{
		Use:   "doctor",
		Short: "Look at nodes and their network: what is wrong, and what helps",
		Long: `Checks what an operator would: configurations; key files, their modes, and that
they are the keys which the certified ledger registers; genesis and network id;
data directories, disks and locks; ports and the TLS keys behind them; every
replica's certified height and checkpoint, verified with the trust bundle, and
that all of them show one tree; clocks; certificates' expiry; builds; approved
algorithms and the endorsers that hold them; where evidence is kept, its room, and
whether all that certified measurements name is there. It changes nothing.

A certificate shows exactly a quorum of cosignatures, so that a missing cosigner
is told by the replicas that do not answer or lag. The exit code is 0 if nothing
failed (there may be warnings), 1 if something failed, and 2 if nothing failed
and no replica could be asked.`,
		Example: `  lacre doctor
  lacre doctor --network institute --json
  lacre doctor --config /etc/lacre/ledger.yaml --config /etc/lacre/compute.yaml`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c.Context(), &e) },
	})
	c.Flags().StringVar(&e.t.dir, "network", "", "directory of a network (with network.json), whose nodes are looked at; default "+defaultNetworkDir+" if there is one and no --config")
	c.Flags().StringArrayVar(&e.configs, "config", nil, "configuration file of a node; may be repeated")
	return c
}

// options is what is looked at.
func (e *examine) options() (doctor.Options, error) {
	o := doctor.Options{}
	if e.t.dir != "" || len(e.configs) == 0 {
		n, err := e.t.required()
		if err != nil {
			return o, err
		}
		o.Dir = n.Dir
	}
	for _, file := range e.configs {
		path, err := filepath.Abs(file)
		if err != nil {
			return o, err
		}
		o.Configs = append(o.Configs, path)
	}
	return o, nil
}

func (a *app) runDoctor(ctx context.Context, e *examine) error {
	o, err := e.options()
	if err != nil {
		return err
	}
	report, err := doctor.Run(ctx, o)
	if err != nil {
		return usage("%w", err)
	}
	if err := a.print(report, report.Text()); err != nil {
		return err
	}
	switch report.Verdict {
	case doctor.Unsound:
		return exit(ExitRefuted)
	case doctor.Undecided:
		return exit(ExitUndecidable)
	}
	return nil
}
