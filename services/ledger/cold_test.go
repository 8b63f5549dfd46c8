package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// Replicas move old raw vectors to cold storage while they work; from there they
// are read, audited, backed up and given to a replica that lacks the blocks. What
// is gone there is DATA_LOSS.
func TestReplicasMoveOldRawVectorsToColdStorage(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	dir := t.TempDir()
	for _, id := range four {
		n := c.nodes[id]
		n.config.SegmentBytes = minSegmentBytes
		n.config.Admin.Listen = "127.0.0.1:0"
		n.config.Cold = ColdConfig{Store: filepath.Join(dir, id), After: time.Nanosecond}
	}
	late, three := four[3], four[:3]
	c.start(three...)
	via := c.leader(three...)
	c.approve(via)
	m := c.register(via, "meter-1")
	store := func(id string) uint32 { return c.nodes[id].service.store.ColdSegments() }
	for range 400 {
		c.measure(via, m, 4)
		if store(three[0]) > 0 && store(three[1]) > 0 && store(three[2]) > 0 {
			break
		}
	}
	backup := filepath.Join(dir, "backup")
	if held := c.backUp(via, backup); held.Cold == 0 {
		t.Errorf("the backup says %+v", held)
	}
	c.start(late) // it fetches what the others read from cold storage
	c.same(four...)
	c.halt(four...)
	for at, cold := range map[string]string{c.nodes[late].config.DataDir: c.nodes[late].config.Cold.Store, backup: c.nodes[via].config.Cold.Store} {
		a, err := OpenArchiveWith(at, ArchiveOptions{Cold: cold})
		c.must(err)
		report, err := a.Verify(t.Context(), nil)
		c.must(err)
		if len(report.Problems) > 0 || report.Skipped > 0 || (at == backup && report.Cold == 0) {
			t.Errorf("%s: %+v", at, report)
		}
		first := uint64(0)
		for h := range a.Blocks() {
			b, err := a.Block(h)
			c.must(err)
			for i, leaf := range b.Leaves {
				if !bytes.Equal(leaf, c.mirror.Store.Leaves[first+uint64(i)]) {
					t.Fatalf("leaf %d of block %d is another", i, h)
				}
			}
			first += uint64(len(b.Leaves))
		}
		c.must(a.Close())
	}
	a, err := OpenArchiveWith(backup, ArchiveOptions{})
	c.must(err)
	if _, err := a.Verify(t.Context(), nil); reason.Of(err) != reason.NotReady {
		t.Errorf("verified without cold storage: %v", err)
	}
	c.must(a.Close())
	a, err = OpenArchiveWith(backup, ArchiveOptions{SkipCold: true})
	c.must(err)
	report, err := a.Verify(t.Context(), nil)
	c.must(err)
	info, err := a.Info(t.Context())
	c.must(err)
	if len(report.Problems) > 0 || report.Skipped == 0 || info.Cold.Measurements != report.Skipped || info.Cold.RawBytes == 0 {
		t.Errorf("%+v, %+v", report, info.Cold)
	}
	c.must(a.Close())

	config := c.nodes[via].config
	config.Cold.Store = ""
	if _, err := open(config, c.nodes[via].clock, c.nodes[via].log); err == nil || !strings.Contains(err.Error(), "cold.store") {
		t.Errorf("started without its cold storage: %v", err)
	}
	objects, err := os.ReadDir(c.nodes[via].config.Cold.Store)
	c.must(err)
	lost := objects[0].Name()
	c.must(os.Remove(filepath.Join(c.nodes[via].config.Cold.Store, lost)))
	a, err = OpenArchiveWith(c.nodes[via].config.DataDir, ArchiveOptions{Cold: c.nodes[via].config.Cold.Store})
	c.must(err)
	report, err = a.Verify(t.Context(), nil)
	c.must(err)
	if len(report.Problems) == 0 || !strings.Contains(report.Problems[0], lost) || !strings.Contains(report.Problems[0], "record ") {
		t.Errorf("an object is gone: %v", report.Problems)
	}
	c.must(a.Close())
}
