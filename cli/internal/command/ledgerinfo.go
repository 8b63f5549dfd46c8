package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/services/ledger"
)

func newLedgerInfo(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:   "info DIR",
		Short: "Where the bytes of a data directory or backup are",
		Long: `Adds up records, raw vectors and the tables of the index, and what that is for each
measurement. It reads the index, not the segments, and checks nothing else; the
directory must not be in use. Of a running replica the metric
lacre_ledger_disk_bytes tells the files' sizes.`,
		Example: `  lacre ledger info /backup/replica-institute
  lacre ledger info /var/lib/lacre/ledger --json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			archive, err := ledger.OpenArchive(args[0])
			if err != nil {
				return err
			}
			i, err := archive.Info(c.Context())
			if err := errors.Join(err, archive.Close()); err != nil {
				return err
			}
			var b strings.Builder
			fmt.Fprintf(&b, "blocks          %d\nrecords         %d\nmeasurements    %d\n", i.Blocks, i.Records, i.Measurements)
			fmt.Fprintf(&b, "record bytes    %d\nraw vectors     %d\nindex           %d, of which pages that hold nothing %d\n", i.RecordBytes, i.RawBytes, i.IndexBytes, i.FreeBytes)
			for _, t := range i.Tables {
				fmt.Fprintf(&b, "  %-14s%d keys, %d bytes in pages of %d\n", t.Name, t.Keys, t.UsedBytes, t.PagesBytes)
			}
			if p := i.Packed; p.Segments > 0 {
				fmt.Fprintf(&b, "packed          %d full segments with %d measurements: record bytes %d, raw vectors %d; there everything but the raw vector is %d bytes for each\n",
					p.Segments, p.Measurements, p.RecordBytes, p.RawBytes, p.BytesPerMeasurement)
			}
			if c := i.Cold; c.Segments > 0 {
				fmt.Fprintf(&b, "cold            raw vectors of %d segments with %d measurements: %d bytes, not here\n", c.Segments, c.Measurements, c.RawBytes)
			}
			if e := i.Expired; e.Measurements > 0 {
				fmt.Fprintf(&b, "expired         raw vectors of %d measurements, %d segments dropped\n", e.Measurements, e.Segments)
			}
			for n, d := range i.Expired.Decisions {
				fmt.Fprintf(&b, "decision %-7draw vectors below block %d may go: record %d of block %d, signed by %s: %s\n",
					n+1, d.BelowHeight, d.Record, d.Height, strings.Join(d.Organisations, ", "), d.Rule)
			}
			fmt.Fprintf(&b, "each measurement: raw vector %d bytes, everything else %d bytes\n", i.RawPerMeasurement, i.BytesPerMeasurement)
			return a.print(i, b.String())
		},
	})
}
