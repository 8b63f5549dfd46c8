// Package certify turns blocks on disk into certificates: it decides when this
// replica may cosign, and collects the cosignatures of all replicas.
//
// Source: architecture, rules C1 to C3 and C7; C2SP tlog-cosignature.
//
// Invariants:
//   - A cosignature is made only through Signer, which checks that the new tree
//     extends the locked one and that heights strictly increase (C1). Whoever
//     calls it commits lock and cosignature in the block's own transaction and
//     only then hands the cosignature on.
//   - A certificate exists for a block only after this replica itself applied
//     that block, and only on the root that it computed (C2).
//   - Nothing is signed before SignFrom: rule C7 is answered first.
//   - Nothing here decides state: time stamps enter the ledger only through the
//     certificate that a proposal carries (C4).
package certify

import (
	"crypto"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Signed is one replica's word on one block.
type Signed struct {
	Height      uint64
	Checkpoint  tlog.Checkpoint
	Log         tlog.LogSignature
	Cosignature tlog.Cosignature
}

// RootAt returns the root that this replica's own tree had at a size, from its
// own compact range. It fails for a size above the tree.
type RootAt func(size uint64) (digest.Digest, error)

// Signer cosigns for one replica. Sign and Lock belong to the apply goroutine;
// Refresh and SignFrom may be called from any.
type Signer struct {
	origin   string
	name     string        // of the replica, on its cosignature lines
	cosigner crypto.Signer // Ed25519
	log      crypto.Signer // Ed25519; carries no trust of its own
	clock    func() time.Time
	first    atomic.Uint64 // signs nothing below this height (C7)
	lock     storage.Lock  // zero before the first cosignature; owned by the apply goroutine
}

// NewSigner continues from the lock on disk. It signs nothing before SignFrom.
func NewSigner(origin, name string, cosigner, log crypto.Signer, clock func() time.Time, lock storage.Lock) *Signer {
	s := &Signer{origin: origin, name: name, cosigner: cosigner, log: log, clock: clock, lock: lock}
	s.first.Store(math.MaxUint64)
	return s
}

// SignFrom is the answer to rule C7: from this height on the replica may sign.
func (s *Signer) SignFrom(height uint64) { s.first.Store(height) }

// Name is the replica's on its cosignature lines.
func (s *Signer) Name() string { return s.name }

// Sign cosigns the block, or returns nil while rule C7 keeps the replica quiet.
// A violation of C1 is DATA_LOSS: this replica's disk and its past disagree.
// After Sign the block must be committed, or nothing ever again.
func (s *Signer) Sign(block state.BlockRef, rootAt RootAt) (*Signed, error) {
	if s.lock.Size > 0 {
		if block.Height <= s.lock.Height || block.Size <= s.lock.Size {
			return nil, reason.New(reason.DataLoss, "asked to cosign block %d of size %d, but block %d of size %d is cosigned already",
				block.Height, block.Size, s.lock.Height, s.lock.Size)
		}
		root, err := rootAt(s.lock.Size)
		if err != nil {
			return nil, fmt.Errorf("root at locked size %d: %w", s.lock.Size, err)
		}
		if root != s.lock.Root {
			return nil, reason.New(reason.DataLoss, "the tree has root %s at size %d, but this replica cosigned %s there",
				root.Short(), s.lock.Size, s.lock.Root.Short())
		}
	}
	if block.Height < s.first.Load() {
		return nil, nil
	}
	signed, err := s.sign(block)
	if err != nil {
		return nil, err
	}
	s.lock = storage.Lock{Height: block.Height, Size: block.Size, Root: block.Root}
	return signed, nil
}

// Refresh cosigns the checkpoint of an earlier Sign again, with the time of
// now. That is no second opinion: checkpoint and root are the same (C2). It
// returns nil while rule C7 keeps the replica quiet.
func (s *Signer) Refresh(earlier Signed) (*Signed, error) {
	if earlier.Height < s.first.Load() {
		return nil, nil
	}
	again := earlier
	var err error
	again.Cosignature, err = tlog.Cosign(s.cosigner, s.name, earlier.Checkpoint, uint64(s.clock().Unix()))
	return &again, err
}

// Lock is the newest tree that was cosigned.
func (s *Signer) Lock() storage.Lock { return s.lock }

func (s *Signer) sign(block state.BlockRef) (*Signed, error) {
	checkpoint := tlog.Checkpoint{Origin: s.origin, Size: block.Size, Root: block.Root}
	log, err := tlog.SignLog(s.log, checkpoint)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of block %d: %w", block.Height, err)
	}
	cosignature, err := tlog.Cosign(s.cosigner, s.name, checkpoint, uint64(s.clock().Unix()))
	if err != nil {
		return nil, fmt.Errorf("cosign block %d: %w", block.Height, err)
	}
	return &Signed{Height: block.Height, Checkpoint: checkpoint, Log: log, Cosignature: cosignature}, nil
}

// Time is the median time of a certificate's text in seconds; 0 if there is none.
func Time(text []byte) uint64 {
	certificate, err := tlog.ParseCertificate(text)
	if err != nil {
		return 0
	}
	return certificate.MedianTime()
}
