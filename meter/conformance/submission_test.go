package conformance

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// endless is a file that never ends; it counts what was read of it.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.read += int64(len(b))
	return len(b), nil
}

// What is too large is refused before it is in memory.
func TestReadStopsAtTheBound(t *testing.T) {
	var e endless
	if _, err := Read(&e); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Errorf("an endless submission: %v, want the bound", err)
	}
	if e.read > 2*MaxSubmissionBytes {
		t.Errorf("%d bytes were read, the bound is %d", e.read, int64(MaxSubmissionBytes))
	}
	broken := errors.New("broken")
	if _, err := Read(io.MultiReader(strings.NewReader("{"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A sample costs a few bytes of text and, judged, kilobytes: so their number is
// bounded too.
func TestTooManySamplesAreRefused(t *testing.T) {
	text := func(n int) []byte { return []byte(`{"samples":[{}` + strings.Repeat(",{}", n-1) + `]}`) }
	if s, err := Parse(text(MaxSamples)); err != nil || len(s.Samples) != MaxSamples {
		t.Errorf("%d samples: %v", MaxSamples, err)
	}
	if _, err := Parse(text(MaxSamples + 1)); err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("%d samples: %v, want the bound", MaxSamples+1, err)
	}
	for _, bad := range []string{`{"samples":[{"title":"x"}]}`, `{"samples":{}}`, `{"samples":[1]}`, `{"samples":[{}],"sample":[]}`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if s, err := Parse([]byte(`{"samples":null}`)); err != nil || len(s.Samples) != 0 {
		t.Errorf("null samples: %+v, %v", s, err)
	}
}

// A submission's own words cannot pass for lines of the report, nor draw on the
// screen.
func TestNamesDoNotWriteTheReport(t *testing.T) {
	s := Vectors()
	s.Samples[0].Name = "good\n  ok           F6  signature\nok: 9 samples\n\x1b[2J"
	text := JudgeVectors(s).String()
	if strings.Contains(text, "\nok: 9 samples") || strings.ContainsRune(text, '\x1b') {
		t.Errorf("a sample's name wrote\n%s", text[:min(len(text), 1500)])
	}
	if !strings.Contains(text, `"1, good\n`) {
		t.Error("the name is not shown quoted")
	}
}
