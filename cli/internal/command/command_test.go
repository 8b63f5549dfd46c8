package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Every command says what it is for and shows an example, and every command
// that reads has --json.
func TestHelpIsComplete(t *testing.T) {
	writing := map[string]bool{ // what they print is a file, or a run's story
		"lacre meter status": true, "lacre meter parameters": true, "lacre meter rollover": true,
		"lacre demo": true, "lacre exit-codes": true, "lacre module export": true, "lacre module get": true,
		"lacre approval draft": true, "lacre approval status": true, "lacre approval sign": true, "lacre network change sign": true, "lacre table draft": true, "lacre config example": true, "lacre ports": true, "lacre bench table": true,
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			visit(child)
		}
		path := c.CommandPath()
		if c.Short == "" {
			t.Errorf("%s has no summary", path)
		}
		if c.HasSubCommands() || path == "lacre exit-codes" || path == "lacre ports" {
			return
		}
		if c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if !strings.HasPrefix(line, "  lacre ") {
				t.Errorf("%s: example %q", path, line)
			}
		}
		if (c.Flags().Lookup("json") == nil) != writing[path] {
			t.Errorf("%s: --json is there: %v", path, !writing[path])
		}
	}
	visit(newRoot(&app{}))
}

func TestExitCodesAndRemedies(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		says string // on stderr
	}{
		"none":          {nil, ExitOK, ""},
		"told already":  {exit(ExitRefuted), ExitRefuted, ""},
		"undecidable":   {exit(ExitUndecidable), ExitUndecidable, ""},
		"usage":         {usage("--x is %d", 1), ExitUsage, "--x is 1"},
		"interrupted":   {fmt.Errorf("wait: %w", context.Canceled), ExitInterrupted, ""},
		"refused":       {fmt.Errorf("submit: %w", reason.New(reason.OutOfSequence, "3, want 4")), ExitFailed, "Remedy: Draft it again"},
		"refused far":   {&rpcerror.Error{Code: codes.NotFound, Reason: reason.NotFound}, ExitFailed, "Remedy: Check the identifier"},
		"unreachable":   {&rpcerror.Error{Code: codes.Unavailable, Detail: "refused"}, ExitFailed, "lacre dev"},
		"damaged":       {reason.New(reason.DataLoss, "record 3"), ExitDataLoss, "Remedy: Follow the runbook"},
		"anything else": {errors.New("no such file"), ExitFailed, "lacre: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			if got := finish(&stderr, c.err); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if !strings.Contains(stderr.String(), c.says) || c.says == "" && stderr.Len() > 0 {
				t.Errorf("says %q, want %q in it", stderr.String(), c.says)
			}
		})
	}
	for code := range map[int]bool{ExitOK: true, ExitRefuted: true, ExitUndecidable: true, ExitFailed: true, ExitDataLoss: true, ExitUsage: true, ExitInterrupted: true} {
		if !strings.Contains(exitCodes, fmt.Sprintf("\n  %-4d ", code)) {
			t.Errorf("`lacre exit-codes` does not explain %d", code)
		}
	}
}

func TestShareOfASample(t *testing.T) {
	for share, want := range map[string]int{
		"100%": 1000, "1%": 10, "0.1%": 1, "12.5%": 125, "99.9%": 999,
		"0%": 0, "0.01%": 0, "101%": 0, "-1%": 0, "1": 0, "": 0, "%": 0, "NaN%": 0, "Inf%": 0, "one%": 0,
	} {
		got, err := permille(share)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q is %d per mille, %v; want %d", share, got, err, want)
		}
	}
}

// Damage of stored bytes outweighs a replay that found nothing.
func TestAuditExitCode(t *testing.T) {
	with := func(v receipt.Verdict) *audit.Report { return &audit.Report{Verdict: v} }
	for name, c := range map[string]struct {
		outcome auditOutcome
		want    int
	}{
		"verified":         {auditOutcome{Report: with(receipt.Verified)}, ExitOK},
		"refuted":          {auditOutcome{Report: with(receipt.Refuted)}, ExitRefuted},
		"undecidable":      {auditOutcome{Report: with(receipt.Undecidable)}, ExitUndecidable},
		"sound storage":    {auditOutcome{Report: with(receipt.Verified), Storage: &ledger.ArchiveReport{}}, ExitOK},
		"damaged storage":  {auditOutcome{Report: with(receipt.Verified), Storage: &ledger.ArchiveReport{Problems: []string{"x"}}}, ExitRefuted},
		"not even opened":  {auditOutcome{Damage: "x"}, ExitRefuted},
		"nothing was done": {auditOutcome{}, ExitUndecidable},
	} {
		if got := c.outcome.exit(); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
		if text := c.outcome.text(); c.want == ExitRefuted && !strings.Contains(text, "refuted: ") {
			t.Errorf("%s: %q does not say that it is refuted", name, text)
		}
	}
}
