package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
)

// blocksAfter is more blocks than opening a store re-hashes.
const blocksAfter = 12

// A stopped replica's directory is read whole; a raw vector that is damaged
// among older blocks is missing and nothing else, and is named.
func TestArchiveReadsWhatIsSound(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 2)
	for range blocksAfter {
		c.measure(via, m, 1)
	}
	c.same(four...)
	dir := c.nodes[via].config.DataDir
	if _, err := OpenArchive(dir); err == nil {
		t.Fatal("the directory of a running replica was opened")
	}
	c.halt(four...)

	a := mustArchive(t, dir)
	if got, want := a.Blocks(), c.mirror.Store.Head().Height+1; got != want {
		t.Fatalf("%d blocks, the ledger has %d", got, want)
	}
	var height, index uint64 // of the first measurement
	var leaf int
	var raw []byte
	for h, first := uint64(0), uint64(0); h < a.Blocks(); h++ {
		b, err := a.Block(h)
		if err != nil {
			t.Fatal(err)
		}
		for i, bytesOf := range b.Leaves {
			if want := c.mirror.Store.Leaves[first+uint64(i)]; !bytes.Equal(bytesOf, want) {
				t.Fatalf("leaf %d of block %d is not the ledger's", i, h)
			}
			r, err := record.Parse(bytesOf)
			if err != nil {
				t.Fatal(err)
			}
			if (r.GetMeasurement() != nil) != (b.RawVectors[i] != nil) {
				t.Fatalf("leaf %d of block %d, a %T, has a raw vector of %d bytes", i, h, r.GetBody(), len(b.RawVectors[i]))
			}
			if raw == nil && b.RawVectors[i] != nil {
				height, index, leaf, raw = h, first+uint64(i), i, b.RawVectors[i]
			}
		}
		first += uint64(len(b.Leaves))
	}
	if got, err := a.Record(index); err != nil || !bytes.Equal(got, c.mirror.Store.Leaves[index]) {
		t.Fatalf("record %d: %v", index, err)
	}
	told := uint64(0)
	report, err := a.Verify(t.Context(), func(done, _ uint64) { told = done })
	if err != nil || len(report.Problems) > 0 || report.Blocks != a.Blocks() || told != a.Blocks() || report.RawVectors != 2+blocksAfter {
		t.Fatalf("a sound directory: %+v after %d blocks, %v", report, told, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	flipIn(t, dir, raw)
	a = mustArchive(t, dir)
	b, err := a.Block(height)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Leaves {
		if i == leaf && b.RawVectors[i] != nil {
			t.Error("the damaged raw vector was given out")
		}
		r, err := record.Parse(b.Leaves[i])
		if i != leaf && err == nil && r.GetMeasurement() != nil && b.RawVectors[i] == nil {
			t.Errorf("the sound raw vector of leaf %d is missing", i)
		}
	}
	if report, err = a.Verify(t.Context(), nil); err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "raw vector") {
		t.Errorf("one damaged raw vector: %+v, %v", report, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	flipIn(t, dir, c.mirror.Store.Leaves[index]) // the record itself, too
	a = mustArchive(t, dir)
	if _, err := a.Block(height); reason.Of(err) != reason.DataLoss {
		t.Errorf("block with a damaged record: %v", err)
	}
	if _, err := a.Record(index); reason.Of(err) != reason.DataLoss {
		t.Errorf("damaged record: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// Damage in the newest blocks, which a replica re-hashes before it starts, does
// not keep an auditor from the others: it is named, and all else is read.
func TestArchiveNamesDamageInTheNewestBlocks(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	for range 3 {
		c.measure(via, m, 1)
	}
	c.same(four...)
	c.halt(four...)
	newest := c.mirror.Store.Head()
	leaves := c.mirror.Store.BlockLeaves(newest.Height)
	for name, damage := range map[string]func(dir string) string{
		"a record": func(dir string) string {
			flipIn(t, dir, leaves[len(leaves)-1])
			return fmt.Sprintf("block %d, record %d, segments/0000000001.seg at byte", newest.Height, newest.Size-1)
		},
		"the end of the last segment": func(dir string) string {
			path := filepath.Join(dir, "store", "segments", "0000000001.seg")
			content, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, content[:len(content)-1], 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("block %d, record %d, segments/0000000001.seg", newest.Height, newest.Size-1)
		},
		"a segment": func(dir string) string {
			if err := os.Remove(filepath.Join(dir, "store", "segments", "0000000001.seg")); err != nil {
				t.Fatal(err)
			}
			return "block 0, record 0, segments/0000000001.seg"
		},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(c.nodes[via].config.DataDir)); err != nil {
			t.Fatal(err)
		}
		want := damage(dir)
		a := mustArchive(t, dir)
		report, err := a.Verify(t.Context(), nil)
		if err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0], want) {
			t.Errorf("%s: %v, %v; want %q", name, report, err, want)
		}
		if _, err := a.Block(newest.Height); reason.Of(err) != reason.DataLoss {
			t.Errorf("%s: the damaged block: %v", name, err)
		}
		if b, err := a.Block(newest.Height - 1); name != "a segment" && (err != nil || !bytes.Equal(b.Leaves[0], c.mirror.Store.BlockLeaves(newest.Height - 1)[0])) {
			t.Errorf("%s: the block before: %v", name, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestArchiveOfNothing(t *testing.T) {
	if _, err := OpenArchive(t.TempDir()); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory was opened: %v", err)
	}
}

func mustArchive(t *testing.T, dir string) *Archive {
	t.Helper()
	a, err := OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// flipIn flips one bit in the middle of stored bytes.
func flipIn(t *testing.T, dir string, stored []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "store", "segments", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, stored); at >= 0 {
			content[at+len(stored)/2] ^= 1
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no segment holds those %d bytes", len(stored))
}
