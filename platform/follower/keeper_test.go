package follower

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/kept"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/admin/admintest"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
)

// asked notes the heights of all blocks that a replica gave.
type asked struct {
	mu      sync.Mutex
	heights []uint64
}

func (a *asked) note(r *ledgertest.Replica) {
	r.OnBlock = func(b *ledgerv1.StreamBlocksResponse) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.heights = append(a.heights, b.GetHeight())
		return nil
	}
}

func (a *asked) lowest() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Min(a.heights)
}

// keeping opens a follower that keeps its state in a file, and says what it logs.
func keeping(t *testing.T, l *ledgertest.Ledger, path string, replicas ...*ledgertest.Replica) (*Follower, *bytes.Buffer) {
	t.Helper()
	c := Config{NetworkID: networkID(l).String(), State: path}
	for _, r := range replicas {
		c.Replicas = append(c.Replicas, Endpoint{Address: r.Address, SPKI: r.SPKI})
	}
	var log bytes.Buffer // read after Run has ended
	f, err := New(c, nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, &log
}

// keep follows a ledger to its end and leaves its state in a file.
func keep(t *testing.T, l *ledgertest.Ledger, path string) {
	t.Helper()
	f, log := keeping(t, l, path, l.Serve(t, "replica"))
	stop := start(t, f.Run)
	mustSee(t, f, l)
	stop()
	if f.keeper.height.Load() != l.Height()+1 {
		t.Fatalf("kept up to %d of %d: %s", f.keeper.height.Load(), l.Height(), log)
	}
}

// replayed is what a replay from the genesis block gives, in its one form.
func replayed(t *testing.T, l *ledgertest.Ledger) []byte {
	t.Helper()
	c, err := stream(t, l, networkID(l), func(*ledgerv1.StreamBlocksResponse) {})
	if err != nil {
		t.Fatal(err)
	}
	return encode(networkID(l), c.certified, c.tree)
}

// A start goes on from the kept state: no block below is asked for, and what
// comes of it is to the bit what a replay from the genesis block gives.
func TestRestartContinuesFromTheKeptState(t *testing.T) {
	l := populated(t)
	path := filepath.Join(t.TempDir(), "ledger.state")
	keep(t, l, path)
	before := l.Height()
	l.Do(func(n *statetest.Network) { n.Register("meter-02") })

	var blocks asked
	f, log := keeping(t, l, path, l.Serve(t, "replica", blocks.note))
	stop := start(t, f.Run)
	s := mustSee(t, f, l)
	if m, err := state.GetMeter(s, "meter-02"); err != nil || m == nil {
		t.Errorf("a meter that came since: %v, %v", m, err)
	}
	stop()
	if got := blocks.lowest(); got != before+1 {
		t.Errorf("block %d was asked for, kept were all up to %d", got, before)
	}
	if got := f.keeper.started.Load(); got != before+1 {
		t.Errorf("started from %d blocks, want %d", got, before+1)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := replayed(t, l); !bytes.Equal(b, want) {
		t.Errorf("kept is %s, a replay from the genesis block gives %s", digest.Plain(b), digest.Plain(want))
	}
	if !strings.Contains(log.String(), "followed from the kept state on") {
		t.Errorf("said: %s", log)
	}
}

// On a ledger where nothing happens the kept state serves at once.
func TestKeptStateServesAnIdleLedger(t *testing.T) {
	l := populated(t)
	path := filepath.Join(t.TempDir(), "ledger.state")
	keep(t, l, path)
	f, _ := keeping(t, l, path, l.Serve(t, "replica", func(r *ledgertest.Replica) {
		r.OnBlock = func(b *ledgerv1.StreamBlocksResponse) error { return errors.New("there is none") }
	}))
	start(t, f.Run)
	if err := f.CatchUp(within(t)); err != nil {
		t.Fatal(err)
	}
	s := mustSee(t, f, l)
	text, err := s.HeadProof()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := tlog.ParseProof(text); err != nil || p.Certificate.Checkpoint.Size != s.Head().Size {
		t.Errorf("head proof: %v, %v", p, err)
	}
}

// Whatever is wrong with the file is said, and the ledger is read from its
// genesis block; the file is then replaced.
func TestKeptStateIsUsedWholeOrNotAtAll(t *testing.T) {
	l := populated(t)
	good := replayed(t, l)
	foreign := ledgertest.New(t, statetest.Options{Organisations: 7})
	later := append([]byte("lacre/follower-state/v9\n"), good[len(keptMagic):]...)
	for name, c := range map[string]struct{ file, says string }{
		"empty":                 {"", "not a kept state"},
		"torn":                  {string(good[:len(good)/2]), "SHA-256"},
		"without its last byte": {string(good[:len(good)-1]), "SHA-256"},
		"of another network":    {string(replayed(t, foreign)), "WRONG_NETWORK"},
		"of another version":    {string(later), "follower-state/v9"},
		"something else":        {"node_id: gateway\n", "not a kept state"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.state")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			var blocks asked
			f, log := keeping(t, l, path, l.Serve(t, "replica", blocks.note))
			stop := start(t, f.Run)
			mustSee(t, f, l)
			stop()
			if got := blocks.lowest(); got != 0 {
				t.Errorf("block %d is the first that was asked for", got)
			}
			if !strings.Contains(log.String(), "is not used") || !strings.Contains(log.String(), c.says) {
				t.Errorf("it does not say %q: %s", c.says, log)
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, good) {
				t.Errorf("the file was not replaced: %v", err)
			}
		})
	}
}

// No bit of the file can flip and be taken for the ledger's.
func TestKeptStateWithAFlippedBit(t *testing.T) {
	l := populated(t)
	good := replayed(t, l)
	if _, _, err := decode(good, networkID(l), signature.Direct{}); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 1 + len(good)/997 {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if _, _, err := decode(bad, networkID(l), signature.Direct{}); !errors.Is(err, kept.ErrForm) {
			t.Fatalf("bit of byte %d flipped: %v", at, err)
		}
	}
}

// Beyond accidents: with the digest made right again, what does not fit together
// is refused too.
func TestKeptStateFitsTogether(t *testing.T) {
	l := populated(t)
	of := func() (*Snapshot, *tlog.Range) {
		s, tree, err := decode(replayed(t, l), networkID(l), signature.Direct{})
		if err != nil {
			t.Fatal(err)
		}
		return s, tree
	}
	earlier, err := tlog.ParseCertificate(l.Block(1).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(s *Snapshot, tree *tlog.Range)
		says   string
	}{
		"no block":                       {func(s *Snapshot, _ *tlog.Range) { s.refs = nil }, "0 blocks"},
		"a block is missing":             {func(s *Snapshot, _ *tlog.Range) { s.refs = slices.Delete(slices.Clone(s.refs), 1, 2) }, "comes after block"},
		"the tree has a leaf more":       {func(_ *Snapshot, tree *tlog.Range) { tree.Append(digest.Zero) }, "its tree has"},
		"the last block is missing":      {func(s *Snapshot, _ *tlog.Range) { s.refs = s.refs[:len(s.refs)-1] }, "its tree has"},
		"no configuration":               {func(s *Snapshot, _ *tlog.Range) { delete(s.values, state.KeyConfig) }, "no configuration"},
		"another network's state":        {func(s *Snapshot, _ *tlog.Range) { s.values[state.KeyNetwork] = make([]byte, 32) }, "WRONG_NETWORK"},
		"a value that is none":           {func(s *Snapshot, _ *tlog.Range) { s.values[state.KeyConfig] = []byte{7} }, "corrupt state"},
		"the certificate is an old one":  {func(s *Snapshot, _ *tlog.Range) { s.certificate = earlier.Text() }, "certificate is of size"},
		"no certificate":                 {func(s *Snapshot, _ *tlog.Range) { s.certificate = nil }, "block"},
		"the proof is of another header": {func(s *Snapshot, _ *tlog.Range) { s.proof.Extra = l.Block(0).Leaves[0].GetRecord() }, "its proof is not of block"},
	} {
		t.Run(name, func(t *testing.T) {
			s, tree := of()
			s.values = maps.Clone(s.values)
			c.change(s, tree)
			_, _, err := decode(encode(networkID(l), s, tree), networkID(l), signature.Direct{})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

// A write that is lost costs the next start time; one whose reply is lost costs
// nothing; neither costs the follower its ledger.
func TestKeepingFails(t *testing.T) {
	lost := errors.New("disk full")
	for name, persists := range map[string]bool{"lost": false, "persisted, and the reply lost": true} {
		t.Run(name, func(t *testing.T) {
			l := populated(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "ledger.state")
			keep(t, l, path)
			kept := l.Height()
			l.Do(func(n *statetest.Network) { n.Register("meter-02") })
			// What a crash in the middle of a write leaves is swept away.
			if err := os.WriteFile(filepath.Join(dir, ".ledger.state.17.tmp"), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, log := keeping(t, l, path, l.Serve(t, "replica"))
			f.keeper.write = func(path string, content []byte, mode fs.FileMode) error {
				if persists {
					return errors.Join(durable.WriteFile(path, content, mode), lost)
				}
				return lost
			}
			stop := start(t, f.Run)
			mustSee(t, f, l)
			stop()
			if !strings.Contains(log.String(), lost.Error()) {
				t.Errorf("it does not say why: %s", log)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("%v are left: %v", files, err)
			}
			want := kept + 1
			if persists {
				want = l.Height() + 1
			}
			again, _ := keeping(t, l, path, l.Serve(t, "replica"))
			stop = start(t, again.Run)
			mustSee(t, again, l)
			stop()
			if got := again.keeper.started.Load(); got != want {
				t.Errorf("the next start goes on from %d blocks, want %d", got, want)
			}
		})
	}
}

// While it runs, the state is kept every so many blocks.
func TestKeepsWhileItRuns(t *testing.T) {
	l := populated(t)
	f, _ := keeping(t, l, filepath.Join(t.TempDir(), "ledger.state"), l.Serve(t, "replica"))
	f.keeper.every, f.keeper.atMost = 2, 0
	written := make(chan []byte, 64)
	f.keeper.write = func(_ string, content []byte, _ fs.FileMode) error { written <- content; return nil }
	start(t, f.Run)
	mustSee(t, f, l)
	select {
	case content := <-written:
		if _, _, err := decode(content, networkID(l), signature.Direct{}); err != nil {
			t.Error(err)
		}
	case <-within(t).Done():
		t.Error("nothing was kept")
	}
}

// A state that replicas contradict is dropped, if one of those must be honest;
// and then the ledger is read from its genesis block.
func TestContradictedStateIsDropped(t *testing.T) {
	l := populated(t)
	c, err := stream(t, l, networkID(l), func(*ledgerv1.StreamBlocksResponse) {})
	if err != nil {
		t.Fatal(err)
	}
	wrong := *c.certified // as a fault of an earlier build might have left it
	wrong.values = maps.Clone(wrong.values)
	wrong.refs = slices.Clone(wrong.refs)
	wrong.refs[len(wrong.refs)-1].Admin[0] ^= 1
	wrong.head = wrong.refs[len(wrong.refs)-1]
	path := filepath.Join(t.TempDir(), "ledger.state")
	// The head differs from the ledger's in what no certificate shows, so the
	// ledger does not come by it either: it is another history, and said to be.
	if err := os.WriteFile(path, encode(networkID(l), &wrong, c.tree), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Do(func(n *statetest.Network) { n.Register("meter-02") })
	differs := wrong.head.Height
	served := make(chan struct{}, 64) // the block where the two differ: read after the genesis block, and refused
	f, log := keeping(t, l, path, l.Serve(t, "replica", func(r *ledgertest.Replica) {
		r.OnBlock = func(b *ledgerv1.StreamBlocksResponse) error {
			if b.GetHeight() == differs {
				served <- struct{}{}
			}
			return nil
		}
	}))
	stop := start(t, f.Run)
	for range 2 { // asked for again: so it was refused
		select {
		case <-served:
		case <-within(t).Done():
			t.Fatal("the ledger is not read from its genesis block")
		}
	}
	stop()
	if !strings.Contains(log.String(), "not used any more") || !strings.Contains(log.String(), "two histories") {
		t.Errorf("said: %s", log)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, encode(networkID(l), &wrong, c.tree)) {
		t.Errorf("what the state was is gone: %v", err)
	}

	// With a head that is the ledger's, a wrong value is replaced.
	wrong = *c.certified
	wrong.values = maps.Clone(wrong.values)
	maps.DeleteFunc(wrong.values, func(key string, _ []byte) bool { return strings.HasPrefix(key, state.PrefixAlgorithm) })
	if err := os.WriteFile(path, encode(networkID(l), &wrong, c.tree), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Do(func(n *statetest.Network) { n.Register("meter-03") })
	f, log = keeping(t, l, path, l.Serve(t, "replica"))
	stop = start(t, f.Run)
	mustSee(t, f, l)
	stop()
	if got := f.keeper.started.Load(); got != 0 || !strings.Contains(log.String(), "not used any more") {
		t.Errorf("started from %d: %s", got, log)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, replayed(t, l)) {
		t.Errorf("the wrong state is still there: %v", err)
	}
}

// One liar of four does not make a follower read everything again.
func TestOneLiarDoesNotCostTheKeptState(t *testing.T) {
	l := populated(t)
	path := filepath.Join(t.TempDir(), "ledger.state")
	keep(t, l, path)
	l.Do(func(n *statetest.Network) { n.Register("meter-02") })
	liar := l.Serve(t, "liar", func(r *ledgertest.Replica) {
		r.OnBlock = func(b *ledgerv1.StreamBlocksResponse) error { withhold(b); return nil }
	})
	f, log := keeping(t, l, path, liar, l.Serve(t, "a"), l.Serve(t, "b"), l.Serve(t, "c"))
	stop := start(t, f.Run)
	mustSee(t, f, l)
	stop()
	if f.keeper.started.Load() == 0 || !strings.Contains(log.String(), "does not serve the ledger") {
		t.Errorf("started from %d: %s", f.keeper.started.Load(), log)
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	registry := admin.NewRegistry()
	f, err := New(Config{NetworkID: digest.Plain(nil).String(), Replicas: []Endpoint{{Address: "127.0.0.1:1", SPKI: digest.Zero.String()}}}, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(f.Gauges())
	admintest.Documented(t, registry, "lacre_follower_", "../../docs/metrics.md")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzKeptState gives the decoder what a disk may hold: what it reads, it writes
// as the same bytes, and the certificate in it is of its head.
func FuzzKeptState(f *testing.F) {
	l := ledgertest.New(f, statetest.Options{})
	var id digest.Digest
	l.Do(func(n *statetest.Network) {
		n.Approve()
		id = n.ID
	})
	verifier := signature.NewCache(1 << 12)
	c := newChain(id, verifier)
	for height := range l.Height() + 1 {
		if _, err := c.add(l.Block(height)); err != nil {
			f.Fatal(err)
		}
		f.Add(encode(id, c.certified, c.tree)[len(keptMagic)+digest.Size:], uint16(0), []byte{})
	}
	whole := encode(id, c.certified, c.tree)
	whole = whole[len(keptMagic)+digest.Size : len(whole)-digest.Size]
	for i := range uint16(16) {
		f.Add(whole, i*uint16(len(whole)/16), []byte{byte(i)})
	}
	f.Fuzz(func(t *testing.T, parts []byte, at uint16, patch []byte) {
		parts = bytes.Clone(parts)
		copy(parts[min(int(at), len(parts)):], patch)
		// The magic line, the network and the sum are put here, or no input would
		// reach the parser.
		body := slices.Concat([]byte(keptMagic), id[:], parts)
		sum := digest.Plain(body)
		file := slices.Concat(body, sum[:])
		s, tree, err := decode(file, id, verifier)
		if err != nil {
			return
		}
		if !bytes.Equal(encode(id, s, tree), file) {
			t.Fatal("read and written as another file")
		}
		certificate, err := tlog.ParseCertificate(s.Certificate())
		if err != nil || certificate.Checkpoint.Root != s.Head().Root || certificate.Checkpoint.Size != tree.Size() {
			t.Fatalf("certified is %v, the head is %+v: %v", certificate, s.Head(), err)
		}
	})
}
