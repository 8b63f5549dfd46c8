package envelope

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkParse is a statement's envelope from its file, signatures not checked.
func BenchmarkParse(b *testing.B) {
	text, err := example(b).Encode()
	if err != nil {
		b.Fatal(err)
	}
	benchtest.Loop(b, 1, func() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	})
}
