package command

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// consideredValue is the outcome of `table consider`.
type consideredValue struct {
	Measured         string `json:"measured"`
	PermissibleError string `json:"permissibleError"`
	Considered       string `json:"considered"`
	Unit             string `json:"unit"`
	Source           string `json:"source"`
	SourceStatus     string `json:"sourceStatus"`
}

func newTableConsider(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:   "consider FILE VALUE",
		Short: "Say what a table's file makes of a measured value",
		Long: `Computes the permissible error and the considered value of a measured one, with
the table of a file, before anybody signs it.`,
		Example: `  lacre table consider examples/tables/br.json 150`,
		Args:    exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := readTable(args[0])
			if err != nil {
				return err
			}
			measured, err := wholeOf(args[1], int(t.GetScale()))
			if err != nil {
				return err
			}
			c, err := forensic.Consider(t, measured)
			if err != nil {
				return err
			}
			scale := int(t.GetScale())
			v := consideredValue{
				Measured: receipt.Decimal(measured, scale), Considered: receipt.Decimal(c.Value, scale),
				PermissibleError: receipt.ShortDecimal(c.ErrorMillionths, scale-6), Unit: t.GetUnit(),
				Source: t.GetSource(), SourceStatus: t.GetSourceStatus().String(),
			}
			return a.print(v, fmt.Sprintf("measured %s %s, permissible error %s, considered %s\n%s (%s)\n",
				v.Measured, v.Unit, v.PermissibleError, v.Considered, v.Source, v.SourceStatus))
		},
	})
}

// wholeOf reads a decimal number as a whole multiple of 10^scale, exactly.
func wholeOf(text string, scale int) (int64, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	digits := whole + fraction
	shift := -scale - len(fraction)
	bad := usage("VALUE is %q, want a decimal number that is a multiple of 10^%d", text, scale)
	if shift < 0 {
		if strings.Trim(digits[max(0, len(digits)+shift):], "0") != "" || len(digits)+shift < 1 {
			return 0, bad
		}
		digits, shift = digits[:len(digits)+shift], 0
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", min(shift, 19)), 10, 64)
	if err != nil || whole == "" || strings.ContainsAny(digits, "+-") {
		return 0, bad
	}
	return n, nil
}
