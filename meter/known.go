package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// KnownBlock is a certified block that the meter can name in a header.
type KnownBlock struct {
	Height      uint64        `json:"height"`
	Header      digest.Digest `json:"header"`       // of its header record
	CertifiedAt time.Time     `json:"certified_at"` // median time of the certificate, whole seconds
}

// maxKnown bounds the blocks kept; at one in five seconds, five minutes.
const maxKnown = 64

// known holds certified blocks, so that a sample names the newest that is not
// younger than its capture (rule S2: a sample from before the block that it
// names is back-dated, and refused for ever).
type known struct {
	files outbox.Files
	some  chan struct{} // closed once there is a block

	mu     sync.Mutex // guards the rest
	blocks []KnownBlock
	kept   time.Time // when they were last written
}

const knownName = "known.json"

// loadKnown reads what an earlier run learnt, so that a meter that starts
// without a connection can record. A bad file is no loss: it is learnt again.
func loadKnown(files outbox.Files) (*known, error) {
	k := &known{files: files, some: make(chan struct{})}
	b, err := files.Read(knownName)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("known blocks: %w", err)
	}
	var blocks []KnownBlock
	if json.Unmarshal(b, &blocks) == nil && asKept(blocks) {
		k.blocks = blocks
		close(k.some)
	}
	return k, nil
}

// asKept says whether blocks are such as keep writes: some, not too many, each
// above the one before and certified no earlier. Others would never be replaced.
func asKept(blocks []KnownBlock) bool {
	for i := 1; i < len(blocks); i++ {
		if blocks[i].Height <= blocks[i-1].Height || blocks[i].CertifiedAt.Before(blocks[i-1].CertifiedAt) {
			return false
		}
	}
	return 0 < len(blocks) && len(blocks) <= maxKnown
}

// add takes a newer block; false when it is none. The same height with another
// header is an error: one of two gateways lies.
func (k *known) add(b KnownBlock) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, old := range k.blocks {
		if old.Height == b.Height && old.Header != b.Header {
			return false, fmt.Errorf("head %d has header %s, earlier it had %s", b.Height, b.Header.Short(), old.Header.Short())
		}
	}
	n := len(k.blocks)
	if n > 0 && (b.Height <= k.blocks[n-1].Height || b.CertifiedAt.Before(k.blocks[n-1].CertifiedAt)) {
		return false, nil
	}
	if n == 0 {
		close(k.some)
	}
	k.blocks = append(k.blocks, b)
	if n == maxKnown { // the first stays, for captures that are recorded late
		k.blocks = append(k.blocks[:1], k.blocks[2:]...)
	}
	return true, nil
}

// at is the newest block certified at or before the capture, or else the
// oldest: then the clock is behind, and the ledger will judge it.
func (k *known) at(captured time.Time) (KnownBlock, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.blocks) == 0 {
		return KnownBlock{}, false
	}
	best := k.blocks[0]
	for _, b := range k.blocks[1:] {
		if !b.CertifiedAt.After(captured) {
			best = b
		}
	}
	return best, true
}

// drop forgets a block that the ledger does not know, unless it is the only one.
func (k *known) drop(height uint64, header digest.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, b := range k.blocks {
		if b.Height == height && b.Header == header && len(k.blocks) > 1 {
			k.blocks = append(k.blocks[:i], k.blocks[i+1:]...)
			return
		}
	}
}

// newest is the last one; zero when there is none.
func (k *known) newest() KnownBlock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.blocks) == 0 {
		return KnownBlock{}
	}
	return k.blocks[len(k.blocks)-1]
}

// keep writes the blocks, if the last time is longer ago than every.
func (k *known) keep(every time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.blocks) == 0 || time.Since(k.kept) < every {
		return nil
	}
	b, err := json.Marshal(k.blocks)
	if err != nil {
		return err
	}
	if err := k.files.Write(knownName+".tmp", b); err != nil {
		return fmt.Errorf("known blocks: %w", err)
	}
	if err := k.files.Rename(knownName+".tmp", knownName); err != nil {
		return fmt.Errorf("known blocks: %w", err)
	}
	k.kept = time.Now()
	return nil
}
