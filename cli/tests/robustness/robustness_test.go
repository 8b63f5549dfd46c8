package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
)

func TestTheScheduleIsAFunctionOfItsSeed(t *testing.T) {
	of := nodes{replicas: []string{"a", "b", "c", "d"}, others: []string{"gateway"}}
	kinds, altered := make(map[kind]bool), make(map[string]bool)
	seen := make(map[shape]bool)
	for seed := range uint64(200) {
		one, two := schedule(seed, 12*time.Second, of), schedule(seed, 12*time.Second, of)
		if !reflect.DeepEqual(one, two) {
			t.Fatalf("seed %d gives two schedules:\n%v\n%v", seed, one, two)
		}
		if reflect.DeepEqual(one, schedule(seed+1, 12*time.Second, of)) {
			t.Errorf("seeds %d and %d give the same schedule", seed, seed+1)
		}
		for _, f := range one {
			kinds[f.Kind], seen[f.Shape], altered[f.File] = true, true, true
			if f.At+f.Length > 12*time.Second {
				t.Errorf("seed %d: %s is not over after 12 s", seed, f)
			}
		}
	}
	for _, want := range []kind{kill, pause, partition, slow, point, torn, stall, clock, disk, echo, lie, alter, member} {
		if !kinds[want] {
			t.Errorf("no schedule has a %s", want)
		}
	}
	for want := range places {
		if !altered[want] {
			t.Errorf("no schedule alters %s", want)
		}
	}
	for _, want := range shapes {
		if !seen[want] {
			t.Errorf("no partition has the shape %s", want)
		}
	}
}

// A seed never has more than one replica that fails in another way than by
// stopping: a liar, or one whose stored bytes change.
func TestASeedHasOneByzantineReplica(t *testing.T) {
	of := nodes{replicas: []string{"a", "b", "c", "d"}, others: []string{"gateway"}}
	met := make(map[lineup]bool)
	for seed := range uint64(300) {
		of, line := of, lineupOf(seed)
		met[line] = true
		count := make(map[kind]int)
		for _, f := range schedule(seed, 12*time.Second, of) {
			count[f.Kind]++
			if f.Kind == lie && f.Target != liar || f.Kind == alter && f.Target != damaged {
				t.Errorf("seed %d: %s strikes more than one replica", seed, f)
			}
		}
		if count[lie] > 0 && !byzantine(seed) || count[alter] > 0 && line != alterings {
			t.Errorf("seed %d, lineup %d, has %v", seed, line, count)
		}
		if want := line == membership; count[member] > 1 || count[member] == 1 != want {
			t.Errorf("seed %d, lineup %d, changes the membership %d times", seed, line, count[member])
		}
	}
	if len(met) != 5 {
		t.Errorf("300 seeds have the lineups %v, want all five", met)
	}
}

// A bit is flipped in what was written of a file, and is found to stand.
func TestAFlippedBitLiesInWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	content := append(bytes.Repeat([]byte{7}, 100), make([]byte, 3<<20)...) // as the log reserves it
	for kind, place := range places {
		path := filepath.Join(dir, strings.ReplaceAll(place, "*", "1"))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(50) {
			a, err := flip(dir, kind, rand.New(rand.NewPCG(seed, 3)))
			if err != nil || a.offset >= 100 || !a.stands() {
				t.Fatalf("%s, seed %d: flipped %v: %v", kind, seed, a, err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if a.stands() {
				t.Errorf("%s: a byte that was written anew stands", kind)
			}
		}
	}
	begun := filepath.Join(dir, "store", "segments", "2.rec")
	if err := os.WriteFile(begun, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(50) {
		if a, err := flip(dir, "records", rand.New(rand.NewPCG(seed, 3))); err != nil || a.path == begun {
			t.Fatalf("seed %d: flipped %v beside a file that was only begun: %v", seed, a, err)
		}
	}
	if _, err := flip(t.TempDir(), "log", rand.New(rand.NewPCG(1, 3))); !errors.Is(err, errNothingThere) {
		t.Errorf("a bit of nothing was flipped: %v", err)
	}
}

// What the checker takes for right and for wrong.
func TestHistories(t *testing.T) {
	a, b := digest.Plain([]byte("a")), digest.Plain([]byte("b"))
	s := slot{meter: "m", counter: 1}
	write := func(d digest.Digest) input { return input{slot: s, write: true, sample: d} }
	read := input{slot: s}
	for name, c := range map[string]struct {
		play  func(h *history)
		legal bool
	}{
		"written and read": {func(h *history) {
			h.end(h.begin(write(a)), output{})
			h.end(h.begin(read), output{found: a})
		}, true},
		"an acknowledged write is not there": {func(h *history) {
			h.end(h.begin(write(a)), output{})
			h.end(h.begin(read), output{})
		}, false},
		"another is there": {func(h *history) {
			h.end(h.begin(write(a)), output{})
			h.end(h.begin(read), output{found: b})
		}, false},
		"both of two are acknowledged": {func(h *history) {
			one, two := h.begin(write(a)), h.begin(write(b))
			h.end(one, output{})
			h.end(two, output{})
		}, false},
		"one of two loses": {func(h *history) {
			one, two := h.begin(write(a)), h.begin(write(b))
			h.end(one, output{lost: true})
			h.end(two, output{})
			h.end(h.begin(read), output{found: b})
		}, true},
		"one loses against nobody": {func(h *history) {
			h.end(h.begin(write(a)), output{lost: true})
			h.end(h.begin(read), output{})
		}, false},
		"it was there and is gone": {func(h *history) {
			h.begin(write(a))
			h.end(h.begin(read), output{found: a})
			h.end(h.begin(read), output{})
		}, false},
		"an unanswered write comes late, or never": {func(h *history) {
			h.begin(write(a))
			h.end(h.begin(read), output{})
		}, true},
		"a read that failed says nothing": {func(h *history) {
			h.end(h.begin(write(a)), output{})
			h.drop(h.begin(read))
		}, true},
		"a read during the write sees either": {func(h *history) {
			w := h.begin(write(a))
			h.end(h.begin(read), output{})
			h.end(h.begin(read), output{found: a})
			h.end(w, output{})
		}, true},
		"a read before the write sees it": {func(h *history) {
			h.end(h.begin(read), output{found: a})
			h.end(h.begin(write(a)), output{})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			c.play(h)
			if v := h.check(time.Minute); (len(v.Illegal) == 0) != c.legal || v.Unknown > 0 {
				t.Errorf("legal %v, want %v: %+v", len(v.Illegal) == 0, c.legal, v)
			}
		})
	}
}

func TestWhatIsMissingOrAlteredIsFound(t *testing.T) {
	a, b := digest.Plain([]byte("a")), digest.Plain([]byte("b"))
	one, two, three := slot{"m", 1}, slot{"m", 2}, slot{"m", 3}
	f := &ledgerFound{measurements: map[slot]digest.Digest{one: a, two: b}}
	got := f.lost([]acknowledged{{slot: one, sample: a}, {slot: two, sample: a}, {slot: three, sample: a}})
	if len(got) != 2 || !strings.HasPrefix(got[0], "ALTERED: m counter 2") || !strings.HasPrefix(got[1], "LOST: m counter 3") {
		t.Errorf("found %q", got)
	}
}

// echoing answers each byte with itself.
func echoing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local address does not block.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestLinkCutsEachDirectionAndHeals(t *testing.T) {
	l, err := newLink("a", "b", echoing(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	c, err := net.Dial("tcp", l.address()) //nolint:noctx // a local address.
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange := func(want byte) error {
		if _, err := c.Write([]byte{want}); err != nil {
			return err
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if got[0] != want {
			t.Errorf("got %d, want %d: the order changed", got[0], want)
		}
		return nil
	}
	if err := exchange(1); err != nil {
		t.Fatal(err)
	}
	for i, s := range []linkState{{there: true}, {back: true}, {there: true, back: true}} {
		l.set(0, s)
		l.set(1, s) // two faults: the cut ends with the second
		answered := make(chan error, 1)
		go func() { answered <- exchange(byte(i)) }()
		l.heal(0)
		select {
		case err := <-answered:
			t.Errorf("%+v lets bytes through: %v", s, err)
		case <-time.After(50 * time.Millisecond): // a cut that does not cut is seen nearly always
		}
		l.heal(1)
		if err := <-answered; err != nil {
			t.Errorf("%+v, healed: %v", s, err)
		}
	}
	l.set(2, linkState{there: true, reset: true})
	if err := exchange(9); err == nil {
		t.Error("a reset link keeps its connection")
	}
	again, err := net.Dial("tcp", l.address()) //nolint:noctx // a local address.
	if err == nil {
		_, err = again.Read(make([]byte, 1))
		_ = again.Close()
	}
	if err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("a reset link takes a connection: %v", err)
	}
}

func TestPercentile(t *testing.T) {
	for _, c := range []struct {
		list []int64
		p    int
		want int64
	}{{[]int64{7}, 99, 7}, {[]int64{1, 2, 3, 4}, 50, 2}, {[]int64{1, 2, 3, 4}, 99, 4}, {[]int64{1, 2, 3, 4}, 100, 4}} {
		if got := percentile(c.list, c.p); got != c.want {
			t.Errorf("percentile %d of %v is %d, want %d", c.p, c.list, got, c.want)
		}
	}
}
