package policy

import (
	"encoding/json"
	"math/bits"
	"strings"
	"testing"
)

func org(ids ...string) []Policy {
	var p []Policy
	for _, id := range ids {
		p = append(p, Organisation(id))
	}
	return p
}

func TestCheck(t *testing.T) {
	deep := Organisation("a")
	for range MaxDepth {
		deep = OutOf(1, deep)
	}
	var many []Policy
	for i := range MaxOrganisations + 1 {
		many = append(many, Organisation("o"+string(rune('a'+i/26))+string(rune('a'+i%26))))
	}
	for _, c := range []struct {
		name   string
		policy Policy
		ok     bool
	}{
		{"one", Organisation("inmetro"), true},
		{"two of three", OutOf(2, org("a", "b", "c")...), true},
		{"nested", OutOf(2, Organisation("a"), OutOf(1, org("b", "c")...)), true},
		{"as deep as may be", deep, true},
		{"deeper", OutOf(1, deep), false},
		{"as many as may be", OutOf(3, many[1:]...), true},
		{"one more", OutOf(3, many...), false},
		{"nothing", Policy{}, false},
		{"none of one", OutOf(0, org("a")...), false},
		{"two of one", OutOf(2, org("a")...), false},
		{"less than none", OutOf(-1, org("a")...), false},
		{"empty branch", OutOf(1, Policy{}), false},
		{"twice", OutOf(2, org("a", "a")...), false},
		{"twice, apart", OutOf(2, Organisation("a"), OutOf(1, org("a", "b")...)), false},
		{"leaf and branch", Policy{Organisation: "a", Threshold: 1, Of: org("b")}, false},
		{"leaf with a threshold", Policy{Organisation: "a", Threshold: 1}, false},
		{"bad id", Organisation("A"), false},
	} {
		if err := c.policy.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", c.name, err, c.ok)
		}
	}
}

// Satisfied and Fewest against all subsets of four organisations.
func TestSatisfiedAndFewest(t *testing.T) {
	ids := []string{"a", "b", "c", "d"}
	for _, c := range []struct {
		policy Policy
		want   func(a, b, c, d bool) bool
		text   string
	}{
		{Organisation("b"), func(_, b, _, _ bool) bool { return b }, "b"},
		{OutOf(4, org(ids...)...), func(a, b, c, d bool) bool { return a && b && c && d }, "4 of (a, b, c, d)"},
		{OutOf(1, org(ids...)...), func(a, b, c, d bool) bool { return a || b || c || d }, "1 of (a, b, c, d)"},
		{OutOf(2, Organisation("a"), OutOf(2, org("b", "c")...), Organisation("d")),
			func(a, b, c, d bool) bool { return a && b && c || a && d || b && c && d }, "2 of (a, 2 of (b, c), d)"},
		{OutOf(2, OutOf(2, org("a", "b")...), OutOf(1, org("c", "d")...)),
			func(a, b, c, d bool) bool { return a && b && (c || d) }, "2 of (2 of (a, b), 1 of (c, d))"},
	} {
		if err := c.policy.Check(); err != nil {
			t.Fatal(err)
		}
		fewest := 99
		for set := range 16 {
			have := make(map[string]bool)
			for i, id := range ids {
				have[id] = set>>i&1 == 1
			}
			got, want := c.policy.Satisfied(have), c.want(have["a"], have["b"], have["c"], have["d"])
			if got != want {
				t.Errorf("%v with %v: %v, want %v", c.policy, have, got, want)
			}
			if want {
				fewest = min(fewest, bits.OnesCount(uint(set)))
			}
		}
		if got := c.policy.Fewest(); got != fewest {
			t.Errorf("fewest of %v is %d, want %d", c.policy, got, fewest)
		}
		if c.policy.String() != c.text {
			t.Errorf("%v, want %s", c.policy, c.text)
		}
	}
	if (Policy{}).Satisfied(map[string]bool{"": true}) {
		t.Error("the empty policy is satisfied")
	}
}

func TestJSONForm(t *testing.T) {
	p := OutOf(2, Organisation("a"), OutOf(1, org("b", "c")...))
	b, err := json.Marshal(p)
	const want = `{"threshold":2,"of":[{"organisation":"a"},{"threshold":1,"of":[{"organisation":"b"},{"organisation":"c"}]}]}`
	if err != nil || string(b) != want {
		t.Errorf("%s (%v), want %s", b, err, want)
	}
	if got := strings.Join(p.Organisations(), " "); got != "a b c" {
		t.Errorf("organisations %s", got)
	}
}
