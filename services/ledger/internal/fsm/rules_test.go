package fsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

func TestC1_LockAndCosignatureAreInTheBlocksTransaction(t *testing.T) {
	r, m := ready(t)
	r.measure(m.Capture(), m.Capture())
	head := r.machine.Head().Block
	want := storage.Lock{Height: head.Height, Size: head.Size, Root: head.Root}
	if got := r.store.Lock(); got != want {
		t.Errorf("lock is %+v, want %+v", got, want)
	}
	for i, s := range r.published {
		stored, err := r.store.CosignatureAt(s.Height)
		if err != nil || !bytes.Equal(stored, Lines(&r.published[i])) {
			t.Errorf("height %d: published %q, stored %q (%v)", s.Height, Lines(&r.published[i]), stored, err)
		}
	}
	if len(r.published) != int(head.Height) {
		t.Errorf("%d cosignatures for %d blocks", len(r.published), head.Height)
	}
}

// A batch whose commit fails has cosigned in memory; nothing of that leaves.
func TestC2_NoCosignatureBeforeCommit(t *testing.T) {
	r, m := ready(t)
	published := len(r.published)
	batch := r.n.Batch(m.Capture())
	data := r.entry(&replicav1.Submission{Records: batch.Records(), RawVectors: batch.Raw})
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.machine.ApplyBatch([]ordering.Entry{r.order(data)}); err == nil {
		t.Fatal("a batch is applied to a closed store")
	}
	if len(r.published) != published {
		t.Errorf("cosignature of block %d left without a commit", r.published[published].Height)
	}
}

func TestC2_ExactCosignatureAfterARestart(t *testing.T) {
	r, m := ready(t)
	r.measure(m.Capture())
	before := r.published[len(r.published)-1]
	r.n.NowUnix += 100
	r.restart()
	again, err := r.machine.OwnCosignature()
	if err != nil || again == nil || again.Cosignature.Line() != before.Cosignature.Line() || again.Log.Line() != before.Log.Line() {
		t.Fatalf("after a restart %+v (%v), before %+v", again, err, before)
	}
	r.measure(m.Capture())
	if got, want := r.store.Lock().Height, r.machine.Head().Block.Height; got != want {
		t.Errorf("the block after a restart left the lock at %d, want %d", got, want)
	}
}

func TestC5_MalformedProposalAppliesAsAnEmptyBlock(t *testing.T) {
	r, m := ready(t)
	good := r.n.Batch(m.Peek())
	records, raw := good.Records(), good.Raw
	whole := &replicav1.Submission{Records: records, RawVectors: raw}
	proposal := func(height uint64, certificate []byte) []byte {
		return wire.MustEncode(&replicav1.Proposal{Version: propose.Version, CertifiedHeight: height, Certificate: certificate})
	}
	height := func() uint64 { return r.n.Store.Head().Height }
	for _, c := range []struct {
		name string
		data func() []byte
	}{
		{"no bytes", func() []byte { return nil }},
		{"noise", func() []byte { return []byte("\xff\xfe proposal") }},
		{"no version", func() []byte {
			return wire.MustEncode(&replicav1.Proposal{CertifiedHeight: height(), Certificate: r.n.Certificate(height())})
		}},
		{"cut off", func() []byte { return r.entry(whole)[:200] }},
		{"unknown field", func() []byte {
			return protowire.AppendVarint(protowire.AppendTag(proposal(0, nil), 15, protowire.VarintType), 1)
		}},
		{"huge raw vector", func() []byte {
			return r.entry(&replicav1.Submission{Records: records, RawVectors: [][]byte{make([]byte, 1<<20)}})
		}},
		{"certificate of another block", func() []byte { return proposal(height(), r.n.Certificate(height()-1)) }},
		{"certificate above the head", func() []byte { return proposal(height()+90, r.n.Certificate(height())) }},
	} {
		name, data := c.name, c.data()
		before := r.machine.Head().Block
		applied := r.apply(data)
		if applied.Ignored == nil || len(applied.Results) != 0 {
			t.Errorf("%s: applied as %+v", name, applied)
		}
		b, err := state.BeginEmpty(r.n.Store, r.n.Store.Head(), state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.n.Apply(b)
		r.same()
		if after := r.machine.Head().Block; after.Height != before.Height+1 || after.Size != before.Size+1 || after.BlockTimeUnixNano != before.BlockTimeUnixNano {
			t.Errorf("%s: block %+v after %+v", name, after, before)
		}
		r.n.NowUnix++ // a good block keeps within the limit of uncertified ones
		if applied := r.apply(r.entry()); applied.Ignored != nil {
			t.Fatal(applied.Ignored)
		}
		r.n.Apply(r.n.Begin())
		r.same()
	}
}

// A leader may order submissions of any shape; no replica may fall over them.
func TestC5_SubmissionsOfAnyShape(t *testing.T) {
	r, m := ready(t)
	good := r.n.Batch(m.Capture())
	records, raw := good.Records(), good.Raw
	statement := r.n.Sign(r.n.MeterRegistration("meter-2", statetest.Key("meter-2")), statetest.Body())
	for name, s := range map[string]*replicav1.Submission{
		"nothing":                     {},
		"raw vectors alone":           {RawVectors: [][]byte{raw[0], raw[0], raw[0]}},
		"statement with raw vectors":  {Records: [][]byte{statement}, RawVectors: [][]byte{raw[0], raw[0], raw[0]}},
		"more raw than measurements":  {Records: records, RawVectors: [][]byte{raw[0], raw[0], raw[0]}},
		"less raw than measurements":  {Records: records},
		"measurement first":           {Records: records[1:], RawVectors: raw},
		"another raw vector":          {Records: records, RawVectors: [][]byte{{1, 2, 3}}},
		"two statements":              {Records: [][]byte{statement, statement}},
		"undecodable":                 {Records: [][]byte{{0xff}, {}}, RawVectors: raw},
		"set and statement":           {Records: [][]byte{records[0], statement}, RawVectors: raw},
		"statement then measurement":  {Records: [][]byte{statement, records[1]}, RawVectors: raw},
		"the same measurement, twice": {Records: [][]byte{records[0], records[1], records[1]}, RawVectors: [][]byte{raw[0], raw[0]}},
	} {
		before := r.machine.Head().Block
		data := r.entry(s)
		want := r.n.Submit(s.GetRecords(), s.GetRawVectors())
		applied := r.apply(data)
		r.same()
		for i := range want {
			if applied.Results[0][i] != want[i] {
				t.Errorf("%s: record %d is %+v, want %+v", name, i, applied.Results[0][i], want[i])
			}
		}
		if after := r.machine.Head().Block; name != "the same measurement, twice" && after.Size != before.Size+1 {
			t.Errorf("%s: it became %d leaves", name, after.Size-before.Size-1)
		}
	}
}

// A version counts only if the configuration in force names it: otherwise one
// lying leader could stop every replica with one entry.
func TestC5_VersionThatNoConfigurationNamesAppliesAsAnEmptyBlock(t *testing.T) {
	r, _ := ready(t)
	noise := append(wire.MustEncode(&replicav1.Proposal{Version: 2}), 0xff, 0xff)
	for name, data := range map[string][]byte{
		"version 0":        {versionTag, 0},
		"version 2":        wire.MustEncode(&replicav1.Proposal{Version: 2}),
		"version 2^20":     wire.MustEncode(&replicav1.Proposal{Version: 1 << 20}),
		"version 2^64-1":   protowire.AppendVarint([]byte{versionTag}, 1<<64-1),
		"and then noise":   noise,
		"padded version":   {versionTag, 0x82, 0x00},
		"version 1 + 2^32": protowire.AppendVarint([]byte{versionTag}, 1+1<<32),
	} {
		before := r.machine.Head().Block
		applied := r.apply(data)
		if applied.Ignored == nil || len(applied.Results) != 0 {
			t.Errorf("%s: applied as %+v", name, applied)
		}
		block, err := state.BeginEmpty(r.n.Store, r.n.Store.Head(), state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.n.Apply(block)
		r.same()
		if after := r.machine.Head().Block; after.Height != before.Height+1 || after.Size != before.Size+1 {
			t.Errorf("%s: block %+v after %+v", name, after, before)
		}
		r.n.NowUnix++ // a good block keeps within the limit of uncertified ones
		if applied := r.apply(r.entry()); applied.Ignored != nil {
			t.Fatal(applied.Ignored)
		}
		r.n.Apply(r.n.Begin())
		r.same()
	}
}

func TestC5_NamedVersionThatIsUnknownStopsTheNode(t *testing.T) {
	config := func(r *replica) *replicav1.Submission {
		c := r.n.Config
		c.Header, c.RecordVersion = r.n.Header(record.SubjectNetwork), state.RecordVersion+1
		return &replicav1.Submission{Records: [][]byte{r.n.Sign(c, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"))}}
	}
	follow := map[string]func(r *replica) []byte{
		"of the version in force":    func(*replica) []byte { return wire.MustEncode(&replicav1.Proposal{Version: 2}) },
		"of another":                 func(*replica) []byte { return wire.MustEncode(&replicav1.Proposal{Version: 3}) },
		"of the version known here":  func(r *replica) []byte { return r.entry() },
		"that makes no sense at all": func(*replica) []byte { return []byte("noise") },
	}
	for name, next := range follow {
		t.Run(name, func(t *testing.T) {
			r, _ := ready(t)
			if applied := r.apply(r.entry(config(r))); applied.Ignored != nil || !applied.Results[0][0].Accepted {
				t.Fatalf("the configuration applied as %+v", applied)
			}
			r.n.Accept(config(r).GetRecords()[0])
			r.same() // the block is the one that every build makes
			head := r.machine.Head().Block
			entry := r.order(next(r))
			if _, err := r.machine.ApplyBatch([]ordering.Entry{entry}); reason.Of(err) != reason.UnsupportedVersion {
				t.Errorf("%v, want %s", err, reason.UnsupportedVersion)
			}
			if r.machine.AppliedIndex() == entry.Index || r.machine.Head().Block != head {
				t.Errorf("the entry counts as applied: index %d, head %+v", r.machine.AppliedIndex(), r.machine.Head().Block)
			}
		})
	}
	// In one batch with what follows, the configuration's block stays.
	r, _ := ready(t)
	first := r.order(r.entry(config(r)))
	second := r.order(wire.MustEncode(&replicav1.Proposal{Version: 2}))
	if _, err := r.machine.ApplyBatch([]ordering.Entry{first, second}); reason.Of(err) != reason.UnsupportedVersion {
		t.Errorf("%v, want %s", err, reason.UnsupportedVersion)
	}
	if got := r.store.AppliedIndex(); got != first.Index || r.store.Lock().Height != r.machine.Head().Block.Height {
		t.Errorf("applied is %d, want %d; lock %+v, head %+v", got, first.Index, r.store.Lock(), r.machine.Head().Block)
	}
}

// testdata/entry-v1 is an entry of version 1 as it was ordered when version 1
// was new. Whatever versions follow, it makes the same block.
func TestC5_OldVersionsReplay(t *testing.T) {
	r, m := ready(t)
	r.n.NowUnix += 7
	batch := r.n.Batch(m.Capture(), m.Capture())
	data := r.entry(&replicav1.Submission{Records: batch.Records(), RawVectors: batch.Raw})
	golden := filepath.Join("testdata", "entry-v1")
	if os.Getenv("LACRE_WRITE_GOLDEN") != "" {
		r.apply(data)
		header := r.machine.Head().Block.Header
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, append(header[:], data...), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want, old := digest.Digest(file[:digest.Size]), file[digest.Size:]
	if applied := r.apply(old); applied.Ignored != nil {
		t.Fatal(applied.Ignored)
	}
	if got := r.machine.Head().Block.Header; got != want {
		t.Errorf("the entry makes header %s, it made %s", got, want)
	}
}

// A certificate that contradicts this replica is an empty block, as by all alike;
// and beside that it is said, and judged: a quorum's word against this replica's
// tree ends it, a proposer's mistake does not.
func TestC5_ACertificateThatContradictsIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		certificate func(r *replica, m *statetest.Meter) (height uint64, text []byte)
		outvoted    bool
	}{
		"of another block of this height": {func(r *replica, m *statetest.Meter) (uint64, []byte) {
			other := r.n.Clone(r.t)
			other.NowUnix += 9
			other.Register("meter-of-the-others")
			head := other.Store.Head()
			r.measure(m.Capture())
			return head.Height, other.Certificate(head.Height)
		}, true},
		"of a larger tree": {func(r *replica, _ *statetest.Meter) (uint64, []byte) {
			other := r.n.Clone(r.t)
			other.Register("meter-of-the-others")
			head := other.Store.Head()
			return head.Height - 1, other.Certificate(head.Height)
		}, true},
		"of an earlier block": {func(r *replica, m *statetest.Meter) (uint64, []byte) {
			text := r.n.Certificate(r.n.Store.Head().Height)
			r.measure(m.Capture())
			return r.n.Store.Head().Height, text
		}, false},
		"that is none": {func(r *replica, _ *statetest.Meter) (uint64, []byte) {
			return r.n.Store.Head().Height, []byte("certified, trust me\n")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := ready(t)
			var told []error
			r.outvoted = func(err error) { told = append(told, err) }
			height, text := c.certificate(r, m)
			head := r.n.Store.Head()
			applied := r.apply(wire.MustEncode(&replicav1.Proposal{Version: propose.Version, CertifiedHeight: height, Certificate: text}))
			if !errors.Is(applied.Ignored, state.ErrBadProposal) || r.machine.BadProposals() != 1 {
				t.Errorf("applied as %+v, %d bad proposals are counted", applied, r.machine.BadProposals())
			}
			empty, err := state.BeginEmpty(r.n.Store, head, state.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r.n.Apply(empty)
			r.same()
			if c.outvoted != (len(told) == 1) || len(told) > 0 && reason.Of(told[0]) != reason.DataLoss {
				t.Errorf("told of %v, want DATA_LOSS: %v", told, c.outvoted)
			}
		})
	}
}

func TestC5_AheadOfItsCertificatesAppliesAsNothing(t *testing.T) {
	r, _ := ready(t)
	stale := func() []byte { return wire.MustEncode(&replicav1.Proposal{Version: 1}) }
	for range r.machine.Head().MaxUncertified - 1 {
		if applied := r.apply(stale()); !errors.Is(applied.Ignored, state.ErrBadProposal) && applied.Ignored != nil {
			t.Fatal(applied.Ignored)
		}
	}
	before := r.machine.Head().Block
	applied := r.apply(stale())
	if !errors.Is(applied.Ignored, state.ErrTooFarAhead) || r.machine.Head().Block != before {
		t.Errorf("applied as %+v on %+v, head is %+v", applied, before, r.machine.Head().Block)
	}
	if got := r.machine.AppliedIndex(); got != r.index {
		t.Errorf("applied index %d, want %d", got, r.index)
	}
}

func TestR2_EachAppliedIndexKeepsItsEntrysDigest(t *testing.T) {
	r, m := ready(t)
	r.measure(m.Capture())
	data := r.entry()
	entry := r.order(data)
	if _, err := r.machine.ApplyBatch([]ordering.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	got, ok := r.machine.AppliedDigest(entry.Index)
	if !ok || got != entry.Digest {
		t.Errorf("digest of entry %d is %s (%v), want %s", entry.Index, got, ok, entry.Digest)
	}
	if got, ok := r.machine.AppliedDigest(entry.Index + 1); ok {
		t.Errorf("entry %d was never applied and has digest %s", entry.Index+1, got)
	}
	// What cannot be read is not taken for absent: the engine compares and stops.
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.machine.AppliedDigest(entry.Index); !ok || got == entry.Digest {
		t.Errorf("unreadable digest is given as %s, %v", got, ok)
	}
}

func TestR4_AppliedIndexCommitsWithItsBlocks(t *testing.T) {
	r, m := ready(t)
	var entries []ordering.Entry
	for range 3 {
		batch := r.n.Batch(m.Capture())
		records := batch.Records()
		entries = append(entries, r.order(r.entry(&replicav1.Submission{Records: records, RawVectors: batch.Raw})))
		r.n.Submit(records, batch.Raw)
	}
	if _, err := r.machine.ApplyBatch(entries); err != nil {
		t.Fatal(err)
	}
	r.same()
	r.restart()
	if got, want := r.machine.AppliedIndex(), entries[2].Index; got != want {
		t.Errorf("applied index after a restart is %d, want %d", got, want)
	}
	r.same()
	report, err := r.store.Verify(context.Background(), nil)
	if err != nil || report.Err() != nil {
		t.Errorf("verification: %v, %v", err, report.Err())
	}
}

func TestOwnCosignatureThatWasReplacedIsDataLoss(t *testing.T) {
	r, m := ready(t)
	r.measure(m.Capture())
	own, err := r.machine.OwnCosignature()
	if err != nil {
		t.Fatal(err)
	}
	forged := *own
	forged.Cosignature.TimestampUnix++ // the time stamp is signed
	if err := r.store.RefreshCosignature(r.store.Lock(), Lines(&forged)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.machine.OwnCosignature(); reason.Of(err) != reason.DataLoss {
		t.Errorf("a cosignature that does not verify is served: %v", err)
	}
}
