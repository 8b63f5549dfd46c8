package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// backUp takes a running replica's backup from its admin port.
func (c *cluster) backUp(id, dir string) *Backup {
	c.t.Helper()
	held, err := HeldBackup(dir)
	c.must(err)
	url := "http://" + c.nodes[id].service.AdminAddr().String() + BackupPath
	if held != nil {
		url += fmt.Sprintf("?have=%d&packed=%d", held.FullSegments(), held.PackedSegments())
	}
	request, err := http.NewRequestWithContext(c.context(), http.MethodGet, url, nil)
	c.must(err)
	response, err := http.DefaultClient.Do(request)
	c.must(err)
	b, err := ReceiveBackup(dir, held, response.Body, nil)
	c.must(errors.Join(err, response.Body.Close()))
	return b
}

// verified is a directory without a fault.
func verified(t *testing.T, dir string) uint64 {
	t.Helper()
	archive, err := OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	report, err := archive.Verify(t.Context(), nil)
	if err := errors.Join(err, archive.Close()); err != nil || len(report.Problems) > 0 {
		t.Fatalf("%s: %v, %v", dir, err, report.Problems)
	}
	return report.Blocks
}

// A replica is backed up while it works, and again upon that; its disk is lost,
// and it comes back from the backup. It signs nothing up to what it may have
// signed.
func TestC7_ReplicaFromABackupKeepsQuiet(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	for _, id := range four {
		c.nodes[id].config.Admin.Listen = "127.0.0.1:0"
	}
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	old := c.follower(four...)
	others := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == old })
	n, dir := c.nodes[old], filepath.Join(t.TempDir(), "backup")

	var copying sync.WaitGroup
	copying.Go(func() {
		for range 3 {
			c.backUp(old, dir)
		}
	})
	for range 5 {
		c.measure(via, m, 2)
	}
	copying.Wait()
	c.same(four...)
	c.until("it has written a certificate above the genesis block's", func() bool { // which it does behind
		newest, ok, err := n.service.store.NewestCertificate()
		return err == nil && ok && newest.Height > 0
	})
	held := c.backUp(old, dir)
	if blocks := verified(t, dir); blocks != held.Height+1 || held.NodeID != old || held.NetworkID != c.mirror.ID.String() {
		t.Errorf("%d blocks are verified, the backup says %+v", blocks, held)
	}
	if held.LockedHeight == 0 || held.AppliedIndex == 0 || held.CertifiedHeight == 0 {
		t.Errorf("the backup says %+v", held)
	}
	c.measure(via, m, 1)
	c.same(four...)
	signed := c.mirror.Store.Head().Height
	name := state.CosignerName(c.trust().Origin(), old)
	c.until("another replica has its cosignature", func() bool {
		return slices.ContainsFunc(others, func(id string) bool { return c.nodes[id].service.collector.Seen(name) == signed })
	})

	c.halt(old)
	var stopped bytes.Buffer // a stopped replica's directory gives one, too
	c.must(BackUpDirectory(c.context(), n.config.DataDir, nil, &stopped))
	if b, err := ReceiveBackup(filepath.Join(t.TempDir(), "stopped"), nil, &stopped, nil); err != nil || b.Height != signed {
		t.Errorf("the stopped replica's backup is %+v (%v), want block %d", b, err, signed)
	}
	if _, err := Restore(n.config, dir, c.mirror.ID); !errors.Is(err, ErrInitialised) {
		t.Errorf("restored over what stands: %v", err)
	}
	c.must(os.RemoveAll(n.config.DataDir))
	if _, err := Restore(n.config, dir, digest.Plain([]byte("x"))); err == nil {
		t.Error("another network's backup is restored")
	}
	if _, err := Restore(c.nodes[others[0]].config, dir, c.mirror.ID); err == nil {
		t.Error("another replica's backup is restored")
	}
	_, err := Restore(n.config, dir, c.mirror.ID)
	c.must(err)
	if blocks := verified(t, n.config.DataDir); blocks != held.Height+1 {
		t.Errorf("%d blocks are restored, want %d", blocks, held.Height+1)
	}
	c.start(old)
	via = c.leader(others...)
	lock := n.service.store.Lock().Height
	if lock != held.LockedHeight {
		t.Errorf("the restored lock is on block %d, want %d", lock, held.LockedHeight)
	}
	quiet := signed + uint64(c.mirror.Config.Limits.MaxUncertifiedBlocks)
	for n.service.store.Lock().Height == lock {
		c.measure(via, m, 1)
		c.same(four...)
	}
	if again := n.service.store.Lock().Height; again <= quiet {
		t.Errorf("it signs block %d, quiet was due up to %d", again, quiet)
	}
	if index, err := state.GetConfig(n.service.store); err != nil || index == nil || n.service.machine.Restoring() {
		t.Errorf("the restoration does not end (%v)", err)
	}
}

// What breaks off, or is something else, leaves the earlier backup as it was.
func TestBrokenBackupIsRefused(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 3)
	c.same(four...)
	c.halt(four...)
	take := func(id string) []byte {
		var b bytes.Buffer
		c.must(BackUpDirectory(t.Context(), c.nodes[id].config.DataDir, nil, &b))
		return b.Bytes()
	}
	whole, dir := take(four[0]), t.TempDir()
	held, err := ReceiveBackup(dir, nil, bytes.NewReader(whole), nil)
	c.must(err)
	blocks := verified(t, dir)
	for name, text := range map[string][]byte{
		"cut off":         whole[:len(whole)/2],
		"without its end": whole[:len(whole)-3*512-512],
		"nothing":         nil,
		"a strange file":  bytes.Replace(bytes.Clone(whole), []byte("store.db\x00"), []byte("../e.bad\x00"), 1),
	} {
		if _, err := ReceiveBackup(dir, held, bytes.NewReader(text), nil); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		if got := verified(t, dir); got != blocks {
			t.Errorf("%s: the earlier backup has %d blocks, had %d", name, got, blocks)
		}
	}
	segment := filepath.Join(c.nodes[four[1]].config.storeDir(), "segments", "0000000001.seg")
	text, err := os.ReadFile(segment)
	c.must(err)
	text[len(text)-9] ^= 1
	c.must(os.WriteFile(segment, text, 0o600))
	if err := BackUpDirectory(t.Context(), c.nodes[four[1]].config.DataDir, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "DATA_LOSS") {
		t.Errorf("a damaged directory is backed up: %v", err)
	}
}
