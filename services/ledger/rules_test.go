package ledger

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Two of four replicas stop cosigning: ordering goes on, certification does not.
func TestC3_AnswersWaitForTheCertificate(t *testing.T) {
	c, m := running(t)
	leader := c.leader(four...)
	first := c.measure(leader, m, 1)
	c.same(four...)
	muted := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == leader })[:2]
	for _, id := range muted {
		c.nodes[id].service.signer.SignFrom(math.MaxUint64)
	}
	before := c.mirror.Store.Head()
	c.tick()
	batch := c.mirror.Batch(m.Capture())
	request := &ledgerv1.SubmitRequest{Records: batch.Records(), RawVectors: batch.Raw}
	client := c.client(leader, c.gateway)
	answered := make(chan *ledgerv1.SubmitResponse, 1)
	go func() {
		response, err := client.Submit(c.context(), request)
		if err != nil {
			t.Errorf("submit: %v", err)
		}
		answered <- response
	}()
	service := c.nodes[leader].service
	c.until("the block is applied", func() bool { return service.machine.Head().Block.Height > before.Height })

	// Everything that depends on the block waits in vain or does not know of it.
	brief := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if response, err := client.Submit(brief(), request); err == nil {
		t.Errorf("a duplicate of an uncertified measurement is answered: %v", response)
	}
	if response, err := client.GetMeter(brief(), &ledgerv1.GetMeterRequest{MeterId: m.ID}); err == nil {
		t.Errorf("the meter's standing is told from an uncertified block: %v", response)
	}
	key := &ledgerv1.MeasurementKey{MeterId: m.ID, Counter: 2}
	if _, err := client.GetReceipt(brief(), &ledgerv1.GetReceiptRequest{Measurement: key}); reason.Of(err) != reason.NotFound {
		t.Errorf("receipt of an uncertified measurement: %v", err)
	}
	if _, err := client.GetRecord(brief(), &ledgerv1.GetRecordRequest{Index: before.Size}); reason.Of(err) != reason.NotCertified {
		t.Errorf("uncertified record: %v", err)
	}
	if page, err := client.ListMeasurements(brief(), &ledgerv1.ListMeasurementsRequest{MeterId: m.ID}); err != nil || len(page.GetMeasurements()) != 1 {
		t.Errorf("listed are %v (%v), want the certified one", page, err)
	}
	if status, err := client.GetStatus(brief(), &ledgerv1.GetStatusRequest{}); err != nil || status.GetCertifiedHeight() != before.Height {
		t.Errorf("status is %v (%v), certified is %d", status, err, before.Height)
	}
	if _, err := client.GetConsistencyProof(brief(), &ledgerv1.GetConsistencyProofRequest{FromSize: 1, ToSize: before.Size + 1}); reason.Of(err) != reason.NotFound {
		t.Errorf("proof to an uncertified size: %v", err)
	}
	select {
	case response := <-answered:
		t.Fatalf("answered before the certificate: %v", response)
	default:
	}

	// The block was not signed by them and never will be: the next one covers it.
	for _, id := range muted {
		c.nodes[id].service.signer.SignFrom(0)
	}
	response := <-answered
	if response == nil || !response.GetOutcomes()[1].GetAccepted() {
		t.Fatalf("answer is %v", response)
	}
	again := c.submit(leader, request.GetRecords(), request.GetRawVectors()).GetOutcomes()[1]
	if again.GetReason() != string(reason.Duplicate) || !bytes.Equal(again.GetReceipt(), response.GetOutcomes()[1].GetReceipt()) {
		t.Errorf("the duplicate is answered with %v", again)
	}
	for _, text := range [][]byte{first.GetOutcomes()[1].GetReceipt(), again.GetReceipt()} {
		if _, report := receipt.Verify(text, c.trust()); report.Verdict != receipt.Verified {
			t.Error(report)
		}
	}
}

func TestC4_AFastLeaderCannotSpeedTime(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	c.nodes[four[0]].skew = 24 * time.Hour
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.measure(via, m, 1)
	now := c.now().UnixNano()
	if got := c.mirror.Store.Head().BlockTimeUnixNano; got > now {
		t.Errorf("block time is %d s ahead of three honest clocks", (got-now)/1e9)
	}
	c.same(four...)
}

// nextConfig is the configuration in force, to be changed.
func (c *cluster) nextConfig() *recordv1.NetworkConfig {
	config, err := state.GetConfig(c.mirror.Store)
	c.must(err)
	config.Message.Header = c.mirror.Header(record.SubjectNetwork)
	return config.Message
}

func (c *cluster) signConfig(m *recordv1.NetworkConfig, newKeys ...crypto.Signer) []byte {
	return c.mirror.Sign(m, append([]crypto.Signer{statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")}, newKeys...)...)
}

func TestC6_ChangedLimitsTakeEffect(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 1)
	next := c.nextConfig()
	next.Limits.MaxUncertifiedBlocks = 5
	index := c.accept(via, [][]byte{c.signConfig(next)}, nil).GetOutcomes()[0].GetIndex()
	c.measure(via, m, 1)
	c.same(four...)
	for height, ref := range c.mirror.Store.Blocks {
		if ref.FirstIndex == index && ref.Size != index+2 {
			t.Errorf("block %d has the configuration and %d other leaves", height, ref.Size-index-2)
		}
		if ref.FirstIndex == ref.Size-2 && height > 0 && c.mirror.Store.Blocks[height-1].FirstIndex == index && ref.CertifiedHeight != uint64(height-1) {
			t.Errorf("block %d follows the configuration on a certificate of %d", height, ref.CertifiedHeight)
		}
	}
	for _, id := range four {
		if got := c.nodes[id].service.machine.Head().MaxUncertified; got != 5 {
			t.Errorf("%s has the limit %d, want 5", id, got)
		}
		c.everyReceipt(id, m.ID, []uint64{1, 2}, 2)
	}
}

// C5: a configuration that names a record version which this build does not know
// is certified like any other; then every replica ends, and starts no more. A
// later build goes on from there.
func TestC5_ALaterRecordVersionEndsTheReplicas(t *testing.T) {
	c, m := running(t)
	via := c.leader(four...)
	c.measure(via, m, 1)
	next := c.nextConfig()
	next.RecordVersion = state.RecordVersion + 1
	index := c.accept(via, [][]byte{c.signConfig(next)}, nil).GetOutcomes()[0].GetIndex()
	for _, id := range four {
		n := c.nodes[id]
		err := <-n.ended
		n.stop()
		n.stop = nil
		if reason.Of(err) != reason.UnsupportedVersion || !strings.Contains(err.Error(), "this network needs record version 2; this binary knows 1") {
			t.Errorf("%s ends with %v", id, err)
		}
		if service, err := open(n.config, n.clock, n.log); reason.Of(err) != reason.UnsupportedVersion {
			t.Errorf("%s starts again: %v, %v", id, service, err)
		}
		archive, err := OpenArchive(n.config.DataDir)
		c.must(err)
		head := archive.Blocks() - 1
		block, err := archive.Block(head)
		c.must(err)
		if ref, _, err := archive.store.Block(head); err != nil || ref.FirstIndex != index || len(block.Certificate) == 0 {
			t.Errorf("%s: its newest block is %+v (%v), the configuration is record %d; certificate of %d bytes", id, ref, err, index, len(block.Certificate))
		}
		c.must(archive.Close())
	}
}

// everyReceipt verifies what a replica gives out under the bundle that it gives out.
func (c *cluster) everyReceipt(id, meter string, counters []uint64, epochs int) {
	c.t.Helper()
	client := c.public(id)
	answer, err := client.GetTrust(c.context(), &ledgerv1.GetTrustRequest{})
	c.must(err)
	bundle, err := trust.Parse(answer.GetTrust())
	c.must(err)
	if got := len(bundle.Epochs()); got != epochs {
		c.t.Errorf("%s: trust bundle has %d epochs, want %d", id, got, epochs)
	}
	list, err := client.ListConfigurations(c.context(), &ledgerv1.ListConfigurationsRequest{})
	c.must(err)
	history, err := governance.Parse(list.GetHistory())
	c.must(err)
	pinned, err := trust.New(trust.Epoch{Policy: bundle.Epochs()[0].Policy}) // as at the founding
	c.must(err)
	if verified, err := governance.Verify(history, pinned); err != nil || verified.Trust.Digest() != bundle.Digest() || list.GetNextSequence() != 0 {
		c.t.Errorf("%s: its history gives %+v (%v), next %d", id, verified, err, list.GetNextSequence())
	}
	for _, counter := range counters {
		key := &ledgerv1.MeasurementKey{MeterId: meter, Counter: counter}
		got, err := client.GetReceipt(c.context(), &ledgerv1.GetReceiptRequest{Measurement: key})
		c.must(err)
		if _, report := receipt.Verify(got.GetReceipt(), bundle); report.Verdict != receipt.Verified {
			c.t.Errorf("%s: receipt of counter %d: %+v", id, counter, report)
		}
	}
	for height := range c.mirror.Store.Head().Height + 1 {
		got, err := client.GetCheckpoint(c.context(), &ledgerv1.GetCheckpointRequest{Height: &height})
		c.must(err)
		certificate, err := tlog.ParseCertificate(got.GetCertificate())
		c.must(err)
		if err := bundle.Check(signature.Direct{}, certificate); err != nil {
			c.t.Errorf("%s: certificate of height %d: %v", id, height, err)
		}
	}
}

// One replica gives way to another. One that both sets have is away, and the new
// one too, so that the new set cannot certify the change: nothing follows until
// the new one is there. It has the block before it has a vote, and cosigns it.
func TestC6_ReplacedReplicaNeedsBothQuorums(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.measure(via, m, 1)
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.same(four...)

	away := four[0] // one that both sets have, and not the leader, which may be the one that leaves
	if away == c.leader(four...) {
		away = four[1]
	}
	c.halt(away)
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == away })
	via = c.leader(rest...)
	before := c.mirror.Store.Head()
	next := c.nextConfig()
	next.Replicas[3] = joining.Message()
	change := &ledgerv1.SubmitRequest{Records: [][]byte{c.signConfig(next, joining.Cosigner, joining.Log)}}
	done := make(chan error, 1)
	go func() {
		response, err := c.client(via, c.gateway).Submit(c.context(), change)
		if err == nil && !response.GetOutcomes()[0].GetAccepted() {
			err = errors.New(response.GetOutcomes()[0].GetReason())
		}
		done <- err
	}()
	service := c.nodes[via].service
	c.until("the change is applied", func() bool { return service.machine.Head().Block.Height > before.Height })
	changed := service.machine.Head().Block
	brief, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	batch := c.mirror.Batch(m.Peek())
	if response, err := c.client(via, c.gateway).Submit(brief, &ledgerv1.SubmitRequest{Records: batch.Records(), RawVectors: batch.Raw}); err == nil && response.GetOutcomes()[1].GetAccepted() {
		t.Error("a measurement follows a change that the new quorum has not certified")
	}
	if head := service.machine.Head().Block; head != changed || service.collector.Newest().Block.Height != before.Height {
		t.Errorf("head is %+v, certified %d; the change was block %d and is not certified", head, service.collector.Newest().Block.Height, changed.Height)
	}

	c.start(joining.ID)
	if err := <-done; err != nil {
		t.Fatalf("the change: %v", err)
	}
	c.start(away)
	now := []string{four[0], four[1], four[2], joining.ID}
	c.mirror.Replicas = append(slices.Clone(c.mirror.Replicas[:3]), joining)
	c.until("Raft's voters follow the configuration", func() bool {
		for _, id := range now {
			if engine := c.nodes[id].service.order.engine.Load(); engine != nil && engine.IsLeader() {
				members := engine.Members()
				return len(members) == 4 && members[3].ID == joining.ID && members[3].Voter
			}
		}
		return false
	})
	c.gone(four[3])
	via = c.leader(now...)
	c.sync(via)
	c.measure(via, m, 1)
	c.same(now...)
	if ref := c.mirror.Store.Blocks[changed.Height+1]; ref.CertifiedHeight != changed.Height {
		t.Errorf("block %d follows the change on a certificate of %d", ref.Height, ref.CertifiedHeight)
	}
	// The new replica counts: without one of the old three it is needed.
	c.halt(away)
	present := slices.DeleteFunc(slices.Clone(now), func(id string) bool { return id == away })
	via = c.leader(present...)
	c.measure(via, m, 1)
	c.same(present...)
	for _, id := range present {
		c.everyReceipt(id, m.ID, []uint64{1, 2, 3}, 2)
	}
}

// copyDir is a backup of a stopped replica.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}

func TestC7_RestoredDiskKeepsQuietPastTheBound(t *testing.T) {
	c, m := running(t)
	c.same(four...)
	old := c.follower(four...)
	others := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == old })
	n := c.nodes[old]
	name := state.CosignerName(c.trust().Origin(), old)
	seen := func() uint64 {
		var highest uint64
		for _, id := range others {
			highest = max(highest, c.nodes[id].service.collector.Seen(name))
		}
		return highest
	}
	backup := t.TempDir() + "/backup"
	c.halt(old)
	copyDir(t, n.config.DataDir, backup)

	// An intact restart signs at once.
	c.start(old)
	via := c.leader(others...)
	c.measure(via, m, 1)
	c.measure(via, m, 1)
	c.same(four...)
	signed := c.mirror.Store.Head().Height
	c.until("the others have its cosignature", func() bool { return seen() == signed })
	c.halt(old)
	c.start(old)
	via = c.leader(others...)
	c.measure(via, m, 1)
	signed = c.mirror.Store.Head().Height
	c.until("an intact restart signs", func() bool { return seen() == signed })

	c.halt(old)
	copyDir(t, backup, n.config.DataDir)
	c.start(old)
	via = c.leader(others...)
	c.measure(via, m, 1)
	c.same(four...) // it follows, by the others' cosignatures
	lock := n.service.store.Lock().Height
	quiet := signed + uint64(c.mirror.Config.Limits.MaxUncertifiedBlocks)
	for c.mirror.Store.Head().Height < quiet {
		c.measure(via, m, 1)
		c.same(four...)
		if got := n.service.store.Lock().Height; got != lock {
			t.Fatalf("block %d is signed, quiet is due up to %d at the least", got, quiet)
		}
	}
	if got := seen(); got != signed {
		t.Errorf("the others have a cosignature of block %d, it signed %d before its disk was replaced", got, signed)
	}
	for n.service.store.Lock().Height == lock {
		c.measure(via, m, 1)
		c.same(four...)
	}
	again := n.service.store.Lock().Height
	if again <= quiet {
		t.Errorf("it signs block %d, quiet was due up to %d", again, quiet)
	}
	c.until("the others have its cosignature again", func() bool { return seen() >= again })
}
