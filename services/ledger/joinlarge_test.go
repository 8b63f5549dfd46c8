package ledger

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

const (
	fillMeters = 64
	fillBlock  = 512 // measurements at the most
	fillBlocks = 256 // at the least
	fillCommit = 16  // blocks; the last of them is cosigned and has its certificate
)

// fill gives the only replica of a network a ledger of so many measurements, as it
// would have it if it had made them: each block by the one transition, its bytes on
// disk, cosigned, certified. The ordering log begins behind them.
func (c *cluster) fill(id string, measurements int) {
	c.t.Helper()
	n, node := c.mirror, c.nodes[id]
	store, err := storage.Open(node.config.storeDir(), storage.Options{Holder: id})
	c.must(err)
	config, err := state.GetConfig(store)
	c.must(err)
	signer, err := newSigner(&node.config, config.Origin(), node.clock, store.Lock())
	c.must(err)
	signer.SignFrom(0)
	tree, err := store.Range()
	c.must(err)
	var batch storage.Batch
	commit := func() {
		last := &batch.Blocks[len(batch.Blocks)-1]
		signed, err := signer.Sign(last.Ref, func(size uint64) (digest.Digest, error) {
			at := slices.IndexFunc(n.Store.Blocks, func(r state.BlockRef) bool { return r.Size == size })
			return n.Store.Blocks[at].Root, nil
		})
		c.must(err)
		last.Lock, last.Cosignature = signer.Lock(), fsm.Lines(signed)
		batch.AppliedIndex = last.Ref.Height + 1
		c.must(store.Commit(batch))
		c.must(store.PutCertificates([]storage.Certificate{{Height: last.Ref.Height, Note: n.Certificate(last.Ref.Height)}}))
		batch = storage.Batch{}
	}
	block := func(records, raw [][]byte) {
		b := n.Begin()
		outcomes, err := b.Submit(statetest.Parse(records, raw))
		c.must(err)
		for _, o := range outcomes {
			if !o.Accepted {
				c.t.Fatalf("refused: %s: %s", o.Reason, o.Detail)
			}
		}
		sealed, err := b.Seal()
		c.must(err)
		made := storage.Block{Ref: n.Store.Apply(sealed), Leaves: sealed.Records, LeafHashes: sealed.LeafHashes, Writes: sealed.Writes}
		for i, leaf := range sealed.Records {
			if r, err := record.Parse(leaf); err == nil && r.GetMeasurement() != nil {
				made.RawVectors = append(made.RawVectors, storage.RawVector{Leaf: i, Bytes: raw[len(made.RawVectors)]})
			}
		}
		made.Nodes = storage.Extend(tree, made.LeafHashes)
		if batch.Blocks = append(batch.Blocks, made); len(batch.Blocks) == fillCommit {
			commit()
		}
	}
	block([][]byte{n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker())}, nil)
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	c.must(err)
	n.Approval = digest.Digest(value.GetApproval())
	var meters []*statetest.Meter
	for i := range fillMeters {
		id := fmt.Sprintf("meter-%02d", i)
		m := n.MeterRegistration(id, statetest.Key("meter/"+id))
		block([][]byte{n.Sign(m, statetest.Body())}, nil)
		value, err := state.GetMeter(n.Store, id)
		c.must(err)
		meters = append(meters, &statetest.Meter{Network: n, ID: id, Key: statetest.Key("meter/" + id), Counter: 1, Registration: digest.Digest(value.GetRegistration())})
	}
	each := max(1, min(fillBlock, measurements/fillBlocks))
	for made := 0; made < measurements; made += each {
		var captures []*statetest.Capture
		for len(captures) < each {
			captures = append(captures, meters[len(captures)%len(meters)].Capture())
		}
		batch := n.Batch(captures...)
		block(batch.Records(), batch.Raw)
		clear(n.Store.Leaves) // what is on disk need not be in memory too
	}
	if len(batch.Blocks) > 0 {
		commit()
	}
	head, _ := store.Head()
	applied := store.AppliedIndex()
	c.must(store.Close())
	c.must(os.RemoveAll(node.config.raftDir()))
	c.must(raft.BeginAt(node.config.raftDir(), applied, members(config), fsm.Pointer(head, applied), node.log))
}

// told is a log that a test reads.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *told) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *told) lines(message string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range strings.Split(l.text.String(), "\n") {
		if strings.Contains(line, message) {
			lines = append(lines, line)
		}
	}
	return lines
}

// A replica joins a ledger that is large: it is stopped on the way, goes on from
// what it has, and says how far it is. LACRE_JOIN says how many measurements
// ("make join" takes a million).
func TestJoiningALargeLedger(t *testing.T) {
	measurements := 8192
	if text := os.Getenv("LACRE_JOIN"); text != "" {
		var err error
		if measurements, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	joining := statetest.NewReplica("replica-01", "org-00")
	c := newCluster(t, statetest.Options{Organisations: 1}, joining)
	first := c.mirror.Replicas[0].ID
	began := time.Now()
	c.fill(first, measurements)
	goal := c.mirror.Store.Head()
	t.Logf("%d measurements in %d blocks, %d records, made in %s", measurements, goal.Height+1, goal.Size, time.Since(began).Round(time.Second))

	c.start(first)
	via := c.leader(first)
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	n := c.nodes[joining.ID]
	log := new(told)
	n.log = slog.New(slog.NewTextHandler(log, nil))
	began = time.Now()
	c.start(joining.ID)
	var stops []uint64
	told := false // how far it wants to come
	for ticker := time.NewTicker(5 * time.Millisecond); ; {
		at := n.service.machine.Head().Block.Height
		if at >= goal.Height {
			ticker.Stop()
			break
		}
		told = told || n.service.machine.Goal() >= goal.Height
		if at > goal.Height*uint64(len(stops)+1)/5 { // on the way, as often as it is seen there
			c.halt(joining.ID)
			stops = append(stops, n.service.machine.Head().Block.Height)
			c.start(joining.ID)
			if again := n.service.machine.Head().Block.Height; again < stops[len(stops)-1] {
				t.Errorf("it held block %d, and begins again at %d", stops[len(stops)-1], again)
			}
		}
		select {
		case <-ticker.C:
		case err := <-n.ended:
			t.Fatalf("it ended at block %d: %v", at, err)
		}
	}
	took := time.Since(began)
	t.Logf("joined in %s, %.0f records a second, stopped at blocks %d", took.Round(time.Millisecond), float64(goal.Size)/took.Seconds(), stops)
	if len(stops) == 0 || !told {
		t.Errorf("stopped at blocks %d on the way; it said how far it wants to come: %v", stops, told)
	}
	for _, line := range log.lines("fetched blocks") {
		if !strings.Contains(line, "records_per_second=") || !strings.Contains(line, "remaining=") {
			t.Errorf("no progress in %q", line)
		}
	}
	for i, line := range log.lines("fetching blocks from other replicas") {
		if strings.Contains(line, " from=1 ") != (i == 0) {
			t.Errorf("it began to fetch again with %q", line)
		}
	}
	c.same(first, joining.ID)
	receipt, err := tlog.ParseCertificate(mustCertificate(t, n.service.store))
	if err != nil || receipt.Checkpoint.Size < goal.Size {
		t.Errorf("its newest certificate is %v, %v, want one of size %d", receipt, err, goal.Size)
	}
}

func mustCertificate(t *testing.T, s *storage.Store) []byte {
	t.Helper()
	c, _, err := s.NewestCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return c.Note
}
