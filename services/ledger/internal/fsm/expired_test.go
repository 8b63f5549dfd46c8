package fsm

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
)

// expiring is an empty replica of a network whose first measurements expired.
type expiring struct {
	*replica
	pointer []byte
	raw     map[uint64][][]byte // by height
	index   map[uint64]uint64   // of a measurement of a height
	below   uint64
	proof   []byte
	empty   []*replica // more of its kind
}

func newExpiring(t *testing.T) *expiring {
	t.Helper()
	e := &expiring{replica: newReplica(t, statetest.New(t, statetest.Options{})), raw: make(map[uint64][][]byte), index: make(map[uint64]uint64)}
	n := e.n
	for range 4 {
		e.empty = append(e.empty, newReplica(t, n))
	}
	n.Approve()
	m := n.Register("meter-1")
	n.KeepRawVectors(60 * statetest.Second)
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	history := e.configurations(0, config.Index)
	measure := func(blocks int) {
		for range blocks {
			n.NowUnix++
			a, b := m.Capture(), m.Capture()
			index := n.AcceptCaptures(a, b)
			height := n.Store.Head().Height
			e.raw[height], e.index[height] = [][]byte{a.Raw, b.Raw}, index
		}
	}
	measure(80)
	e.below = n.Store.Head().Height - 20
	n.NowUnix += 60
	measure(3)
	index := n.Accept(n.Expiry(e.below, "org-00", "org-01", "org-03"))
	measure(4)
	head := n.Store.Head()
	e.pointer = pointer{height: head.Height, header: head.Header, applied: head.Height + 1}.encode()
	prover := &receipttest.Network{Network: n}
	e.proof = e.encode(&recordv1.ProvenExpiry{Configurations: history, Decision: prover.Prove(index), Certificate: n.Certificate(head.Height)})
	return e
}

func (e *expiring) encode(p *recordv1.ProvenExpiry) []byte {
	b, err := governance.EncodeExpiry(p)
	if err != nil {
		e.t.Fatal(err)
	}
	return b
}

// configurations proves the network's configurations; the newest is in the block
// before the head.
func (e *expiring) configurations(indexes ...uint64) *recordv1.ConfigurationHistory {
	at := e.n.Clone(e.t)
	h := &recordv1.ConfigurationHistory{}
	for _, index := range indexes {
		height := uint64(0)
		for at.Store.Blocks[height].Size <= index {
			height++
		}
		before := statetest.NewStore()
		for i := range height + 1 {
			sealed, err := state.ReplayGenesis(at.Store.BlockLeaves(0), state.Options{})
			if i > 0 {
				sealed, err = state.Replay(before, before.Head(), state.Options{}, at.Store.BlockLeaves(i), nil)
			}
			if err != nil {
				e.t.Fatal(err)
			}
			before.Apply(sealed)
		}
		then := *at
		then.Store = before
		h.Configurations = append(h.Configurations, &recordv1.CertifiedConfiguration{
			Configuration: (&receipttest.Network{Network: &then}).Prove(index), Certificate: then.Certificate(height),
		})
	}
	return h
}

// peer serves blocks with their raw vectors, or without those below a height, and
// shows a proof with the first that lacks some.
func (e *expiring) peer(dropped uint64, proof []byte) func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	return e.serve(func(b *replicav1.FetchBlocksResponse) {
		for _, raw := range e.raw[b.GetHeight()] {
			if b.GetHeight() < dropped {
				raw, b.Expiry = nil, proof
			}
			b.RawVectors = append(b.RawVectors, raw)
		}
	})
}

// gone is how many blocks have lost their raw vectors, each by the decision.
func (e *expiring) gone() (n int) {
	e.t.Helper()
	for height, index := range e.index {
		raw, err := e.store.RawVector(index)
		switch {
		case reason.Of(err) == reason.RawVectorExpired && height < e.below:
			n++
		case err != nil || !bytes.Equal(raw, e.raw[height][0]):
			e.t.Errorf("the raw vector of block %d: %v", height, err)
		}
	}
	return n
}

// A replica takes blocks without what expired, on a proven decision and where nobody
// has more, and ends with the decision in its own state.
func TestS4_BlocksAreFetchedWithoutWhatExpired(t *testing.T) {
	e := newExpiring(t)
	e.fetch = each(e.replica, e.peer(e.below, e.proof), e.peer(e.below-5, e.proof))
	if err := e.machine.RestorePointer(context.Background(), e.pointer); err != nil {
		t.Fatal(err)
	}
	e.same()
	if owes, err := e.store.Owes(); owes || err != nil || e.gone() == 0 {
		t.Errorf("owes %v (%v), %d blocks without raw vectors", owes, err, e.gone())
	}
	if len(e.published) != 1 {
		t.Errorf("%d cosignatures, want the newest block's alone", len(e.published))
	}
	e.restart()
	e.same()
	if report, err := e.store.Verify(t.Context(), nil); err != nil || report.Err() != nil || report.Expired.RawVectors == 0 {
		t.Errorf("verified %+v (%v)", report, err)
	}
}

// While one replica has whole blocks, they are taken from there.
func TestS4_WholeBlocksArePreferred(t *testing.T) {
	e := newExpiring(t)
	e.fetch = each(e.replica, e.peer(e.below, e.proof), e.peer(0, nil))
	if err := e.machine.RestorePointer(context.Background(), e.pointer); err != nil {
		t.Fatal(err)
	}
	e.same()
	if n := e.gone(); n != 0 {
		t.Errorf("%d blocks are without raw vectors, and a replica had them", n)
	}
}

// Who withholds raw vectors without a decision, or with another than this ledger's,
// is asked no more, and nothing of it is kept.
func TestS4_RawVectorsAreNotWithheldUnproven(t *testing.T) {
	e := newExpiring(t)
	foreign := statetest.New(t, statetest.Options{Organisations: 5})
	foreign.KeepRawVectors(statetest.Second)
	foreign.NowUnix += 2
	foreign.Apply(foreign.Begin())
	index := foreign.Accept(foreign.Expiry(2, "org-00", "org-01", "org-02"))
	p, err := governance.ParseExpiry(e.proof)
	if err != nil {
		t.Fatal(err)
	}
	p.Decision = (&receipttest.Network{Network: foreign}).Prove(index)
	altered := append([]byte(nil), e.proof...)
	altered[len(altered)/2] ^= 1
	for name, c := range map[string]struct {
		dropped uint64
		proof   []byte
		says    string
	}{
		"no proof":                   {e.below, nil, "no decision is shown"},
		"an altered proof":           {e.below, altered, ""},
		"another network's decision": {e.below, e.encode(p), "not proven"},
		"more than was decided":      {e.below + 5, e.proof, "no decision is shown"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &expiring{replica: e.empty[0], pointer: e.pointer, raw: e.raw, index: e.index, below: e.below}
			e.empty = e.empty[1:]
			liar := e.peer(c.dropped, c.proof)
			if name == "more than was decided" {
				liar = e.serve(func(b *replicav1.FetchBlocksResponse) { // the proof with each block
					for range e.raw[b.GetHeight()] {
						b.RawVectors, b.Expiry = append(b.RawVectors, nil), c.proof
					}
				})
				c.says = "the decision that is shown lets those below"
			}
			r.fetch = each(r.replica, liar)
			err := r.machine.RestorePointer(context.Background(), e.pointer)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("taken from a liar: %v, want %q", err, c.says)
			}
			if pruned := r.store.PrunedBelow(); pruned > e.below {
				t.Errorf("blocks up to %d were kept without raw vectors", pruned)
			}
			r.fetch = each(r.replica, liar, e.peer(0, nil))
			if err := r.machine.RestorePointer(context.Background(), e.pointer); err != nil {
				t.Fatal(err)
			}
			r.same()
			r.gone()
		})
	}
}

// A restoration that is cut short holds blocks without raw vectors and not yet the
// decision: it says so, calls nothing lost, and goes on after a restart.
func TestS4_AnUnfinishedRestorationOwesTheDecision(t *testing.T) {
	e := newExpiring(t)
	whole := e.peer(e.below, e.proof)
	e.fetch = each(e.replica, func(next *uint64, _ uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		return whole(next, e.below+4, take)
	})
	if err := e.machine.RestorePointer(context.Background(), e.pointer); err == nil {
		t.Fatal("restored from half of the blocks")
	}
	head := e.machine.Head().Block.Height
	if owes, err := e.store.Owes(); !owes || err != nil {
		t.Fatalf("at block %d it owes nothing (%v)", head, err)
	}
	for height, index := range e.index {
		if _, err := e.store.RawVector(index); height <= head && height < e.below && reason.Of(err) != reason.NotReady {
			t.Errorf("the raw vector of block %d: %v", height, err)
		}
	}
	e.restart()
	e.fetch = each(e.replica, whole)
	if err := e.machine.Resume(context.Background()); err != nil {
		t.Fatal(err)
	}
	e.same()
	if owes, err := e.store.Owes(); owes || err != nil || e.gone() == 0 {
		t.Errorf("owes %v (%v)", owes, err)
	}
}

// C2: a block without its raw vectors is taken and not cosigned.
func TestC2_ABlockWithoutRawVectorsIsNotCosigned(t *testing.T) {
	e := newExpiring(t)
	block := e.n.Store.Blocks[e.below-1]
	e.fetch = each(e.replica, e.peer(e.below, e.proof))
	if err := e.machine.RestorePointer(context.Background(), Pointer(block, block.Height+1)); err != nil {
		t.Fatal(err)
	}
	if head := e.machine.Head().Block; head != block || len(e.published) != 0 || !e.store.Lock().IsZero() {
		t.Errorf("head %d, %d cosignatures, lock %+v", head.Height, len(e.published), e.store.Lock())
	}
}
