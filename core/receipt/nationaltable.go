package receipt

import (
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// nationalTable: a version of the table that the meter is under, which covers
// the capture. That no later version covers it too is not in a bundle: an audit
// shows that (rule S6).
func (c *checker) nationalTable() (string, error) {
	if c.contents.Parameters == nil {
		return "", lack("no registration was verified, which names the national table")
	}
	id, p, s := c.contents.Parameters.NationalTable, c.bundle.GetNationalTable(), c.receipt.Sample
	switch {
	case id == "" && p == nil:
		return "the meter is under no national table", nil
	case id == "":
		return "", fmt.Errorf("the bundle has a national table, record %d, and the meter is under none", p.GetIndex())
	}
	table := new(recordv1.NationalTable)
	e, err := openMessage(p, "national table "+id, table, c.checkpoint)
	if err != nil {
		return "", err
	}
	if err := checkHeader(table.GetHeader(), s.NetworkID, record.SubjectTable(id)); err != nil {
		return "", err
	}
	switch {
	case table.GetTableId() != id:
		return "", fmt.Errorf("national table %q, the meter is under %q", table.GetTableId(), id)
	case p.GetIndex() >= c.receipt.Proof.Index:
		return "", fmt.Errorf("the national table is record %d, the measurement %d: it must stand before", p.GetIndex(), c.receipt.Proof.Index)
	case table.GetValidFromUnixNano() > s.CapturedAtUnixNano:
		return "", fmt.Errorf("version %d of national table %s is valid from %s, the sample was captured %s",
			table.GetVersion(), id, timeText(table.GetValidFromUnixNano()), timeText(s.CapturedAtUnixNano))
	}
	if err := forensic.CheckTable(table); err != nil {
		return "", err
	}
	signer, err := c.notifiedBody(e, "")
	if err != nil {
		return "", err
	}
	c.contents.Table = table
	return fmt.Sprintf("version %d of national table %s, valid from %s, at index %d, %s",
		table.GetVersion(), id, timeText(table.GetValidFromUnixNano()), p.GetIndex(), signer), nil
}

// Considered is the measured value that the law is about, always together with
// what is considered of it, or with why nothing is.
type Considered struct {
	Name             string `json:"name,omitempty"`
	Unit             string `json:"unit,omitempty"`
	Measured         string `json:"measured,omitempty"`
	Uncertainty      string `json:"expandedUncertainty,omitempty"` // k = 2, where the schema has one
	PermissibleError string `json:"permissibleError,omitempty"`    // exactly
	Considered       string `json:"considered,omitempty"`
	Table            *Table `json:"table,omitempty"`
	Why              string `json:"none,omitempty"` // why there is no considered value
	// Spread is the largest difference among the values that the algorithm found
	// in independent ways, where the schema has them.
	Spread string `json:"spread,omitempty"`
}

// Table names a version of a national table, and how well its source was checked.
type Table struct {
	ID        string `json:"id"`
	Version   uint32 `json:"version"`
	ValidFrom string `json:"validFrom"`
	Source    string `json:"source"`
	Status    string `json:"sourceStatus"` // read, secondary or example
}

// considered says what the law makes of a measurement. There is nothing to say
// of a bare receipt, nor of what is no valid measurement in time.
func considered(r *Receipt, c *Contents) (out Considered) {
	if t := c.Table; t != nil {
		out.Name, out.Unit = t.GetValue(), t.GetUnit()
		out.Table = &Table{
			ID: t.GetTableId(), Version: t.GetVersion(), ValidFrom: timeText(t.GetValidFromUnixNano()),
			Source: t.GetSource(), Status: words(t.GetSourceStatus().String(), "SOURCE_STATUS_"),
		}
	}
	switch {
	case r.Result.Code != abi.CodeValid:
		out.Why = "the algorithm refused to measure: " + codeName(r.Result.Code, c.Approval)
	case r.Message.GetDisposition() != recordv1.Disposition_DISPOSITION_ON_TIME:
		out.Why = "recorded beyond the lateness bound, no legal result"
	case c.Parameters == nil || c.Approval == nil:
		out.Why = "registration and approval, which name table and values, are not verified here"
	case c.Parameters.NationalTable == "":
		out.Why = "the meter is under no national table"
	case c.Table == nil:
		out.Why = "no version of national table " + c.Parameters.NationalTable + " that covers the capture is verified here"
	default:
		out.fill(r.Result, &c.Approval.Schema, c.Table)
	}
	return out
}

// fill computes; the schema may lack what the table is about.
func (out *Considered) fill(result abi.Output, schema *approval.Schema, t *recordv1.NationalTable) {
	scale := int(t.GetScale())
	value := func(name string) (int64, bool) {
		for i, f := range schema.Values {
			if f.Name == name && f.Unit == t.GetUnit() && f.Scale == scale && i < len(result.Values) {
				return result.Values[i], true
			}
		}
		return 0, false
	}
	measured, ok := value(t.GetValue())
	if !ok {
		out.Why = fmt.Sprintf("the algorithm gives no %s in %s times 10^%d, which the table is about", t.GetValue(), t.GetUnit(), scale)
		return
	}
	out.Measured = decimal(measured, scale)
	if u, ok := value(t.GetValue() + "_expanded_uncertainty"); ok {
		out.Uncertainty = decimal(u, scale)
	}
	out.Spread = spread(value, t.GetValue(), scale)
	c, err := forensic.Consider(t, measured)
	if err != nil {
		out.Why = err.Error()
		return
	}
	out.PermissibleError = ShortDecimal(c.ErrorMillionths, scale-6)
	out.Considered = decimal(c.Value, scale)
}

// spread is the largest less the smallest of the independent values.
func spread(value func(string) (int64, bool), name string, scale int) string {
	var all []int64
	for _, way := range []string{"_leading", "_trailing", "_correlation"} {
		if v, ok := value(name + way); ok {
			all = append(all, v)
		}
	}
	if len(all) < 2 {
		return ""
	}
	least, most := all[0], all[0]
	for _, v := range all {
		least, most = min(least, v), max(most, v)
	}
	if d := most - least; d >= 0 { // it overflows only for what no algorithm of use gives
		return decimal(d, scale)
	}
	return ""
}

// String is the considered value as a line, beside the measured one.
func (out *Considered) String() string {
	if out.Why != "" {
		return "none: " + out.Why
	}
	unit := strings.TrimSuffix(" "+out.Unit, " 1")
	text := fmt.Sprintf("%s: considered %s%s, measured %s%s", out.Name, out.Considered, unit, out.Measured, unit)
	if out.Uncertainty != "" {
		text += fmt.Sprintf(" (U %s%s, k = 2)", out.Uncertainty, unit)
	}
	return text + fmt.Sprintf(", permissible error %s%s", out.PermissibleError, unit)
}

// Decimal is number times 10^scale, exactly, as summaries write it.
func Decimal(number int64, scale int) string { return decimal(number, scale) }

// ShortDecimal is Decimal without zeros at the end of a fraction.
func ShortDecimal(number int64, scale int) string {
	text := decimal(number, scale)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
