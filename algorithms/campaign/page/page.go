// Package page writes the report of a campaign to be read: JSON with one line for
// each row, and a page of HTML with plots.
//
// Source: the figures are those of package campaign, and nothing is computed here
// that is not in the JSON. Colours are those of Okabe and Ito, which
// colour-blind readers tell apart; what colour says, a shape or a dash says
// too.
//
// Invariants:
//   - Both are functions of the Report alone: no clock, no machine.
//   - The page is well-formed XML, needs no script and no other file, and prints.
package page

import (
	"bytes"
	"encoding/json"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
)

// Report is a test report: what was measured, by what, and what came of it.
type Report struct {
	Module   string               `json:"module_sha256"`
	Engine   string               `json:"engine"` // sandbox or twin
	Tool     string               `json:"tool_version"`
	Held     bool                 `json:"held"`
	Criteria []campaign.Criterion `json:"criteria"`
	Note     string               `json:"note"`
	Campaign campaign.Report      `json:"campaign"`
}

// lineDepth is how deep values still have lines of their own.
const lineDepth = 5

// JSON returns the report; equal reports give equal bytes.
func (r *Report) JSON() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return lines(b, lineDepth), nil
}

// lines breaks compact JSON into lines down to a depth; deeper values stay on one.
func lines(compact []byte, limit int) []byte {
	var out bytes.Buffer
	depth, quoted := 0, false
	newline := func() {
		out.WriteByte('\n')
		for range depth {
			out.WriteByte(' ')
		}
	}
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		switch {
		case quoted:
			switch c {
			case '\\':
				out.WriteByte(c)
				i++
				c = compact[i]
			case '"':
				quoted = false
			}
			out.WriteByte(c)
		case c == '"':
			quoted = true
			out.WriteByte(c)
		case c == '{' || c == '[':
			out.WriteByte(c)
			if depth++; depth <= limit && compact[i+1] != c+2 {
				newline()
			}
		case c == '}' || c == ']':
			if depth--; depth < limit && compact[i-1] != c-2 {
				newline()
			}
			out.WriteByte(c)
		case c == ',':
			out.WriteByte(c)
			if depth <= limit {
				newline()
			}
		case c == ':':
			out.WriteString(": ")
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('\n')
	return out.Bytes()
}
