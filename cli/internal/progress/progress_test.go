package progress

import (
	"strings"
	"testing"
)

func TestLinesWithoutATerminal(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(p *Progress)
		want string
	}{
		"one line for each tenth": {func(p *Progress) {
			for done := range 41 {
				p.Set(done, 40)
			}
		}, "x: 0 of 40\nx: 4 of 40\nx: 8 of 40\nx: 12 of 40\nx: 16 of 40\nx: 20 of 40\nx: 24 of 40\nx: 28 of 40\nx: 32 of 40\nx: 36 of 40\nx: 40 of 40\n"},
		"few steps":              {func(p *Progress) { p.Set(1, 2); p.Set(2, 2) }, "x: 1 of 2\nx: 2 of 2\n"},
		"nothing after the last": {func(p *Progress) { p.Set(1, 1); p.Set(1, 1); p.Set(2, 1) }, "x: 1 of 1\n"},
		"nothing after Stop":     {func(p *Progress) { p.Set(1, 9); p.Stop(); p.Set(9, 9) }, "x: 1 of 9\n"},
		"no total":               {func(p *Progress) { p.Set(0, 0) }, ""},
		"never set":              {func(p *Progress) { p.Stop() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			c.set(New(&out, "x"))
			if out.String() != c.want {
				t.Errorf("got\n%swant\n%s", out.String(), c.want)
			}
		})
	}
}
