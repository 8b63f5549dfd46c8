package ledger

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// Replicas pack what is full while they work: reads, backups and replicas that
// lack the blocks go on from packed segments.
func TestReplicasPackFullSegmentsBehind(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	for _, id := range four {
		c.nodes[id].config.SegmentBytes = minSegmentBytes
		c.nodes[id].config.Admin.Listen = "127.0.0.1:0"
	}
	late, three := four[3], four[:3]
	c.start(three...)
	via := c.leader(three...)
	c.approve(via)
	m := c.register(via, "meter-1")
	backup := filepath.Join(t.TempDir(), "backup")
	packs := func(id string, n uint32) func() bool {
		return func() bool { return c.nodes[id].service.store.Packed() >= n }
	}
	for n := uint32(1); n <= 3; n++ {
		for range 200 { // measurements of some 700 bytes
			c.measure(via, m, 4)
			if packs(via, n)() {
				break
			}
		}
		for _, id := range three {
			c.until(id+" packs its full segments", packs(id, n))
		}
		if held := c.backUp(via, backup); held.Packed < n {
			t.Errorf("the backup says %+v, %d segments are packed", held, n)
		}
		verified(t, backup)
	}
	c.start(late) // it fetches what the others read from packed segments
	c.same(four...)
	c.until("the late one packs", packs(late, 3))
	head := c.mirror.Store.Head()
	for index := range head.Size {
		leaf, err := c.nodes[late].service.store.Record(index)
		if err != nil || !bytes.Equal(leaf, c.mirror.Store.Leaves[index]) {
			t.Fatalf("record %d is read otherwise (%v)", index, err)
		}
	}
	c.halt(four...)
	for _, id := range four {
		verified(t, c.nodes[id].config.DataDir)
	}
	archive := mustArchive(t, c.nodes[late].config.DataDir)
	info, err := archive.Info(t.Context())
	c.must(err)
	c.must(archive.Close())
	if p := info.Packed; p.Segments < 3 || p.Measurements == 0 || p.RecordBytes >= info.RecordBytes || p.BytesPerMeasurement == 0 {
		t.Errorf("usage is %+v", info)
	}
	c.start(four...)
	c.measure(c.leader(four...), m, 1)
	c.same(four...)
}
