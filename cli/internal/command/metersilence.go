package command

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// silentMeter is a meter of which the ledger has heard nothing for too long, or
// that signed samples which nobody delivered.
type silentMeter struct {
	Meter       string `json:"meter"`
	LastSign    string `json:"last_sign,omitempty"` // RFC 3339, by the meter's clock; empty for none ever
	Silent      bool   `json:"silent"`
	Newest      uint64 `json:"newest_counter"` // on the ledger
	Undelivered uint64 `json:"undelivered"`    // counters signed above it, by the newest heartbeat
}

func newMeterSilence(a *app) *cobra.Command {
	var t target
	var longer time.Duration
	c := a.reading(&cobra.Command{
		Use:   "silence",
		Short: "List meters that have been silent, and samples signed but not delivered",
		Long: `Asks a replica for the newest sign of life of every meter in service, a measurement
or a heartbeat, and lists those that are older than --longer, and those whose
heartbeat says that samples were signed which the ledger does not have. It is one
replica's answer; "lacre audit" verifies a whole ledger. Exit code 1 if any is listed.`,
		Example: `  lacre meter silence --longer 10m
  lacre meter silence --longer 24h --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if longer <= 0 {
				return usage("--longer is %v, want more than 0", longer)
			}
			list, err := t.silent(c.Context(), time.Now().Add(-longer))
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, s := range list {
				fmt.Fprintf(&b, "%s  last sign %s, counter %d", s.Meter, cmp.Or(s.LastSign, "never"), s.Newest)
				if s.Undelivered > 0 {
					fmt.Fprintf(&b, ", %d signed and not delivered", s.Undelivered)
				}
				b.WriteByte('\n')
			}
			if len(list) == 0 {
				b.WriteString("no meter is silent\n")
			}
			if err := a.print(list, b.String()); err != nil || len(list) == 0 {
				return err
			}
			return exit(ExitRefuted)
		},
	})
	t.flags(c)
	c.Flags().DurationVar(&longer, "longer", 10*time.Minute, "silence of at most this is usual")
	return c
}

// silent asks page by page.
func (t *target) silent(ctx context.Context, since time.Time) ([]silentMeter, error) {
	list := []silentMeter{}
	err := t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client, request := ledgerv1.NewLedgerServiceClient(c), &ledgerv1.ListMetersRequest{PageSize: 1000}
		for {
			page, err := client.ListMeters(ctx, request)
			if err != nil {
				return err
			}
			for _, m := range page.GetMeters() {
				if s := silence(m, since); m.GetInService() && (s.Silent || s.Undelivered > 0) {
					list = append(list, s)
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return nil
			}
		}
	})
	return list, err
}

func silence(m *ledgerv1.ListedMeter, since time.Time) silentMeter {
	newest := max(m.GetNewestCapturedAtUnixNano(), m.GetHeartbeatAtUnixNano())
	s := silentMeter{Meter: m.GetMeterId(), Silent: newest < since.UnixNano(), Newest: m.GetNewestCounter()}
	if newest > 0 {
		s.LastSign = timeOf(newest)
	}
	if signed := m.GetHeartbeatCounter(); signed > m.GetNewestCounter() {
		s.Undelivered = signed - m.GetNewestCounter()
	}
	return s
}
