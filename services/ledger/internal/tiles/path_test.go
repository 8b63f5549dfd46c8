package tiles

import (
	"strings"
	"testing"

	sumdb "golang.org/x/mod/sumdb/tlog"
)

func TestPathsOfTheSpecification(t *testing.T) {
	for path, want := range map[string]Tile{
		"/tile/0/000":                          {Width: 256},
		"/tile/0/273.p/112":                    {Index: 273, Width: 112}, // the specification's tree of 70,000
		"/tile/1/001.p/17":                     {Level: 1, Index: 1, Width: 17},
		"/tile/2/000.p/1":                      {Level: 2, Width: 1},
		"/tile/63/000":                         {Level: 63, Width: 256},
		"/tile/entries/x001/x234/067":          {Entries: true, Index: 1234067, Width: 256},
		"/tile/entries/999.p/255":              {Entries: true, Index: 999, Width: 255},
		"/tile/3/x036/x028/x797/x018/x963/967": {Level: 3, Index: maxIndex, Width: 256},
		"/tile/0/x001/000":                     {Index: 1000, Width: 256},
		"/tile/entries/x001/x000/x000/000.p/9": {Entries: true, Index: 1e9, Width: 9},
	} {
		got, err := ParsePath(path)
		if err != nil || got != want {
			t.Errorf("%s is %+v (%v), want %+v", path, got, err, want)
		}
		if got := want.Path(); got != path {
			t.Errorf("%+v is written %s, want %s", want, got, path)
		}
	}
}

var refusedPaths = []string{
	"", "/", "/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/entries", "/tile/entries/", "tile/0/000", "//tile/0/000",
	"/tile//0/000", "/tile/0//000", "/tile/0/000/", "/tile/./0/000", "/tile/0/../0/000", "/Tile/0/000", "/tile/0/000?",
	"/tile/64/000", "/tile/00/000", "/tile/01/000", "/tile/+1/000", "/tile/-1/000", "/tile/1.0/000", "/tile/x/000", "/tile/256/000",
	"/tile/data/000", "/tile/8/0/000", "/tile/entry/000",
	"/tile/0/0", "/tile/0/00", "/tile/0/0000", "/tile/0/1000", "/tile/0/+00", "/tile/0/-01", "/tile/0/ 00", "/tile/0/0x1", "/tile/0/a00",
	"/tile/0/x000/001", "/tile/0/x000/x001/000", "/tile/0/001/000", "/tile/0/x001", "/tile/0/x001/", "/tile/0/X001/000", "/tile/0/xx01/000",
	"/tile/0/x0001/000", "/tile/0/x01/000", "/tile/0/x+01/000",
	"/tile/0/x036/x028/x797/x018/x963/968", "/tile/0/x001/x000/x000/x000/x000/x000/000",
	"/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
	"/tile/0/000.p", "/tile/0/000.p/", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/000.p/01", "/tile/0/000.p/+1", "/tile/0/000.p/-1",
	"/tile/0/000.p/1/", "/tile/0/000.p/1.p/1", "/tile/0/000.p/65537", "/tile/0/000.p/1 ", "/tile/0/000.P/1", "/tile/0/000p/1", "/tile/0/.p/1",
	"/tile/entries/000.p/0", "/tile/entries/000.p/256", "/tile/entries/0/000", "/checkpoint/", "/checkpoint.txt",
}

func TestEveryOtherPathIsRefused(t *testing.T) {
	for _, path := range refusedPaths {
		if got, err := ParsePath(path); err == nil {
			t.Errorf("%q is read as %+v", path, got)
		}
	}
}

// FuzzParseTilePath compares with another project's parser: what it accepts is
// one path, and both mean the same by it.
func FuzzParseTilePath(f *testing.F) {
	f.Add("/tile/0/x001/x234/067.p/5")
	f.Add("/tile/entries/000")
	for _, path := range refusedPaths {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := ParsePath(path)
		rest, tile := strings.CutPrefix(path, "/tile/")
		theirs := "tile/8/" + rest
		if leaves, ok := strings.CutPrefix(rest, "entries/"); ok {
			theirs = "tile/8/data/" + leaves
		}
		other, otherErr := sumdb.ParseTilePath(theirs)
		// Their own layout names the entries "data" and bounds no level.
		accept := tile && otherErr == nil && !strings.HasPrefix(rest, "data/") && other.N <= maxIndex && other.L <= maxLevel
		if (err == nil) != accept {
			t.Fatalf("%q: %v here, %v there", path, err, otherErr)
		}
		if err != nil {
			return
		}
		want := sumdb.Tile{H: 8, L: int(got.Level), N: int64(got.Index), W: got.Width}
		if got.Entries {
			want.L = -1
		}
		if want != other {
			t.Fatalf("%q is %+v here and %+v there", path, got, other)
		}
		if got.Path() != path {
			t.Fatalf("%q is written %q", path, got.Path())
		}
	})
}
