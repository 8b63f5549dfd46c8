package certify

import (
	"context"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// keepInterval is how long certificates stay in memory only. A crash loses
// those; a later certificate then covers their blocks.
const keepInterval = 250 * time.Millisecond

// Archive keeps one certificate for each height that got one, the first, so
// that a receipt asked for twice is the same. It is safe for concurrent use.
type Archive struct {
	store *storage.Store

	mu  sync.Mutex
	new []storage.Certificate // ascending, not yet on disk
}

// NewArchive continues the store's.
func NewArchive(store *storage.Store) *Archive { return &Archive{store: store} }

// Keep takes a certificate; it never blocks on the disk.
func (a *Archive) Keep(c Certified) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.new = append(a.new, storage.Certificate{Height: c.Block.Height, Note: c.Text})
}

// Run writes certificates to disk in batches until ctx ends.
func (a *Archive) Run(ctx context.Context) error {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := a.flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return a.flush()
		}
	}
}

func (a *Archive) flush() error {
	a.mu.Lock()
	batch := a.new
	a.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if err := fault.Around(fault.Certify, func() error { return a.store.PutCertificates(batch) }); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.new = append([]storage.Certificate(nil), a.new[len(batch):]...)
	return nil
}

// From is the certificate of the lowest height at or above the given one.
func (a *Archive) From(height uint64) (storage.Certificate, bool, error) {
	// Memory first under the lock: what leaves memory is on disk by then.
	a.mu.Lock()
	var found *storage.Certificate
	for i := range a.new {
		if a.new[i].Height >= height {
			found = &a.new[i]
			break
		}
	}
	a.mu.Unlock()
	c, ok, err := a.store.CertificateFrom(height)
	if err == nil && ok && (found == nil || c.Height <= found.Height) {
		return c, true, nil
	}
	if found != nil {
		return *found, true, nil
	}
	return c, ok, err
}
