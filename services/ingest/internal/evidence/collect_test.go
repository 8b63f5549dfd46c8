package evidence_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	sealing "github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/services/ingest/internal/evidence"
)

// attic is a store that keeps four pieces, beside a ledger on which one is named.
type attic struct {
	dir    string
	store  *evidence.Store
	keeper *evidence.Keeper
	sealed map[string][]byte
	pieces map[string]digest.Digest // named, unnamed, young, again
	at     time.Time                // the ledger's newest block
}

const grace = 200 * 24 * time.Hour

func newAttic(t *testing.T, onBlock func(*ledgerv1.StreamBlocksResponse) error) *attic {
	t.Helper()
	a := &attic{dir: t.TempDir(), pieces: map[string]digest.Digest{}, sealed: map[string][]byte{}}
	for _, name := range []string{"named", "unnamed", "young", "again"} {
		var out bytes.Buffer
		p, err := sealing.Seal(&out, statetest.EvidenceKey("org-00").PublicKey().Bytes(), sealing.Context{MeterID: "meter-01", MediaType: "image/jpeg"}, bytes.NewReader([]byte(name)))
		if err != nil {
			t.Fatal(err)
		}
		a.sealed[name], a.pieces[name] = out.Bytes(), p.Digest
	}
	l := ledgertest.New(t, statetest.Options{})
	var id digest.Digest
	l.Do(func(n *statetest.Network) {
		id = n.ID
		n.GiveEvidenceKey("org-00")
		n.Approve()
		m := n.Register("meter-01")
		n.NowUnix += 60
		n.AcceptCaptures(m.Capture(func(h *sample.Header) {
			h.Evidence = []sample.Evidence{{Digest: a.pieces["named"], Size: uint64(len(a.sealed["named"])), MediaType: "image/jpeg"}}
		}))
		a.at = time.Unix(0, n.Store.Head().BlockTimeUnixNano)
	})
	r := l.Serve(t, "replica", func(r *ledgertest.Replica) { r.OnBlock = onBlock })
	f, err := follower.New(follower.Config{NetworkID: id.String(), Replicas: []follower.Endpoint{{Address: r.Address, SPKI: r.SPKI}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := f.Wait(t.Context(), l.Height()); err != nil {
		t.Fatal(err)
	}
	if a.store, err = evidence.OpenStore(t.Context(), a.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.store.Close(); err != nil {
			t.Error(err)
		}
	})
	a.keeper = evidence.NewKeeper("gateway", a.store, f, nil, 0, slog.New(slog.DiscardHandler))
	for name := range a.pieces {
		if _, err := a.put(t, name); err != nil {
			t.Fatal(err)
		}
		age := 2 * grace
		if name == "young" {
			age = grace - time.Hour
		}
		if err := os.Chtimes(filepath.Join(a.dir, a.pieces[name].String()), time.Time{}, a.at.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *attic) put(t *testing.T, name string) (before bool, err error) {
	t.Helper()
	return a.keeper.Put(t.Context(), a.pieces[name], uint64(len(a.sealed[name])), bytes.NewReader(a.sealed[name]))
}

func (a *attic) want(t *testing.T, there map[string]bool) {
	t.Helper()
	for name, want := range there {
		if got, err := a.store.Has(t.Context(), a.pieces[name]); got != want || err != nil {
			t.Errorf("%s is there: %v (%v), want %v", name, got, err, want)
		}
	}
}

// What is old and named nowhere goes; what a measurement names, what is young, and
// what a meter announced again stays.
func TestUnnamedEvidenceIsCollected(t *testing.T) {
	a := newAttic(t, nil)
	if before, err := a.put(t, "again"); !before || err != nil {
		t.Fatalf("put again: %v, %v", before, err)
	}
	if err := a.keeper.Collect(t.Context(), grace); err != nil {
		t.Fatal(err)
	}
	a.want(t, map[string]bool{"named": true, "unnamed": false, "young": true, "again": true})
	if got := a.keeper.Collected(); got.Pieces != 1 || got.Bytes != uint64(len(a.sealed["unnamed"])) {
		t.Errorf("counted %+v", got)
	}
	if _, _, err := a.keeper.Get(t.Context(), identity.Peer{ID: "reader", Organisation: "org-00", Role: identity.RoleAuthority}, a.pieces["unnamed"], "case 17"); reason.Of(err) != reason.NotFound {
		t.Errorf("read what was collected: %v", err)
	}
	if before, err := a.put(t, "unnamed"); before || err != nil { // a meter that still has it brings it again
		t.Errorf("put after it was collected: %v, %v", before, err)
	}
	if err := a.keeper.Collect(t.Context(), grace); err != nil {
		t.Fatal(err)
	}
	a.want(t, map[string]bool{"named": true, "unnamed": true, "young": true, "again": true})
}

// The grace is never below twice the bound within which a sample may come.
func TestGraceIsAboveTheLatenessBound(t *testing.T) {
	a := newAttic(t, nil)
	old := a.at.Add(-evidence.DefaultGrace + time.Hour)
	if err := os.Chtimes(filepath.Join(a.dir, a.pieces["unnamed"].String()), time.Time{}, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(a.dir, a.pieces["again"].String())); err != nil {
		t.Fatal(err)
	}
	if err := a.keeper.Collect(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	a.want(t, map[string]bool{"unnamed": true})
	recent := a.at.Add(-2*24*time.Hour + time.Second)
	if err := os.Chtimes(filepath.Join(a.dir, a.pieces["unnamed"].String()), time.Time{}, recent); err != nil {
		t.Fatal(err)
	}
	if err := a.keeper.Collect(t.Context(), time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	a.want(t, map[string]bool{"unnamed": true, "named": true})
}

// A replica that hides the measurement makes nobody remove its evidence.
func TestNothingIsCollectedOnAForgedLedger(t *testing.T) {
	var hide atomic.Bool
	a := newAttic(t, func(b *ledgerv1.StreamBlocksResponse) error {
		if hide.Load() && len(b.GetLeaves()) > 2 {
			b.Leaves = append(b.Leaves[:1:1], b.Leaves[2:]...)
		}
		return nil
	})
	hide.Store(true)
	if err := a.keeper.Collect(t.Context(), grace); err == nil {
		t.Error("a ledger without the measurement is taken for the certified one")
	}
	a.want(t, map[string]bool{"named": true, "unnamed": true, "young": true, "again": true})
}

// What an upload left that a crash ended goes at the next start.
func TestUnfinishedUploadsAreDropped(t *testing.T) {
	dir := t.TempDir()
	piece := digest.Of(digest.Evidence, []byte("half"))
	half, other := filepath.Join(dir, piece.String()+".2026-01-01T00-00-00.tmp"), filepath.Join(dir, "notes.tmp")
	for _, file := range []string{half, other} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := evidence.OpenStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a piece is left: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("somebody else's file is gone: %v", err)
	}
}
