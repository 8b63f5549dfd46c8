package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
)

// harmless is an honest sample that the scenario takes for an attack: it must be
// reported as one that succeeded, or no other result means anything.
var harmless = Scenario{
	Name: "harmless", Attacker: "nobody", Answer: string(reason.BadSignature), Record: "none",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "harmless")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		return m.attempt(ctx, request, reason.BadSignature)
	},
}

// TestEveryAttackIsAnswered tries all attacks on real nodes.
func TestEveryAttackIsAnswered(t *testing.T) {
	var tried []string
	err := Run(t.Context(), t.TempDir(), append([]Scenario{harmless}, All()...), func(r Result) {
		tried = append(tried, r.Name)
		if r.Held != (r.Name != harmless.Name) {
			t.Errorf("%s: held %v: %s", r.Name, r.Held, r.Seen)
		}
		if r.Seen == "" {
			t.Errorf("%s: nothing was seen", r.Name)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if len(tried) != len(All())+1 {
		t.Errorf("tried %v", tried)
	}
}

// What is refused for another reason than the scenario's is no answer to it.
func TestOnlyTheExpectedReasonCounts(t *testing.T) {
	want := reason.BackDated
	if seen, err := wantRefusal(reason.New(want, "both sides"), want); err != nil || !strings.Contains(seen, "both sides") {
		t.Errorf("%q, %v", seen, err)
	}
	var broken *succeededError
	for _, other := range []error{nil, reason.New(reason.Malformed, "")} {
		if _, err := wantRefusal(other, want); !errors.As(err, &broken) {
			t.Errorf("%v counts as %v", other, err)
		}
	}
	if _, err := wantRefusal(os.ErrDeadlineExceeded, want); errors.As(err, &broken) || err == nil {
		t.Errorf("an attempt that never arrived counts as %v", err)
	}
}

// The page lists every attack as the command does; LACRE_GOLDEN=write rewrites its table.
func TestPageListsEveryAttack(t *testing.T) {
	const begin, end = "| attack | who does what | answer | record |\n|---|---|---|---|\n", "\n\n"
	path := filepath.Join("..", "..", "..", "docs", "attacks.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(b), begin)
	got, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no table of attacks", path)
	}
	var rows, names []string
	for _, s := range All() {
		rows, names = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", "`"+s.Name+"`", s.Attacker, s.Answer, s.Record)), append(names, s.Name)
	}
	want := strings.Join(rows, "\n")
	if os.Getenv("LACRE_GOLDEN") == "write" {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s lists\n%s\nthere are\n%s", path, got, want)
	}
	slices.Sort(names)
	if distinct := len(slices.Compact(names)); distinct != len(All()) || distinct < 12 {
		t.Errorf("%d attacks of different names among %d, want at least 12", distinct, len(All()))
	}
	for _, s := range All() {
		if found, ok := Find(s.Name); !ok || found.Name != s.Name {
			t.Errorf("%s is not found by its name", s.Name)
		}
	}
}
