package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// Nothing that others wrote draws on the screen of those who read a report, a
// hint or an error.
func TestOutputForPeopleIsPlain(t *testing.T) {
	const hostile = "up\x1b[1A, c1 \u009b2J, back\b\r, bidi \u202e, bytes \x9b\xff, end\x00\x7f\n"
	const shown = `up\u{1b}[1A, c1 \u{9b}2J, back\u{8}\u{d}, bidi \u{202e}, bytes \x9b\xff, end\u{0}\u{7f}` + "\n"
	var out, says bytes.Buffer
	a := &app{out: &out, err: &says}
	if err := a.print(nil, hostile); err != nil {
		t.Fatal(err)
	}
	a.say("%s", hostile)
	finish(&says, errors.New(hostile))
	if out.String() != shown {
		t.Errorf("stdout has %q, want %q", out.String(), shown)
	}
	if want := shown + "\nlacre: " + shown + "\n"; !strings.HasPrefix(says.String(), want) {
		t.Errorf("stderr has %q, want %q first", says.String(), want)
	}
	for _, same := range []string{"", "two\tcolumns\nand µ, —, ≤, ü\n"} {
		if got := plain(same); got != same {
			t.Errorf("%q became %q", same, got)
		}
	}
}
