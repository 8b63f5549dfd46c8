package doctor

import (
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Two certificates of one size and two roots are the worst that can be found:
// both replicas are named, whoever else agrees with either.
func TestTwoTreesOfOneSizeAreNamed(t *testing.T) {
	replica := func(id string, root byte) *contact {
		return &contact{Node: founding.Node{ID: id}, certificate: &tlog.Certificate{Checkpoint: tlog.Checkpoint{Size: 9, Root: digest.Digest{root}}}}
	}
	for _, c := range []struct {
		replicas []*contact
		failed   int
		names    []string
	}{
		{[]*contact{replica("a", 1), replica("b", 1), {Node: founding.Node{ID: "silent"}}}, 0, nil},
		{[]*contact{replica("a", 1), replica("b", 2)}, 1, []string{"a", "b"}},
		{[]*contact{replica("a", 1), replica("b", 1), replica("c", 2)}, 1, []string{"b", "c"}},
	} {
		x := &examination{answered: len(c.replicas)}
		x.consistency(t.Context(), c.replicas)
		failed := 0
		for _, i := range x.items {
			if i.Level != Fail {
				continue
			}
			failed++
			for _, name := range c.names {
				if !strings.Contains(i.Found, " "+name) || i.Check != "consistency" {
					t.Errorf("%+v does not name %s", i, name)
				}
			}
		}
		if want := map[bool]Verdict{true: Unsound, false: Sound}[c.failed > 0]; failed != c.failed || x.report().Verdict != want {
			t.Errorf("%d failed, want %d; verdict %s, want %s", failed, c.failed, x.report().Verdict, want)
		}
	}
}
