package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
)

// Settlement is a verified receipt of one sample of the queue.
type Settlement struct {
	Counter uint64
	Receipt []byte
}

// Refusal is why a sample was permanently refused, as its file says it.
type Refusal struct {
	Counter            uint64 `json:"counter"`
	Sample             string `json:"sample"` // its digest
	Reason             string `json:"reason"`
	Detail             string `json:"detail,omitempty"`
	Endpoint           string `json:"endpoint"` // who said so
	RefusedAtUnixMilli int64  `json:"refused_at_unix_milli"`
}

// Read gives a sample of the queue. One whose file is damaged is moved to
// damaged/, so that it blocks nothing; the error then matches ErrDamaged, and
// the move itself may have failed too (joined).
func (o *Outbox) Read(counter uint64) (*Entry, error) {
	if !o.Has(counter) {
		return nil, fmt.Errorf("%w: counter %d", ErrNotPending, counter)
	}
	b, err := o.files.Read(queueName(counter))
	if errors.Is(err, fs.ErrNotExist) && o.left(counter) {
		return nil, fmt.Errorf("%w: counter %d has left it", ErrNotPending, counter)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read sample %d: %w", counter, err)
	}
	var e *Entry
	if err == nil {
		e, err = parseEntry(b)
	}
	if err == nil && e.Sample.Counter != counter {
		err = fmt.Errorf("the file of counter %d holds %d", counter, e.Sample.Counter)
	}
	if err == nil {
		return e, nil
	}
	return nil, errors.Join(fmt.Errorf("%w: sample %d: %w", ErrDamaged, counter, err), o.setAside(counter))
}

// left finds a sample whose last move out of the queue happened although it was
// reported as failed, and completes the index.
func (o *Outbox) left(counter uint64) bool {
	o.settling.Lock()
	defer o.settling.Unlock()
	if _, err := o.files.Read(ReceiptName(counter)); err == nil {
		o.forget(counter, func() { o.receipts++ })
		return true
	}
	if _, err := o.files.Read(RefusedName(counter)); err == nil {
		o.forget(counter, func() { o.refused++ })
		return true
	}
	return false
}

// Settle stores receipts and lets their samples go; what is not in the queue is
// passed over. After an error, those samples that Has still finds are to be
// sent again: asking again gives the same receipts.
func (o *Outbox) Settle(batch []Settlement) error {
	o.settling.Lock()
	defer o.settling.Unlock()
	batch = slices.DeleteFunc(slices.Clone(batch), func(s Settlement) bool { return !o.Has(s.Counter) })
	for _, s := range batch {
		name := ReceiptName(s.Counter)
		err := o.files.Write(name+temporary, s.Receipt)
		if err == nil {
			err = o.files.Rename(name+temporary, name)
		}
		if err != nil {
			return fmt.Errorf("store receipt of sample %d: %w", s.Counter, err)
		}
	}
	if err := o.files.SyncDir("receipts"); err != nil { // once for the batch
		return fmt.Errorf("store receipts: %w", err)
	}
	for _, s := range batch {
		if err := o.keepHead(s.Counter); err != nil {
			return err
		}
		// Not synced: should the file come back, the sample is only sent again.
		if err := ignoreNotExist(o.files.Remove(queueName(s.Counter))); err != nil {
			return fmt.Errorf("release sample %d: %w", s.Counter, err)
		}
		o.forget(s.Counter, func() { o.receipts++ })
	}
	return nil
}

// Refuse moves a sample to the refused store (rule N2). After an error it is
// still in the queue.
func (o *Outbox) Refuse(r Refusal) error {
	o.settling.Lock()
	defer o.settling.Unlock()
	if !o.Has(r.Counter) {
		return fmt.Errorf("%w: counter %d", ErrNotPending, r.Counter)
	}
	why, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := o.replace(reasonName(r.Counter), append(why, '\n')); err != nil {
		return fmt.Errorf("store refusal of sample %d: %w", r.Counter, err)
	}
	if err := o.keepHead(r.Counter); err != nil {
		return err
	}
	if err := o.move(queueName(r.Counter), RefusedName(r.Counter)); err != nil {
		return fmt.Errorf("move sample %d to the refused: %w", r.Counter, err)
	}
	o.forget(r.Counter, func() { o.refused++ })
	return nil
}

// Retry puts a refused sample back into the queue, for when the cause is gone
// or the gateway lied.
func (o *Outbox) Retry(counter uint64) (Item, error) {
	o.settling.Lock()
	defer o.settling.Unlock()
	b, err := o.files.Read(RefusedName(counter))
	if err != nil {
		return Item{}, fmt.Errorf("refused sample %d: %w", counter, err)
	}
	if err := o.move(RefusedName(counter), queueName(counter)); err != nil {
		return Item{}, fmt.Errorf("queue sample %d again: %w", counter, err)
	}
	// The old reason goes; if it stays, nothing reads it without its sample.
	_ = o.files.Remove(reasonName(counter))
	item := Item{Counter: counter, Size: int64(len(b))}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[counter] = item.Size
	o.bytes += item.Size
	o.refused--
	return item, nil
}

// setAside moves a damaged file out of the way.
func (o *Outbox) setAside(counter uint64) error {
	o.settling.Lock()
	defer o.settling.Unlock()
	if !o.Has(counter) {
		return nil
	}
	if err := o.keepHead(counter); err != nil {
		return err
	}
	if err := ignoreNotExist(o.move(queueName(counter), damagedName(counter))); err != nil {
		return fmt.Errorf("move sample %d to the damaged: %w", counter, err)
	}
	o.forget(counter, func() {})
	return nil
}

// move renames a file and makes it durable in both directories. A rename whose
// reply was lost shows as a missing source and a present target, and is done.
func (o *Outbox) move(from, to string) error {
	if err := o.files.Rename(from, to); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, other := o.files.Read(to); other != nil {
			return err
		}
	}
	return errors.Join(o.files.SyncDir(dirOf(to)), o.files.SyncDir(dirOf(from)))
}

// keepHead makes the chain's newest link durable outside the queue, if this is
// the sample that is about to leave it. The caller holds settling.
func (o *Outbox) keepHead(counter uint64) error {
	o.mu.Lock()
	isHead, stem := o.head.Counter == counter, o.headStem
	o.mu.Unlock()
	if !isHead {
		return nil
	}
	if err := o.replace("head", stem); err != nil {
		return fmt.Errorf("store the chain's head %d: %w", counter, err)
	}
	return nil
}

// Has says whether the sample is in the queue.
func (o *Outbox) Has(counter uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.queue[counter]
	return ok
}

// forget drops a sample from the index and counts where it went.
func (o *Outbox) forget(counter uint64, count func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= o.queue[counter]
	delete(o.queue, counter)
	count()
}

// Receipt is a stored receipt; errors.Is(err, fs.ErrNotExist) when there is none.
func (o *Outbox) Receipt(counter uint64) ([]byte, error) { return o.files.Read(ReceiptName(counter)) }

// Receipts gives the receipts by counter, in order; Size is a receipt's.
func (o *Outbox) Receipts() ([]Item, error) { return o.list("receipts", ".receipt") }

// Refused yields the refused samples in order of counter. A sample whose reason
// cannot be read is yielded with an error.
func (o *Outbox) Refused() iter.Seq2[Refusal, error] {
	return func(yield func(Refusal, error) bool) {
		items, err := o.list("refused", ".sample")
		if err != nil {
			yield(Refusal{}, err)
			return
		}
		for _, item := range items {
			if r, err := o.Refusal(item.Counter); !yield(r, err) {
				return
			}
		}
	}
}

// Refusal is why a sample is in the refused store; errors.Is(err,
// fs.ErrNotExist) when it is not there.
func (o *Outbox) Refusal(counter uint64) (Refusal, error) {
	r := Refusal{Counter: counter}
	b, err := o.files.Read(reasonName(counter))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// RefusedEntry is the refused sample itself.
func (o *Outbox) RefusedEntry(counter uint64) (*Entry, error) {
	b, err := o.files.Read(RefusedName(counter))
	if err != nil {
		return nil, err
	}
	e, err := parseEntry(b)
	if err != nil {
		return nil, fmt.Errorf("%w: refused sample %d: %w", ErrDamaged, counter, err)
	}
	return e, nil
}
