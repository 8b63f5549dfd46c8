package account

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// Row is one line of an account.
type Row struct {
	Key          string            `json:"key"`          // organisation, owner, meter, site or period
	Measurements uint64            `json:"measurements"` // Measurement leaves
	Refused      uint64            `json:"refused"`      // of them with a code other than VALID
	Late         uint64            `json:"late"`         // of them beyond the lateness bound
	Computations map[string]uint64 `json:"computations"` // by endorsing organisation, refusals and late ones included
}

func row(rows map[string]*Row, key string) *Row {
	r := rows[key]
	if r == nil {
		r = &Row{Key: key, Computations: map[string]uint64{}}
		rows[key] = r
	}
	return r
}

func (r *Row) add(other *Row) {
	r.Measurements += other.Measurements
	r.Refused += other.Refused
	r.Late += other.Late
	for organisation, n := range other.Computations {
		r.Computations[organisation] += n
	}
}

// Account says who computed what, and up to where that is certified.
type Account struct {
	Network         digest.Digest `json:"network"`
	FromHeight      uint64        `json:"fromHeight"`      // the first block that counts
	CertifiedHeight uint64        `json:"certifiedHeight"` // the newest; below FromHeight when there is none
	CertifiedTime   string        `json:"certifiedTime"`   // its block time, RFC 3339
	From            string        `json:"from,omitempty"`  // first block time that counts
	Until           string        `json:"until,omitempty"` // first that no longer counts
	By              By            `json:"by"`
	Rows            []Row         `json:"rows"` // ascending by key
	// Organisations are all that endorsed something, ascending.
	Organisations []string `json:"organisations"`
}

// account settles what is certified.
func (t *tally) account(report *audit.Report) (*Account, error) {
	newest, _, err := t.after.Block(report.CertifiedHeight)
	if err != nil {
		return nil, err
	}
	a := &Account{Network: report.Network, FromHeight: report.FromHeight, CertifiedHeight: report.CertifiedHeight, By: t.By, Rows: []Row{}, Organisations: []string{},
		From: timeText(t.FromUnixNano), Until: timeText(t.UntilUnixNano), CertifiedTime: timeText(newest.BlockTimeUnixNano)}
	for len(t.pending) > 0 && t.pending[0].height <= report.CertifiedHeight {
		t.settle()
	}
	for _, r := range t.rows {
		a.Rows = append(a.Rows, *r)
		for organisation := range r.Computations {
			if !slices.Contains(a.Organisations, organisation) {
				a.Organisations = append(a.Organisations, organisation)
			}
		}
	}
	slices.SortFunc(a.Rows, func(x, y Row) int { return strings.Compare(x.Key, y.Key) })
	slices.Sort(a.Organisations)
	return a, nil
}

func timeText(unixNano int64) string {
	if unixNano == 0 {
		return ""
	}
	return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano)
}

// table is the account as cells; the first row is the heading.
func (a *Account) table() [][]string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	heading := []string{string(a.By), "measurements", "refused", "late"}
	if a.By != Organisation {
		for _, organisation := range a.Organisations {
			heading = append(heading, "computed by "+organisation)
		}
	}
	cells := [][]string{heading}
	for _, r := range a.Rows {
		line := []string{r.Key, number(r.Measurements), number(r.Refused), number(r.Late)}
		if a.By != Organisation {
			for _, organisation := range a.Organisations {
				line = append(line, number(r.Computations[organisation]))
			}
		}
		cells = append(cells, line)
	}
	return cells
}

// CSV is the table with a heading (RFC 4180, but lines end in LF). It says
// nothing of the height: keep that beside it.
func (a *Account) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.WriteAll(a.table()) // a strings.Builder takes everything
	return b.String()
}

// String is the account for people.
func (a *Account) String() string {
	var b strings.Builder
	window := ""
	if a.From != "" {
		window += ", from " + a.From
	}
	if a.Until != "" {
		window += ", before " + a.Until
	}
	if a.FromHeight > 0 {
		window = fmt.Sprintf(", from block %d on%s", a.FromHeight, window)
	}
	fmt.Fprintf(&b, "network %s\ncounted up to block %d of %s, which is certified%s\n\n", a.Network, a.CertifiedHeight, a.CertifiedTime, window)
	cells := a.table()
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, line := range cells {
		for i, cell := range line {
			if i == 0 {
				fmt.Fprintf(&b, "%-*s", widths[i], cell)
			} else {
				fmt.Fprintf(&b, "  %*s", widths[i], cell)
			}
		}
		b.WriteByte('\n')
	}
	if len(a.Rows) == 0 {
		b.WriteString("nothing was measured\n")
	}
	return b.String()
}
