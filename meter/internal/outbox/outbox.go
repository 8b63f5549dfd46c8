// Package outbox keeps every signed sample until its receipt is stored, and the
// meter's counter and chain with it.
//
// Source: architecture, "The path of one measurement" (1), rules S3 and N2;
// WELMEC 7.2 L7, L8 and T7 as metrology.md words them (secondary source).
//
// The directory:
//
//	LOCK              held while open
//	identity          network and meter; another meter's directory is refused
//	head              the stem (entry.go) of the newest sample that left the queue
//	queue/N.sample    samples without an answer, one file each; N is the counter
//	receipts/N.receipt
//	refused/N.sample  permanently refused samples, with N.json saying why
//	damaged/N.sample  files that no longer have the digest that was signed
//
// Invariants:
//   - A file under its final name is complete: it is written and fsynced under
//     a temporary name first. So a bad one is damage, never an unfinished write.
//   - A counter is used exactly when its sample file has its final name and the
//     directory is synced. Only then is the sample in the index, and only what
//     is in the index leaves the machine: no counter is signed twice and sent.
//   - The newest link of the chain is always on disk: as the newest file of the
//     queue, or as head, which is durable before that file leaves the queue.
//   - A sample leaves the queue only after its receipt, or the reason of its
//     refusal, is durable. Nothing is ever overwritten by another sample.
//
// A known hole: a disk that loses what it acknowledged, or a directory restored
// from an old copy without its receipts, makes the meter sign counters again.
// The ledger then sees an equivocation (rule S3).
package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
)

// The errors that callers tell apart.
var (
	// ErrFull says: the sample does not fit; nothing was overwritten.
	ErrFull = errors.New("outbox is full")
	// ErrDamaged says: stored bytes are not what was written.
	ErrDamaged = errors.New("outbox is damaged")
	// ErrNotPending says: no such sample in the queue.
	ErrNotPending = errors.New("sample is not in the outbox's queue")
)

// Options say whose outbox it is.
type Options struct {
	NetworkID digest.Digest
	MeterID   string
	MaxBytes  int64 // bound on the queue; refused samples do not count, or a lying gateway could fill it
}

// Item is a sample of the queue.
type Item struct {
	Counter uint64
	Size    int64 // bytes of its file
}

// Outbox is safe for concurrent use.
type Outbox struct {
	files    Files
	maxBytes int64

	adding   sync.Mutex // serialises Add
	settling sync.Mutex // serialises what moves files out of the queue

	mu       sync.Mutex       // guards the rest
	queue    map[uint64]int64 // counter to size
	bytes    int64            // their sum
	head     Head
	headStem []byte // of the sample that head names; nil for the zero Head
	receipts int    // files in receipts/
	refused  int    // samples in refused/
}

// Open recovers the outbox from its directory. Errors match ErrDamaged when the
// chain cannot be continued safely.
func Open(files Files, options Options) (*Outbox, error) {
	o := &Outbox{files: files, maxBytes: options.MaxBytes, queue: make(map[uint64]int64)}
	if err := o.prepare(options); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	if err := o.recover(); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	return o, nil
}

// prepare makes the directories, removes unfinished writes and checks whose
// outbox it is.
func (o *Outbox) prepare(options Options) error {
	for _, dir := range []string{"queue", "receipts", "refused", "damaged"} {
		if err := o.files.MakeDir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{".", "queue", "receipts", "refused"} {
		files, err := o.files.List(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name, temporary) {
				if err := o.files.Remove(dir + "/" + f.Name); err != nil {
					return err
				}
			}
		}
		// The last process may have ended between a rename and its sync: what is seen
		// here must survive a power cut before anything is built upon it.
		if err := o.files.SyncDir(dir); err != nil {
			return err
		}
	}
	want := fmt.Sprintf("network %s\nmeter %s\n", options.NetworkID, options.MeterID)
	got, err := o.files.Read("identity")
	if errors.Is(err, fs.ErrNotExist) {
		return o.replace("identity", []byte(want))
	}
	if err == nil && string(got) != want {
		err = fmt.Errorf("it belongs to %q, not to %q", got, want)
	}
	return err
}

// recover finds the queue and the head of the chain.
func (o *Outbox) recover() error {
	queued, err := o.list("queue", ".sample")
	if err != nil {
		return err
	}
	for _, item := range queued {
		o.queue[item.Counter] = item.Size
		o.bytes += item.Size
	}
	if err := o.recoverHead(queued); err != nil {
		return err
	}
	receipts, err := o.list("receipts", ".receipt")
	if err != nil {
		return err
	}
	refused, err := o.list("refused", ".sample")
	if err != nil {
		return err
	}
	o.refused = len(refused)
	for _, r := range receipts {
		if _, again := o.queue[r.Counter]; !again { // stored before a crash, and soon stored again
			o.receipts++
		}
	}
	for _, items := range [][]Item{receipts, refused} {
		if n := len(items); n > 0 && items[n-1].Counter > o.head.Counter {
			return fmt.Errorf("%w: the newest link of the chain is counter %d, but counter %d was sent already; is this an old copy?",
				ErrDamaged, o.head.Counter, items[n-1].Counter)
		}
	}
	return nil
}

func (o *Outbox) recoverHead(queued []Item) error {
	candidates := []string{"head"}
	if n := len(queued); n > 0 {
		candidates = append(candidates, queueName(queued[n-1].Counter))
	}
	for _, name := range candidates {
		b, err := o.files.Read(name)
		if errors.Is(err, fs.ErrNotExist) && name == "head" {
			continue
		}
		if err != nil {
			return err
		}
		e, rest, err := parseStem(b)
		if err != nil {
			return fmt.Errorf("%w: %s: %w; without it the chain cannot be continued", ErrDamaged, name, err)
		}
		head := headOf(e)
		if head.Counter == o.head.Counter && head.Digest != o.head.Digest {
			return fmt.Errorf("%w: head and queue hold different samples of counter %d: %s and %s",
				ErrDamaged, head.Counter, o.head.Digest.Short(), head.Digest.Short())
		}
		if name != "head" && name != queueName(head.Counter) {
			return fmt.Errorf("%w: %s holds counter %d", ErrDamaged, name, head.Counter)
		}
		if head.Counter > o.head.Counter {
			o.head, o.headStem = head, b[:len(b)-len(rest)]
		}
	}
	return nil
}

// list gives the samples of a directory by counter; files with other names are
// people's and stay.
func (o *Outbox) list(dir, suffix string) ([]Item, error) {
	files, err := o.files.List(dir)
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(files))
	for _, f := range files {
		digits, ok := strings.CutSuffix(f.Name, suffix)
		counter, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && f.Name == fileName(counter, suffix) {
			items = append(items, Item{Counter: counter, Size: f.Size})
		}
	}
	return items, nil // names have leading zeros, so they are in order of counter
}

func fileName(counter uint64, suffix string) string { return fmt.Sprintf("%020d%s", counter, suffix) }

func queueName(counter uint64) string { return "queue/" + fileName(counter, ".sample") }

// ReceiptName is the file of a receipt, for Dir.Path.
func ReceiptName(counter uint64) string { return "receipts/" + fileName(counter, ".receipt") }

// RefusedName is the file of a refused sample, for Dir.Path.
func RefusedName(counter uint64) string { return "refused/" + fileName(counter, ".sample") }

func reasonName(counter uint64) string  { return "refused/" + fileName(counter, ".json") }
func damagedName(counter uint64) string { return "damaged/" + fileName(counter, ".sample") }

// Head is the newest link of the chain.
func (o *Outbox) Head() Head {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.head
}

// Pending is the queue in order of counter.
func (o *Outbox) Pending() []Item {
	o.mu.Lock()
	items := make([]Item, 0, len(o.queue))
	for counter, size := range o.queue {
		items = append(items, Item{Counter: counter, Size: size})
	}
	o.mu.Unlock()
	slices.SortFunc(items, func(a, b Item) int {
		if a.Counter < b.Counter {
			return -1
		}
		return 1
	})
	return items
}

// Usage is what the outbox holds.
type Usage struct {
	Pending      int
	PendingBytes int64
	Receipts     int
	Refused      int
}

// Usage counts without touching the disk.
func (o *Outbox) Usage() Usage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Usage{Pending: len(o.queue), PendingBytes: o.bytes, Receipts: o.receipts, Refused: o.refused}
}

// Add stores the next sample of the chain; it is durable when Add returns nil.
// Errors: ErrFull, or a failed write. Then the counter is free: the next sample
// takes it, and replaces what a half-failed write may have left, which never was
// in the index and so never left the machine. Only if the process ends before
// that may the sample turn up after all. The entry must continue the chain that
// Head names.
func (o *Outbox) Add(e *Entry) error {
	o.adding.Lock()
	defer o.adding.Unlock()
	stem := e.stem()
	size := e.Size()
	if err := o.admit(e, size); err != nil {
		return err
	}
	name := queueName(e.Sample.Counter)
	if err := o.replace(name, stem, e.RawVector); err != nil {
		return fmt.Errorf("store sample %d: %w", e.Sample.Counter, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[e.Sample.Counter] = size
	o.bytes += size
	o.head, o.headStem = headOf(e), stem
	return nil
}

func (o *Outbox) admit(e *Entry, size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := e.Sample
	switch {
	case o.head.Counter != 0 && (s.Counter != o.head.Counter+1 || s.Previous != o.head.Digest):
		return fmt.Errorf("sample %d after %s does not continue the chain at %d, %s",
			s.Counter, s.Previous.Short(), o.head.Counter, o.head.Digest.Short())
	case o.bytes+size > o.maxBytes:
		return fmt.Errorf("%w: it holds %d bytes, %d more exceed the limit of %d", ErrFull, o.bytes, size, o.maxBytes)
	}
	return e.checkRaw()
}

const temporary = ".tmp"

// replace writes a file durably under its final name. After an error the new
// content may be there all the same.
func (o *Outbox) replace(name string, parts ...[]byte) error {
	if err := o.files.Write(name+temporary, parts...); err != nil {
		// Best effort: what stays is removed at the next start.
		return errors.Join(err, ignoreNotExist(o.files.Remove(name+temporary)))
	}
	if err := o.files.Rename(name+temporary, name); err != nil {
		return err
	}
	return o.files.SyncDir(dirOf(name))
}

func dirOf(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return "."
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
