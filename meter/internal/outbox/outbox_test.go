package outbox

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

var (
	network = digest.Plain([]byte("test"))
	signer  = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	options = Options{NetworkID: network, MeterID: "meter-1", MaxBytes: 1 << 20}
)

// next signs the sample that continues the chain; salt makes another sample
// under the same counter.
func next(t *testing.T, head Head, salt uint64) *Entry {
	t.Helper()
	raw := fmt.Appendf(nil, "raw vector %d of counter %d", salt, head.Counter+1)
	s, sig, err := sample.Sign(signer, &sample.Header{
		NetworkID: network, MeterID: "meter-1", Counter: head.Counter + 1, Previous: head.Digest,
		CapturedAtUnixNano: int64(head.Counter) + 1, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		Channels: 2, SamplesPerChannel: 1, SampleRateMillihertz: 1000, Encoding: recordv1.Encoding_ENCODING_INT16,
		RawDigest: sample.DigestRaw(raw),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &Entry{Sample: s, Signature: sig, RawVector: raw}
}

func open(t *testing.T, files Files) *Outbox {
	t.Helper()
	o, err := Open(files, options)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func add(t *testing.T, o *Outbox, n int) {
	t.Helper()
	for range n {
		if err := o.Add(next(t, o.Head(), 0)); err != nil {
			t.Fatal(err)
		}
	}
}

func counters(items []Item) []uint64 {
	list := []uint64{}
	for _, item := range items {
		list = append(list, item.Counter)
	}
	return list
}

func receiptOf(counter uint64) []byte { return fmt.Appendf(nil, "receipt of %d", counter) }

func TestLifeOfSamples(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "new", "outbox"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	o := open(t, dir)
	add(t, o, 4)
	if err := o.Settle([]Settlement{{1, receiptOf(1)}, {4, receiptOf(4)}}); err != nil {
		t.Fatal(err)
	}
	if err := o.Refuse(Refusal{Counter: 2, Reason: "BAD_SIGNATURE", Detail: "x", Endpoint: "gateway:1"}); err != nil {
		t.Fatal(err)
	}
	for _, box := range []*Outbox{o, open(t, dir)} { // and the same after a restart
		if got := counters(box.Pending()); !slices.Equal(got, []uint64{3}) {
			t.Errorf("pending %v, want [3]", got)
		}
		if got := box.Head(); got != o.Head() || got.Counter != 4 {
			t.Errorf("head %+v, want counter 4", got)
		}
		e, err := box.Read(3)
		if err != nil || e.Sample.Counter != 3 || string(e.RawVector) != "raw vector 0 of counter 3" {
			t.Errorf("read: %v", err)
		}
		if b, err := box.Receipt(4); err != nil || string(b) != "receipt of 4" {
			t.Errorf("receipt 4: %q, %v", b, err)
		}
		if u := box.Usage(); u.Pending != 1 || u.Receipts != 2 || u.Refused != 1 || u.PendingBytes != box.Pending()[0].Size {
			t.Errorf("usage %+v", u)
		}
	}
	add(t, o, 1)
	if o.Head().Counter != 5 {
		t.Errorf("head %d after 4 is settled and one is added, want 5", o.Head().Counter)
	}
}

func TestN2_RefusedSamplesAreKeptListedAndCanBeSentAgain(t *testing.T) {
	m := newMemory()
	o := open(t, m)
	add(t, o, 2)
	want := Refusal{Counter: 2, Sample: "d", Reason: "BACK_DATED", Detail: "a < b", Endpoint: "g", RefusedAtUnixMilli: 7}
	if err := o.Refuse(want); err != nil {
		t.Fatal(err)
	}
	n := 0
	for r, err := range o.Refused() {
		if n++; err != nil || r != want {
			t.Errorf("listed %+v, %v; want %+v", r, err, want)
		}
	}
	if n != 1 {
		t.Fatalf("%d refused, want 1", n)
	}
	if e, err := o.RefusedEntry(2); err != nil || e.Sample.Counter != 2 {
		t.Errorf("refused entry: %v", err)
	}
	if o = open(t, m); o.Head().Counter != 2 {
		t.Errorf("head %d after the newest was refused, want 2", o.Head().Counter)
	}
	if item, err := o.Retry(2); err != nil || item.Counter != 2 {
		t.Fatalf("retry: %v", err)
	}
	if got := counters(open(t, m).Pending()); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("pending %v after retry, want [1 2]", got)
	}
	if _, err := o.Retry(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("retry of what was never refused: %v", err)
	}
}

func TestFullOutboxRefusesAndOverwritesNothing(t *testing.T) {
	m := newMemory()
	o := open(t, m)
	add(t, o, 1)
	o.maxBytes = 2*o.Usage().PendingBytes + 100 // later ones name a predecessor and are longer
	add(t, o, 1)
	third := next(t, o.Head(), 0)
	if err := o.Add(third); !errors.Is(err, ErrFull) {
		t.Fatalf("a third sample: %v, want %v", err, ErrFull)
	}
	if got := counters(o.Pending()); !slices.Equal(got, []uint64{1, 2}) || o.Head().Counter != 2 {
		t.Errorf("pending %v, head %d; want [1 2] and 2", got, o.Head().Counter)
	}
	if err := o.Settle([]Settlement{{1, receiptOf(1)}}); err != nil {
		t.Fatal(err)
	}
	if err := o.Add(third); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestAddWantsTheNextLinkOfTheChain(t *testing.T) {
	o := open(t, newMemory())
	add(t, o, 2)
	for name, head := range map[string]Head{
		"the same counter": {Counter: 1, Digest: o.Head().Digest},
		"a gap":            {Counter: 3, Digest: o.Head().Digest},
		"another past":     {Counter: 2, Digest: digest.Of(digest.Sample, nil)},
	} {
		if err := o.Add(next(t, head, 1)); err == nil {
			t.Errorf("%s was added", name)
		}
	}
	e := next(t, o.Head(), 0)
	e.RawVector = []byte("other")
	if err := o.Add(e); err == nil {
		t.Error("a raw vector with another digest was added")
	}
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name      string
		damage    func(m *memory)
		opens     bool // the chain can be continued
		unread    []uint64
		readables []uint64
	}{
		{"raw vector of the newest", func(m *memory) { m.names[queueName(3)][len(m.names[queueName(3)])-1] ^= 1 }, true, []uint64{3}, []uint64{1, 2}},
		{"tail of the newest cut off", func(m *memory) { m.names[queueName(3)] = m.names[queueName(3)][:len(m.names[queueName(3)])-3] }, true, []uint64{3}, []uint64{1, 2}},
		{"header of an older one", func(m *memory) { m.names[queueName(1)][40] ^= 1 }, true, []uint64{1}, []uint64{2, 3}},
		{"an older one is another's file", func(m *memory) { m.names[queueName(1)] = m.names[queueName(2)] }, true, []uint64{1}, []uint64{2, 3}},
		{"an older one is gone between", func(m *memory) { delete(m.names, queueName(2)) }, true, nil, []uint64{1, 3}},
		{"header of the newest", func(m *memory) { m.names[queueName(3)][40] ^= 1 }, false, nil, nil},
		{"newest is empty", func(m *memory) { m.names[queueName(3)] = nil }, false, nil, nil},
		{"newest is another's file", func(m *memory) { m.names[queueName(3)] = m.names[queueName(2)] }, false, nil, nil},
		{"a receipt from the future", func(m *memory) { m.names[ReceiptName(4)] = nil }, false, nil, nil},
		{"a refusal from the future", func(m *memory) { m.names[RefusedName(4)] = nil }, false, nil, nil},
		{"head file", func(m *memory) { m.names["head"] = []byte("x") }, false, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			add(t, open(t, m), 3)
			c.damage(m)
			o, err := Open(m, options)
			if !c.opens {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("open: %v, want %v", err, ErrDamaged)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, counter := range c.unread {
				if _, err := o.Read(counter); !errors.Is(err, ErrDamaged) {
					t.Errorf("read %d: %v, want %v", counter, err, ErrDamaged)
				}
				if _, ok := m.names[damagedName(counter)]; !ok {
					t.Errorf("%d was not set aside", counter)
				}
			}
			if got := counters(o.Pending()); !slices.Equal(got, c.readables) {
				t.Errorf("pending %v, want %v", got, c.readables)
			}
			for _, counter := range c.readables {
				if _, err := o.Read(counter); err != nil {
					t.Errorf("read %d: %v", counter, err)
				}
			}
			if again := open(t, m); again.Head().Counter != 3 {
				t.Errorf("head %d after the damaged were set aside, want 3", again.Head().Counter)
			}
		})
	}
}

func TestDirectoryOfAnotherMeterOrInUseIsRefused(t *testing.T) {
	path := t.TempDir()
	dir, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := OpenDir(path); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v, want %v", err, ErrLocked)
	}
	other := options
	other.MeterID = "meter-2"
	if _, err := Open(dir, other); err == nil || !strings.Contains(err.Error(), "meter-1") {
		t.Errorf("another meter: %v, want an error that names both", err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	if dir, err = OpenDir(path); err != nil {
		t.Fatalf("after close: %v", err)
	}
	if err := os.WriteFile(dir.Path("queue/notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(open(t, dir).Pending()); n != 0 {
		t.Errorf("a file of people counts as %d samples", n)
	}
	dir.Close()
}

// world is what a network has seen of a meter over crashes and restarts.
type world struct {
	t        *testing.T
	m        *memory
	o        *Outbox
	salt     uint64
	added    map[uint64]digest.Digest // Add returned nil
	sent     map[uint64]digest.Digest // seen by the network
	receipts map[uint64]bool          // Settle returned nil
}

// send is what a sender may do at any time: everything in the index can leave.
func (w *world) send() {
	for _, item := range w.o.Pending() {
		e, err := w.o.Read(item.Counter)
		if err != nil {
			if !errors.Is(err, ErrNotPending) {
				w.t.Errorf("read %d: %v", item.Counter, err)
			}
			continue
		}
		if old, ok := w.sent[item.Counter]; ok && old != e.Sample.Digest {
			w.t.Errorf("counter %d was sent as %s and as %s", item.Counter, old.Short(), e.Sample.Digest.Short())
		}
		w.sent[item.Counter] = e.Sample.Digest
	}
}

// check is the outbox's promise.
func (w *world) check() {
	for counter, d := range w.added {
		if w.o.Head().Counter < counter {
			w.t.Errorf("head is %d, counter %d was used", w.o.Head().Counter, counter)
		}
		e, err := w.o.Read(counter)
		if errors.Is(err, ErrNotPending) {
			if e, err = w.o.RefusedEntry(counter); err != nil {
				if _, err = w.o.Receipt(counter); err == nil {
					continue
				}
			}
		}
		if err != nil {
			w.t.Errorf("sample %d is lost: %v", counter, err)
		} else if e.Sample.Digest != d {
			w.t.Errorf("sample %d became another", counter)
		}
	}
	for counter := range w.receipts {
		if b, err := w.o.Receipt(counter); err != nil || !bytes.Equal(b, receiptOf(counter)) {
			w.t.Errorf("receipt %d: %q, %v", counter, b, err)
		}
	}
}

func newWorld(t *testing.T) *world {
	return &world{t: t, m: newMemory(), added: map[uint64]digest.Digest{}, sent: map[uint64]digest.Digest{}, receipts: map[uint64]bool{}}
}

// step does one thing; errors are the outbox's to survive.
func (w *world) step(what int, counter uint64) error {
	switch what {
	case 0, 1, 2:
		w.salt++
		e := next(w.t, w.o.Head(), w.salt)
		err := w.o.Add(e)
		if err == nil {
			w.added[e.Sample.Counter] = e.Sample.Digest
		}
		return err
	case 3:
		batch := []Settlement{{counter, receiptOf(counter)}, {counter + 1, receiptOf(counter + 1)}}
		was := []bool{w.o.Has(counter), w.o.Has(counter + 1)}
		err := w.o.Settle(batch)
		for i, s := range batch {
			if err == nil && was[i] {
				w.receipts[s.Counter] = true
			}
		}
		return err
	default:
		if !w.o.Has(counter) {
			return nil
		}
		return w.o.Refuse(Refusal{Counter: counter, Reason: "R"})
	}
}

// reopen is a restart; it must always succeed.
func (w *world) reopen() {
	w.m.fail = nil
	w.o = open(w.t, w.m)
}

// TestEachWriteBrokenTwice runs one script and breaks each write of it, once
// lost and once persisted with the reply lost, with and without a crash after.
func TestEachWriteBrokenTwice(t *testing.T) {
	script := []struct {
		what    int
		counter uint64
	}{{0, 0}, {0, 0}, {3, 1}, {0, 0}, {4, 3}, {0, 0}, {0, 0}, {3, 4}, {0, 0}, {4, 6}, {0, 0}}
	run := func(t *testing.T, breakAt int, how fault, crash bool) int {
		w := newWorld(t)
		rng := rand.New(rand.NewPCG(uint64(breakAt), 9))
		w.o = open(t, w.m)
		first := w.m.mutation
		w.m.fail = func(string, string) fault {
			if w.m.mutation-first == breakAt {
				return how
			}
			return none
		}
		for _, s := range script {
			err := w.step(s.what, s.counter)
			w.send()
			if err == nil {
				continue
			}
			if crash {
				w.m = w.m.crash(rng)
			}
			if crash || breakAt%2 == 0 { // also a restart without a power cut, and none at all
				w.reopen()
			}
			w.check()
			if err := w.step(s.what, s.counter); err != nil { // a second time, undisturbed
				t.Errorf("operation %d, counter %d again: %v", s.what, s.counter, err)
			}
			w.send()
		}
		mutations := w.m.mutation - first
		w.reopen()
		w.send()
		w.check()
		return mutations
	}
	total := run(t, 0, none, false)
	if total < 40 {
		t.Fatalf("the script makes %d writes; it should make more", total)
	}
	for at := 1; at <= total; at++ {
		for how, name := range map[fault]string{lost: "lost", persisted: "persisted"} {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprintf("write %d %s, crash %v", at, name, crash), func(t *testing.T) { run(t, at, how, crash) })
			}
		}
	}
}

// TestRandomCrashes mixes operations, failures and power cuts.
func TestRandomCrashes(t *testing.T) {
	seed := rand.Uint64()
	for round := range uint64(60) {
		t.Run(fmt.Sprintf("seed %d round %d", seed, round), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, round))
			w := newWorld(t)
			w.reopen()
			for range 60 {
				w.m.fail = func(string, string) fault {
					if rng.IntN(25) == 0 {
						return fault(1 + rng.IntN(2))
					}
					return none
				}
				err := w.step(rng.IntN(5), uint64(1+rng.IntN(int(w.o.Head().Counter)+1)))
				w.m.fail = nil // sending writes only when it completes a move
				w.send()
				if rng.IntN(12) == 0 {
					w.m = w.m.crash(rng)
					w.reopen()
				} else if err != nil && rng.IntN(2) == 0 {
					w.reopen()
				}
				w.check()
			}
		})
	}
}

func FuzzParseEntry(f *testing.F) {
	s, sig, err := sample.Sign(signer, &sample.Header{
		NetworkID: network, MeterID: "m", Counter: 1, CapturedAtUnixNano: 1,
		ClockSync: recordv1.ClockSync_CLOCK_SYNC_HOLDOVER, Channels: 2, SamplesPerChannel: 1,
		SampleRateMillihertz: 1, Encoding: recordv1.Encoding_ENCODING_INT16, RawDigest: sample.DigestRaw([]byte("raw")),
	})
	if err != nil {
		f.Fatal(err)
	}
	good := Entry{Sample: s, Signature: sig, RawVector: []byte("raw")}
	f.Add(append(good.stem(), "raw"...))
	f.Add(good.stem())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err != nil {
			return
		}
		if again := append(e.stem(), e.RawVector...); !bytes.Equal(again, b) {
			t.Error("a file was read that is not what would be written")
		}
	})
}
