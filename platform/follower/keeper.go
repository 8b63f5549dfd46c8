package follower

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/platform/durable"
)

const (
	// keepEvery is how many blocks a crash may have a follower read again: about
	// two seconds of replaying.
	keepEvery = 4096
	// keepAtMost spares the disk while a long ledger is read for the first time.
	keepAtMost = 30 * time.Second
	// maxKeptBytes is the largest file that is read: some hundred bytes for each
	// administrative statement, and 1.4 MB of block references.
	maxKeptBytes = 1 << 30
)

// keeper keeps the verified state in a file, so that the next start goes on from
// there. Nothing waits for it but the end of Run: a disk that fails or hangs
// costs the next start time, and this process nothing.
type keeper struct {
	path      string // "" keeps nothing
	networkID digest.Digest
	log       *slog.Logger
	every     uint64        // keepEvery but in tests
	atMost    time.Duration // keepAtMost but in tests
	write     func(path string, content []byte, mode fs.FileMode) error

	started atomic.Uint64 // height that Run went on from, plus 1; 0 is the genesis
	height  atomic.Uint64 // that is kept, plus 1; 0 for none

	saving sync.WaitGroup
	busy   atomic.Bool
	last   time.Time // owned by Run's goroutine
}

func newKeeper(path string, networkID digest.Digest, log *slog.Logger) *keeper {
	return &keeper{path: path, networkID: networkID, log: log, every: keepEvery, atMost: keepAtMost, write: durable.WriteFile}
}

// load puts a chain where the kept state ends. Whatever is wrong with the file is
// said, and the chain begins at the genesis block: nothing of it is used then.
func (k *keeper) load(ctx context.Context, c *chain) {
	if k.path == "" {
		return
	}
	if err := durable.Sweep(k.path); err != nil {
		k.log.WarnContext(ctx, "what an interrupted write left beside the kept state of the ledger stays there", "error", err)
	}
	s, tree, err := k.read(c.verifier)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.log.InfoContext(ctx, "no state of the ledger is kept yet; it is read from its genesis block", "file", k.path)
	case err != nil:
		k.log.WarnContext(ctx, "the kept state of the ledger is not used; the ledger is read from its genesis block", "file", k.path, "error", err)
	default:
		c.certified, c.tree = s, tree
		k.height.Store(s.head.Height + 1)
		k.started.Store(s.head.Height + 1)
		k.log.InfoContext(ctx, "the ledger is followed from the kept state on", "file", k.path, "height", s.head.Height, "root", s.head.Root.String())
	}
}

func (k *keeper) read(verifier signature.Verifier) (*Snapshot, *tlog.Range, error) {
	info, err := os.Stat(k.path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxKeptBytes {
		return nil, nil, fmt.Errorf("it has %d bytes, at most %d are read", info.Size(), maxKeptBytes)
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return nil, nil, err
	}
	return decode(b, k.networkID, verifier)
}

// offer keeps what a chain has certified if enough came since.
func (k *keeper) offer(ctx context.Context, c *chain) {
	if k.path == "" || c.certified.head.Height+1 < k.height.Load()+k.every || time.Since(k.last) < k.atMost || k.busy.Swap(true) {
		return
	}
	k.last = time.Now()
	s, tree := c.certified, c.tree.Clone()
	k.saving.Go(func() {
		defer k.busy.Store(false)
		k.save(ctx, s, tree)
	})
}

// finish keeps the last of it.
func (k *keeper) finish(ctx context.Context, c *chain) {
	k.saving.Wait()
	if k.path != "" && c.certified != nil && c.certified.head.Height+1 > k.height.Load() {
		k.save(context.WithoutCancel(ctx), c.certified, c.tree)
	}
}

func (k *keeper) save(ctx context.Context, s *Snapshot, tree *tlog.Range) {
	if err := k.write(k.path, encode(k.networkID, s, tree), 0o600); err != nil {
		k.log.WarnContext(ctx, "the state of the ledger is not kept; the next start reads more of the ledger", "file", k.path, "height", s.head.Height, "error", err)
		return
	}
	k.height.Store(s.head.Height + 1)
	k.log.DebugContext(ctx, "the state of the ledger is kept", "file", k.path, "height", s.head.Height)
}
