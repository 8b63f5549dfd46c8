//go:build !robustness

package fault

import (
	"errors"
	"testing"
	"time"
)

func TestWhatShipsCannotBeStruck(t *testing.T) {
	t.Setenv("LACRE_FAULTS", "before commit kill")
	if Built {
		t.Fatal("this is a program of the robustness suite")
	}
	want := errors.New("its own")
	for _, step := range Steps() {
		done := 0
		if err := Around(step, func() error { done++; return want }); !errors.Is(err, want) || done != 1 {
			t.Errorf("step %s was done %d times and gave %v", step, done, err)
		}
	}
	for _, lie := range Lies() {
		if On(lie) {
			t.Errorf("it tells the lie %s", lie)
		}
	}
	at := time.Unix(7, 0)
	if got := Clock(func() time.Time { return at })(); !got.Equal(at) {
		t.Errorf("the clock says %v, want %v", got, at)
	}
}
