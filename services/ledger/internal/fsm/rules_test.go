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

func TestC5_UnknownVersionStopsTheNode(t *testing.T) {
	r, _ := ready(t)
	for _, version := range []uint32{2, 3, 127, 128, 1 << 20} {
		data := wire.MustEncode(&replicav1.Proposal{Version: version})
		entry := r.order(data)
		_, err := r.machine.ApplyBatch([]ordering.Entry{entry})
		var unknown *versionError
		if !errors.As(err, &unknown) || unknown.got != uint64(version) {
			t.Errorf("version %d: %v", version, err)
		}
		if r.machine.AppliedIndex() == entry.Index {
			t.Errorf("version %d counts as applied", version)
		}
	}
	r.same()
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

// serve gives blocks of the mirror; change may replace what a peer sends.
func (r *replica) serve(change func(*replicav1.FetchBlocksResponse)) func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	return func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		for ; *next <= to; *next++ {
			b := &replicav1.FetchBlocksResponse{Height: *next}
			for _, leaf := range r.n.Store.BlockLeaves(*next) {
				b.Records = append(b.Records, bytes.Clone(leaf))
			}
			if change != nil {
				change(b)
			}
			if err := take(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// follower is an empty replica of a network that has blocks, each of one entry,
// and the pointer that a replica with all of them makes.
func follower(t *testing.T, blocks int) (*replica, []byte) {
	t.Helper()
	r := newReplica(t, statetest.New(t, statetest.Options{}))
	for i := range blocks {
		r.n.NowUnix++
		if i == blocks/2 {
			r.n.Accept(r.n.SignApproval(r.n.Terms(), statetest.Body(), statetest.Maker()))
			continue
		}
		r.n.Apply(r.n.Begin())
	}
	head := r.n.Store.Head()
	return r, pointer{height: head.Height, header: head.Header, applied: head.Height + 1}.encode()
}

// each asks one peer after the other.
func each(r *replica, peers ...func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error) Fetch {
	return func(_ context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		var failures []error
		for _, peer := range peers {
			next := from()
			err := peer(&next, to, take)
			if err == nil && next > to {
				return nil
			}
			failures = append(failures, err)
		}
		return errors.Join(append(failures, errors.New("no peer is left"))...)
	}
}

func TestR0_PointerIsReachedByFetchingBlocks(t *testing.T) {
	r, pointer := follower(t, 150) // more than two batches
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
		t.Fatal(err)
	}
	r.same()
	if p, _ := parsePointer(pointer); r.machine.AppliedIndex() != p.applied {
		t.Errorf("applied index %d, the pointer was made at %d", r.machine.AppliedIndex(), p.applied)
	}
	if len(r.published) != 1 || r.published[0].Height != r.machine.Head().Block.Height {
		t.Errorf("%d cosignatures, want the newest block's alone", len(r.published))
	}
	// Again, and an older one: nothing moves.
	head := r.machine.Head()
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil || r.machine.Head() != head {
		t.Errorf("a second time: %v", err)
	}
	r.restart()
	r.same()
	r.index = r.machine.AppliedIndex()
	r.apply(r.entry())
	r.n.Apply(r.n.Begin())
	r.same()
}

// What a lying peer sends is dropped, and an honest one is asked.
func TestR0_LyingPeersCostNothing(t *testing.T) {
	for name, lie := range map[string]func(*replicav1.FetchBlocksResponse){
		"flipped header": func(b *replicav1.FetchBlocksResponse) { b.Records[len(b.Records)-1][9] ^= 1 },
		"no leaves":      func(b *replicav1.FetchBlocksResponse) { b.Records = nil },
		"more leaves":    func(b *replicav1.FetchBlocksResponse) { b.Records = append([][]byte{b.Records[0]}, b.Records...) },
		"more raw":       func(b *replicav1.FetchBlocksResponse) { b.RawVectors = [][]byte{{1}} },
	} {
		t.Run(name, func(t *testing.T) {
			r, pointer := follower(t, 100)
			liar := r.serve(func(b *replicav1.FetchBlocksResponse) {
				if b.GetHeight() == 90 { // in the second batch, behind blocks that are right
					lie(b)
				}
			})
			r.fetch = each(r, liar, r.serve(nil))
			if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
				t.Fatal(err)
			}
			r.same()
		})
	}
}

// A peer continues the ledger with valid blocks that no quorum has certified:
// they end before the pointer's block, and none of them may stay.
func TestR0_UncoveredBlocksAreNotKept(t *testing.T) {
	r, pointer := follower(t, 100)
	forked := r.n.Clone(t)
	forked.Store = statetest.NewStore()
	genesis, err := state.ReplayGenesis(r.n.Store.BlockLeaves(0), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	forked.Store.Apply(genesis)
	for height := uint64(1); height <= 60; height++ {
		sealed, err := state.Replay(forked.Store, forked.Store.Head(), state.Options{}, r.n.Store.BlockLeaves(height), nil)
		if err != nil {
			t.Fatal(err)
		}
		forked.Store.Apply(sealed)
	}
	for range 5 { // on the certificates of the true blocks; the time differs
		head := forked.Store.Head()
		b, err := state.BeginEmpty(forked.Store, head, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		forked.Apply(b)
	}
	fork := &replica{t: t, n: forked}
	liar := func(next *uint64, _ uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		if err := fork.serve(nil)(next, 65, take); err != nil {
			return err
		}
		return errors.New("that is all")
	}
	r.fetch = each(r, liar)
	if err := r.machine.RestorePointer(context.Background(), pointer); err == nil {
		t.Fatal("a fork that does not lead to the pointer was taken for it")
	}
	for height := uint64(0); height <= r.machine.Head().Block.Height; height++ {
		got, _, err := r.store.Block(height)
		if want := r.n.Store.Blocks[height]; err != nil || got != want {
			t.Fatalf("block %d is kept as %+v (%v), want %+v", height, got, err, want)
		}
	}
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
		t.Fatal(err)
	}
	r.same()
}

// The log may deliver entries whose blocks a restoration brought that did not
// end: they must not make blocks a second time.
func TestR4_EntriesOfAnUnfinishedRestorationApplyOnce(t *testing.T) {
	r, pointer := follower(t, 100)
	p, err := parsePointer(pointer)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("the connection broke")
	r.fetch = each(r, func(next *uint64, _ uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		return errors.Join(r.serve(nil)(next, 80, take), stop)
	})
	if err := r.machine.RestorePointer(context.Background(), pointer); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if height := r.machine.Head().Block.Height; height == 0 || height >= p.height {
		t.Fatalf("restored up to %d of %d, want a part", height, p.height)
	}
	first := r.order(r.entry())
	if _, err := r.machine.ApplyBatch([]ordering.Entry{first}); err == nil {
		t.Fatal("an entry is applied on half a restoration")
	}
	r.restart()
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.Resume(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.same()
	r.index = 0
	for r.index < p.applied {
		if applied := r.apply(r.entry()); !errors.Is(applied.Ignored, errRestored) {
			t.Fatalf("entry %d applies as %+v", r.index, applied)
		}
	}
	r.same()
	r.apply(r.entry())
	r.n.Apply(r.n.Begin())
	r.same()
	if _, err := os.Stat(filepath.Join(r.dir, "restoring")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note of the restoration stays: %v", err)
	}
}

func TestR0_PointerThatContradictsHeldBlocksIsDataLoss(t *testing.T) {
	r, _ := ready(t)
	head := r.machine.Head().Block
	for name, p := range map[string]pointer{
		"another header at our head":    {height: head.Height, header: digest.Of(digest.BlockHeader, []byte("x")), applied: r.index + 5},
		"another header below it":       {height: 1, header: digest.Of(digest.BlockHeader, []byte("x")), applied: r.index},
		"fewer blocks at a later entry": {height: 1, header: r.n.Store.Blocks[1].Header, applied: r.index + 5},
	} {
		err := r.machine.RestorePointer(context.Background(), p.encode())
		if reason.Of(err) != reason.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.machine.Head().Block; got != head {
			t.Errorf("%s: head moved from %+v to %+v", name, head, got)
		}
	}
	if err := r.machine.RestorePointer(context.Background(), []byte("short")); err == nil {
		t.Error("half a pointer is accepted")
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

// FuzzEntry: whatever a leader orders, a replica applies it or stops because of
// its version; it never panics, and the same bytes make the same block.
func FuzzEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(wire.MustEncode(&replicav1.Proposal{Version: 1}))
	f.Add(wire.MustEncode(&replicav1.Proposal{Version: 1, Submissions: []*replicav1.Submission{{Records: [][]byte{{1}}, RawVectors: [][]byte{{1}, {2}}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(data)
		if err != nil {
			return
		}
		if again := wire.MustEncode(p); !bytes.Equal(again, data) {
			t.Errorf("%x decodes and encodes to %x (rule B1)", data, again)
		}
		for _, s := range p.GetSubmissions() {
			Parse(s)
		}
	})
}
