package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/meter"
)

func newMeterHeartbeat(a *app) *cobra.Command {
	var m meterFlags
	var timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:   "heartbeat METER",
		Short: "Sign and send one heartbeat: the meter lives, and this is its newest counter",
		Long: `Signs that the meter lives, its newest counter and what its clock is worth, and
sends it through the gateway to the ledger. A sensor unit's SDK does so by itself
while nothing passes. What waits in the outbox is sent too, as far as it goes. The
ledger takes a heartbeat at most every 10 s.`,
		Example: `  lacre meter heartbeat my-meter`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runHeartbeat(c.Context(), &m, args[0], timeout)
		},
	})
	m.flags(c)
	m.trust.flags(c)
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the answer")
	return c
}

func (a *app) runHeartbeat(ctx context.Context, m *meterFlags, id string, timeout time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	opened, _, err := m.open(ctx, id, meter.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	if err := opened.Heartbeat(ctx); err != nil {
		return unanswered(opened, err)
	}
	newest := opened.Stats().NextCounter - 1
	return a.print(struct {
		Meter  string `json:"meter"`
		Newest uint64 `json:"newest_counter"`
	}{id, newest}, fmt.Sprintf("heartbeat of %s, newest counter %d\n", id, newest))
}
