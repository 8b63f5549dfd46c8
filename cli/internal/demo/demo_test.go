package demo

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// TestDemoHolds runs the demonstration with few passes: everything that `make
// demo` claims must hold here too.
func TestDemoHolds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out strings.Builder
	o := Options{Dir: t.TempDir(), Meters: 3, Passes: 60, Out: &out}
	if os.Getenv("LACRE_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	err := Run(ctx, o)
	t.Logf("%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
}
