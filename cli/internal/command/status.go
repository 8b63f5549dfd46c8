package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/doctor"
)

func newStatus(a *app) *cobra.Command {
	var e examine
	var every time.Duration
	c := a.reading(&cobra.Command{
		Use:   "status",
		Short: "The network on one screen: leader, heights, cosigners, disks, certificates, builds",
		Long: `Shows where every replica stands by its own answer (applied and certified height,
blocks without a certificate, how far behind, its build), when each last cosigned
as any of them heard it, and of the nodes whose configurations are at hand their
disk, certificate and readiness. Every problem names its remedy; "lacre doctor"
shows all that was checked. It changes nothing.

The exit code is 0 without a problem, 1 with one, and 2 if no replica answers.
With --watch it shows the screen again and again until it is interrupted.`,
		Example: `  lacre status --network institute
  lacre status --network institute --watch
  lacre status --config /var/lib/lacre/nodes/replica-institute/config.yaml --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			watch := c.Flags().Changed("watch")
			if watch && every <= 0 {
				return usage("--watch is %s, want more than nothing", every)
			}
			for {
				verdict, err := a.showStatus(c.Context(), &e, watch)
				if err != nil || !watch {
					return errors.Join(err, verdict)
				}
				select {
				case <-time.After(every):
				case <-c.Context().Done():
					return c.Context().Err()
				}
			}
		},
	})
	c.Flags().StringVar(&e.t.dir, "network", "", "directory of a network (with network.json), whose nodes are looked at; default "+defaultNetworkDir+" if there is one and no --config")
	c.Flags().StringArrayVar(&e.configs, "config", nil, "configuration file of a node; may be repeated")
	c.Flags().DurationVar(&every, "watch", 0, "show it again after so long, until interrupted; 2s without a value")
	c.Flags().Lookup("watch").NoOptDefVal = "2s"
	return c
}

// clearScreen is ECMA-48: cursor home, erase the display.
const clearScreen = "\x1b[H\x1b[2J"

// showStatus prints one screen; verdict is the exit code that it deserves.
func (a *app) showStatus(ctx context.Context, e *examine, watch bool) (verdict, err error) {
	o, err := e.options()
	if err != nil {
		return nil, err
	}
	report, err := doctor.Run(ctx, o)
	if err != nil {
		return nil, usage("%w", err)
	}
	if watch && !a.json {
		if _, err := a.out.Write([]byte(clearScreen)); err != nil {
			return nil, err
		}
	}
	problems := report.Problems()
	if problems == nil {
		problems = []doctor.Item{}
	}
	v := struct {
		Verdict  doctor.Verdict   `json:"verdict"`
		Replicas []doctor.Replica `json:"replicas"`
		Problems []doctor.Item    `json:"problems"`
	}{report.Verdict, report.Replicas, problems}
	if err := a.print(v, report.Screen(time.Now())); err != nil {
		return nil, err
	}
	switch {
	case report.Verdict == doctor.Undecided:
		return exit(ExitUndecidable), nil
	case len(problems) > 0:
		return exit(ExitRefuted), nil
	}
	return nil, nil
}
