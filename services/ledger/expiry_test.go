package ledger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// dropsExpired is a cluster whose first two replicas dropped what expired, one of
// them in cold storage too; the third kept it, and the fourth never ran.
func dropsExpired(t *testing.T) (c *cluster, m *statetest.Meter, before []byte) {
	t.Helper()
	c = newCluster(t, statetest.Options{})
	dir := t.TempDir()
	for i, id := range four {
		n := c.nodes[id]
		n.config.SegmentBytes, n.config.Admin.Listen = minSegmentBytes, "127.0.0.1:0"
		n.config.Expiry.Drop = i != 2
		if i == 1 {
			n.config.Cold = ColdConfig{Store: filepath.Join(dir, id), After: time.Nanosecond}
			n.config.Expiry.DeleteCold = true
		}
	}
	three := four[:3]
	c.start(three...)
	via := c.leader(three...)
	c.approve(via)
	m = c.register(via, "meter-1")
	for range 400 {
		c.measure(via, m, 4)
		if c.nodes[four[0]].service.store.Packed() > 3 && c.nodes[four[1]].service.store.ColdSegments() > 1 && c.nodes[four[2]].service.store.Packed() > 3 {
			break
		}
	}
	bundle, err := c.public(via).GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key(1)})
	c.must(err)
	below := c.mirror.Store.Head().Height
	next := c.nextConfig()
	next.Limits.RawVectorRetentionNano = 60 * statetest.Second
	c.accept(via, [][]byte{c.signConfig(next)}, nil)
	young := c.submit(via, [][]byte{c.mirror.Expiry(below, "org-00", "org-01", "org-02")}, nil).GetOutcomes()[0]
	if reason.Reason(young.GetReason()) != reason.RetentionNotOver {
		t.Fatalf("raw vectors that are too young expired: %v", young)
	}
	c.advance(61*time.Second, three...)
	c.measure(via, m, 1) // its block carries the time
	c.measure(via, m, 1)
	c.accept(via, [][]byte{c.mirror.Expiry(below, "org-00", "org-01", "org-02")}, nil)
	for _, id := range four[:2] {
		c.until(id+" drops what expired", func() bool { return c.nodes[id].service.store.DroppedSegments() > 1 })
	}
	return c, m, bundle.GetBundle()
}

func key(counter uint64) *ledgerv1.MeasurementKey {
	return &ledgerv1.MeasurementKey{MeterId: "meter-1", Counter: counter}
}

// Where raw vectors expired, everything else is served as before, and what is gone
// says by which decision; where they are kept, nothing changed. A replica that joins
// where nobody has them any more takes part all the same.
func TestS4_ReplicasDropWhatExpired(t *testing.T) {
	c, m, before := dropsExpired(t)
	drops, cold, keeps, late := four[0], four[1], four[2], four[3]
	gone := func(id string) {
		t.Helper()
		client := c.public(id)
		_, err := client.GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key(1)})
		if reason.Of(err) != reason.RawVectorExpired || !strings.Contains(err.Error(), "statement 1 on raw-vectors") || !strings.Contains(err.Error(), "org-00, org-01, org-02") {
			t.Errorf("%s gives the bundle of an expired raw vector: %v", id, err)
		}
		_, err = client.GetReceipt(c.context(), &ledgerv1.GetReceiptRequest{Measurement: key(1)})
		c.must(err)
		without, err := client.GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key(1), WithoutRawVector: true})
		c.must(err)
		contents, report := receipt.VerifyBundle(without.GetBundle(), c.trust(), nil)
		if report.Verdict != receipt.Verified || len(contents.RawVector) != 0 {
			t.Errorf("the bundle without its raw vector: %v", report)
		}
	}
	gone(drops)
	gone(cold)
	for name, bundle := range map[string][]byte{"made before": before, "of who keeps it": func() []byte {
		kept, err := c.public(keeps).GetBundle(c.context(), &ledgerv1.GetBundleRequest{Measurement: key(1)})
		c.must(err)
		return kept.GetBundle()
	}()} {
		contents, report := receipt.VerifyBundle(bundle, c.trust(), nil)
		if len(contents.RawVector) == 0 {
			t.Errorf("the bundle %s has no raw vector", name)
		}
		for _, step := range report.Steps {
			if step.Name != receipt.StepModule && step.Name != receipt.StepReExecution && step.Verdict != receipt.Verified { // its claims are made up
				t.Errorf("the bundle %s: %s: %v: %s", name, step.Name, step.Verdict, step.Detail)
			}
		}
	}
	c.until("its objects are deleted", func() bool {
		objects, err := os.ReadDir(c.nodes[cold].config.Cold.Store)
		c.must(err)
		return len(objects) == int(c.nodes[cold].service.store.ColdSegments())
	})
	backup := filepath.Join(t.TempDir(), "backup")
	if held := c.backUp(drops, backup); held.Dropped == 0 {
		t.Errorf("the backup says %+v", held)
	}

	c.halt(keeps)
	c.start(late) // nobody that is up has everything
	c.same(drops, cold, late)
	gone(late)
	c.measure(c.leader(drops, cold, late), m, 1) // it takes all three
	c.same(drops, cold, late)
	c.start(keeps)
	c.same(four...)
	c.halt(four...)

	for at, expired := range map[string]bool{c.nodes[drops].config.DataDir: true, c.nodes[late].config.DataDir: true, backup: true, c.nodes[keeps].config.DataDir: false} {
		a, err := OpenArchive(at)
		c.must(err)
		report, err := a.Verify(t.Context(), nil)
		c.must(err)
		info, err := a.Info(t.Context())
		c.must(err)
		if len(report.Problems) > 0 || (report.Expired > 0) != expired || info.Expired.Measurements != report.Expired || report.RawVectors == 0 ||
			len(info.Expired.Decisions) != 1 || info.Expired.Decisions[0].Rule != "storage limitation" {
			t.Errorf("%s: %+v, %+v", at, report, info.Expired)
		}
		c.must(a.Close())
	}
}

// What an operator asks for must make sense.
func TestExpiryConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		ok     bool
	}{
		{Config{}, true},
		{Config{Expiry: ExpiryConfig{Drop: true}}, true},
		{Config{Expiry: ExpiryConfig{Drop: true, DeleteCold: true}, Cold: ColdConfig{Store: "cold"}}, true},
		{Config{Expiry: ExpiryConfig{Drop: true, DeleteCold: true}}, false},
		{Config{Expiry: ExpiryConfig{DeleteCold: true}, Cold: ColdConfig{Store: "cold"}}, false},
	} {
		if err := c.config.validateExpiry(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.config.Expiry, err)
		}
	}
}
