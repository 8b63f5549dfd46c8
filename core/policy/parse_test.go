package policy

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	a, b, c, d := Organisation("a"), Organisation("b"), Organisation("c"), Organisation("d")
	for text, want := range map[string]Policy{
		"'a'":                                  a,
		"OutOf(2,'a','b',AND('c','d'))":        OutOf(2, a, b, OutOf(2, c, d)),
		"OutOf ( 2 ,\n'a' , OR('b','c'),'d' )": OutOf(2, a, OutOf(1, b, c), d),
		"AND('a')":                             OutOf(1, a),
	} {
		if got, err := Parse(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	deep := strings.Repeat("AND(", 6) + "'a'" + strings.Repeat(")", 6)
	for _, text := range []string{
		"", "a", "'a", "'a' 'b'", "OutOf('a')", "OutOf(2,'a')", "OutOf(0,'a')", "OutOf(1)", "OutOf(99999999999999999999,'a')", "AND()", "AND('a','a')", "OR('A')",
		"AND('a',)", "AND('a'", "XOR('a','b')", "OutOf(1,'a'))", deep,
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

// What is read has one meaning: its form for people and its JSON say the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"'a'", "OutOf(2,'a','b',AND('c','d'))", "OR('a',OR('b'))", "OutOf(1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if err := p.Check(); err != nil {
			t.Fatalf("%q gave %s, which is none: %v", text, p, err)
		}
		all := make(map[string]bool)
		for _, id := range p.Organisations() {
			all[id] = true
		}
		if !p.Satisfied(all) || p.Satisfied(nil) {
			t.Fatalf("%q gave %s, which all do not satisfy, or nobody does", text, p)
		}
	})
}
