package command

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/serviceconfig"
	"github.com/lacre-metrology/lacre/platform/daemon"
)

const operatingPage = "../../../docs/operating.md"

// section is the text of a page's section, without its heading.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", page, heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// The page has a row for each port, in order, and no other; so has the command.
func TestPortsPage(t *testing.T) {
	var want []string
	for _, p := range serviceconfig.Ports {
		want = append(want, fmt.Sprintf("| %s | %d | %#q | %s | %s |", p.Service, p.Number, p.Key, p.Protocol, p.Reach))
		if help := newPorts().Long; !regexp.MustCompile(fmt.Sprintf(`(?m)^  %s +%d +%s +%s +%s$`, p.Service, p.Number, p.Key, p.Protocol, p.Reach)).MatchString(help) {
			t.Errorf("lacre ports lacks %+v:\n%s", p, help)
		}
	}
	if got := rows(section(t, operatingPage, "Ports")); !slices.Equal(got, want) {
		t.Errorf("the page has the rows\n%s\nthe code has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The page lists the exit codes that the code has, and no other.
func TestExitCodesPage(t *testing.T) {
	const hungDisk = 3 // services/ledger/ordering.go: the process ends itself, for a hung disk lets nothing tidy up
	for heading, codes := range map[string][]int{
		"Exit codes of the services": {daemon.ExitOK, daemon.ExitFailed, daemon.ExitUsage, hungDisk, daemon.ExitDataLoss, daemon.ExitOldBuild, daemon.ExitRetired},
		"Exit codes of `lacre`":      {ExitOK, ExitRefuted, ExitUndecidable, ExitFailed, ExitDataLoss, ExitUsage, ExitInterrupted},
	} {
		var got, want []string
		for _, row := range rows(section(t, operatingPage, heading)) {
			got = append(got, strings.TrimSpace(strings.Split(row, "|")[1]))
		}
		for _, code := range codes {
			want = append(want, fmt.Sprint(code))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the page has %v, the code %v", heading, got, want)
		}
	}
	run, err := os.ReadFile("../../../services/ledger/ordering.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(run), fmt.Sprintf("os.Exit(%d)", hungDisk)) {
		t.Errorf("services/ledger/ordering.go no longer ends with exit code %d", hungDisk)
	}
}

// rows are a table's rows, without its head.
func rows(text string) []string {
	var list []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "| ") {
			list = append(list, line)
		}
	}
	return list[min(1, len(list)):]
}
