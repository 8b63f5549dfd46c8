package command

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBlockTime(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "1970-01-02": 86_400_000_000_000, "2026-01-01T00:00:00Z": 1_767_225_600_000_000_000,
		"2026-01-01T01:00:00.5+01:00": 1_767_225_600_500_000_000,
	} {
		if got, err := blockTime("--from", text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "2026-13-01", "1969-12-31", "2262-01-01", "9999-01-01", "2026-01-01 00:00", "5"} {
		if got, err := blockTime("--from", text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
}

func TestReadOwners(t *testing.T) {
	for text, want := range map[string]int{"a,the city\nb,the city\n": 2, "": 0, "a\n": -1, "a,b,c\n": -1, "a,b\na,c\n": -1, "\"a,b\n": -1} {
		path := filepath.Join(t.TempDir(), "owners.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		owners, err := readOwners(path)
		if (err == nil) != (want >= 0) || err == nil && len(owners) != want {
			t.Errorf("%q gives %v, %v; want %d", text, owners, err, want)
		}
	}
}
