package tiles

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// fullWidth is the number of hashes of a full tile.
	fullWidth = 256
	// maxLevel is the highest level that the specification names.
	maxLevel = 63
	// maxIndex keeps leaf numbers below 2^63; it has 17 digits, six elements.
	maxIndex    = 1<<55 - 1
	maxElements = 6
)

// Tile names a tile of hashes or a bundle of entries.
type Tile struct {
	Entries bool   // the leaves themselves; Level is 0
	Level   uint   // 0 to 63
	Index   uint64 // of the tile in its level, at most 2^55-1
	Width   int    // 1 to 256; 256 is a full tile
}

// ParsePath reads a path, from its first slash; it accepts what Path writes and
// nothing else.
func ParsePath(path string) (Tile, error) {
	bad := func(what string) (Tile, error) { return Tile{}, fmt.Errorf("tile path %q: %s", path, what) }
	rest, ok := strings.CutPrefix(path, "/tile/")
	if !ok {
		return bad("want /tile/ first")
	}
	t := Tile{Width: fullWidth}
	if rest, ok = strings.CutPrefix(rest, "entries/"); ok {
		t.Entries = true
	} else {
		var level string
		if level, rest, ok = strings.Cut(rest, "/"); !ok {
			return bad("no index after the level")
		}
		n, err := strconv.ParseUint(level, 10, 8)
		if err != nil || n > maxLevel {
			return bad("the level is no number of 0 to 63")
		}
		t.Level = uint(n)
	}
	if index, width, partial := strings.Cut(rest, ".p/"); partial {
		n, err := strconv.ParseUint(width, 10, 16)
		if err != nil || n < 1 || n >= fullWidth {
			return bad("the width is no number of 1 to 255")
		}
		rest, t.Width = index, int(n)
	}
	elements := strings.Split(rest, "/")
	if len(elements) > maxElements {
		return bad("the index is too large")
	}
	for i, e := range elements {
		if i < len(elements)-1 {
			e, ok = strings.CutPrefix(e, "x")
		}
		n, err := strconv.ParseUint(e, 10, 16)
		if !ok || err != nil || len(e) != 3 {
			return bad("the index is not of three-digit elements, all but the last behind an x")
		}
		t.Index = t.Index*1000 + n
		ok = true
	}
	if t.Index > maxIndex {
		return bad("the index is too large")
	}
	if t.Path() != path { // leading zeros and signs end here
		return bad("not the canonical form, " + t.Path())
	}
	return t, nil
}

// Path is the tile's path, from its first slash.
func (t Tile) Path() string {
	elements := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		elements = fmt.Sprintf("x%03d/%s", n%1000, elements)
	}
	kind := "entries"
	if !t.Entries {
		kind = strconv.FormatUint(uint64(t.Level), 10)
	}
	path := "/tile/" + kind + "/" + elements
	if t.Width < fullWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return path
}

// height is the level in the tree of the tile's hashes.
func (t Tile) height() uint { return 8 * t.Level }

// first is the number of the tile's first hash among those of its height.
func (t Tile) first() uint64 { return t.Index * fullWidth }

// within says whether a tree of size leaves has all of the tile.
func (t Tile) within(size uint64) bool {
	return t.height() < 64 && t.first()+uint64(t.Width) <= size>>t.height()
}
