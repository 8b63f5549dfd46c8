package evidence

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

const (
	// maxUploads bounds the pieces that are taken at a time; memory for each is a chunk.
	maxUploads = 16
	retryAfter = time.Second
	// MaxPurpose bounds the words that say why a piece is read, in bytes.
	MaxPurpose = 256
)

// Ledger is the certified ledger, as the keeper sees it.
type Ledger interface {
	Snapshot() (*follower.Snapshot, error)
	// Wait returns the first snapshot at or above a height.
	Wait(ctx context.Context, height uint64) (*follower.Snapshot, error)
	// Records visits every leaf up to a snapshot's head; what was visited counts only
	// when it returns nil.
	Records(ctx context.Context, s *follower.Snapshot, visit func(leaf []byte) error) error
}

// Recorder records a report; Record returns when it is certified, with its place in the log.
type Recorder interface {
	Record(ctx context.Context, report *recordv1.EventReport) (index uint64, err error)
}

// Keeper holds the store to the ledger's rules. It is safe for concurrent use.
type Keeper struct {
	nodeID   string
	store    *Store
	ledger   Ledger
	recorder Recorder
	limit    int64 // bytes of a piece
	uploads  atomic.Int64
	now      func() time.Time
	log      *slog.Logger

	collected, collectedBytes atomic.Uint64

	mu        sync.Mutex                  // guards the rest, and a removal against an announcement
	named     map[digest.Digest]bool      // kept pieces that a record is known to name
	announced map[digest.Digest]time.Time // when a meter last announced a piece that was kept before
}

// NewKeeper makes a keeper. limit bounds a piece, in bytes; 0 is the format's bound.
func NewKeeper(nodeID string, store *Store, ledger Ledger, recorder Recorder, limit int64, log *slog.Logger) *Keeper {
	if limit <= 0 || limit > sample.MaxEvidenceBytes {
		limit = sample.MaxEvidenceBytes
	}
	return &Keeper{nodeID: nodeID, store: store, ledger: ledger, recorder: recorder, limit: limit, now: time.Now, log: log,
		named: make(map[digest.Digest]bool), announced: make(map[digest.Digest]time.Time)}
}

// Put keeps a piece, unless it is kept already: then body is not read. Errors are
// *reason.Error (TooLarge, EvidenceErased, EvidenceUnreadable, DigestMismatch,
// Overloaded), body's, or the store's. After an error nothing of it is kept.
func (k *Keeper) Put(ctx context.Context, piece digest.Digest, size uint64, body io.Reader) (keptBefore bool, err error) {
	if size <= uint64(evidence.HeaderBytes) || size > uint64(k.limit) {
		return false, reason.New(reason.TooLarge, "evidence of %d bytes, this store takes %d to %d", size, evidence.HeaderBytes+1, k.limit)
	}
	if k.uploads.Add(1) > maxUploads {
		k.uploads.Add(-1)
		return false, rpcerror.With(reason.New(reason.Overloaded, "%d pieces of evidence are on their way already", maxUploads), rpcerror.RetryAfter(retryAfter))
	}
	defer k.uploads.Add(-1)
	snapshot, err := k.ledger.Snapshot()
	if err != nil {
		return false, err
	}
	switch kept, err := k.announce(ctx, piece); {
	case err != nil:
		return false, err
	case kept:
		return true, k.notErased(ctx, snapshot, piece)
	}
	head := make([]byte, evidence.HeaderBytes)
	if n, err := io.ReadFull(body, head); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, reason.New(reason.DigestMismatch, "%d bytes came, %d were announced", n, size)
	} else if err != nil {
		return false, err
	}
	recipient, err := evidence.Recipient(head)
	if err != nil {
		return false, err
	}
	if err := erasedFor(snapshot, piece, recipient); err != nil {
		return false, err
	}
	if !slices.ContainsFunc(snapshot.Config().Message.GetOrganisations(), func(o *recordv1.Organisation) bool {
		return bytes.Equal(o.GetEvidenceKey(), recipient)
	}) {
		return false, reason.New(reason.EvidenceUnreadable, "sealed to %x.., which is no evidence key of the network", recipient[:8])
	}
	if err := k.store.Put(ctx, piece, int64(size), io.MultiReader(bytes.NewReader(head), body)); err != nil {
		return false, err
	}
	return false, k.dropIfErased(ctx, piece, recipient)
}

// dropIfErased closes the gap between the look at the ledger and the last byte.
func (k *Keeper) dropIfErased(ctx context.Context, piece digest.Digest, recipient []byte) error {
	snapshot, err := k.ledger.Snapshot()
	if err != nil {
		return err
	}
	if err := erasedFor(snapshot, piece, recipient); err != nil {
		return errors.Join(err, k.store.Erase(ctx, piece))
	}
	return nil
}

// Get opens a piece for an authority's node, once the record of this reading is
// certified; index is its place in the log. Errors are *reason.Error
// (PermissionDenied, Malformed, TooLarge, EvidenceErased, NotFound, DataLoss), the
// ledger's, or the store's.
func (k *Keeper) Get(ctx context.Context, caller identity.Peer, piece digest.Digest, purpose string) (_ io.ReadCloser, index uint64, err error) {
	snapshot, err := k.ledger.Snapshot()
	if err != nil {
		return nil, 0, err
	}
	switch config := snapshot.Config(); {
	case caller.Role != identity.RoleAuthority || !config.ReadsEvidence(caller.Organisation):
		return nil, 0, reason.New(reason.PermissionDenied, "evidence is for authorities with an evidence key, %s of %s is %s", caller.ID, caller.Organisation, caller.Role)
	case strings.TrimSpace(purpose) == "":
		return nil, 0, reason.New(reason.Malformed, "a reading has a purpose, which goes on the ledger")
	case len(purpose) > MaxPurpose:
		return nil, 0, reason.New(reason.TooLarge, "purpose of %d bytes, at most %d", len(purpose), MaxPurpose)
	}
	if err := k.notErased(ctx, snapshot, piece); err != nil {
		return nil, 0, err
	}
	body, err := k.store.Read(ctx, piece)
	if err != nil {
		return nil, 0, err
	}
	index, err = k.recorder.Record(ctx, &recordv1.EventReport{
		NetworkId: snapshot.Config().NetworkID.Bytes(), Reporter: k.nodeID, Kind: recordv1.EventKind_EVENT_KIND_EVIDENCE_READ,
		Subject: record.SubjectEvidence(piece),
		// The time makes each reading an event of its own.
		Detail: caller.ID + " of " + caller.Organisation + " at " + k.now().UTC().Format(time.RFC3339Nano) + ": " + purpose,
	})
	if err != nil {
		return nil, 0, errors.Join(err, body.Close())
	}
	return body, index, nil
}

// Kept reports whether a piece is here; erased, that the ledger says it must not
// be. Of a piece that is not here nobody knows to whom it was sealed: any order
// counts then, and the ledger tells whose it was.
func (k *Keeper) Kept(ctx context.Context, piece digest.Digest) (kept, erased bool, err error) {
	snapshot, err := k.ledger.Snapshot()
	if err != nil {
		return false, false, err
	}
	switch err = k.notErased(ctx, snapshot, piece); {
	case reason.Of(err) == reason.EvidenceErased:
		return false, true, nil
	case err != nil:
		return false, false, err
	}
	kept, err = k.store.Has(ctx, piece)
	return kept, false, err
}

// Run removes what the ledger orders erased, as the orders are certified, until
// ctx ends. One that fails is tried again with the next block.
func (k *Keeper) Run(ctx context.Context) error {
	done := make(map[string]int) // orders of a piece that were obeyed
	for height := uint64(0); ; {
		snapshot, err := k.ledger.Wait(ctx, height)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		height = snapshot.Head().Height + 1
		snapshot.Keys(state.PrefixEvidence, func(key string) {
			piece, err := digest.Parse(strings.TrimPrefix(key, state.PrefixEvidence))
			if err != nil {
				return
			}
			orders, err := state.GetErasedEvidence(snapshot, piece)
			if n := len(orders.GetKeys()); err == nil && done[key] < n {
				if err = k.obey(ctx, snapshot, piece); err == nil {
					done[key] = n
				}
			}
			if err != nil {
				k.log.ErrorContext(ctx, "evidence that was ordered erased is not removed yet", "evidence", piece, "error", err)
			}
		})
	}
}

// obey removes a piece if the orders on it are of whom it is sealed to.
func (k *Keeper) obey(ctx context.Context, snapshot *follower.Snapshot, piece digest.Digest) error {
	if err := k.notErased(ctx, snapshot, piece); reason.Of(err) != reason.EvidenceErased {
		return err
	}
	return k.store.Erase(ctx, piece)
}

// notErased refuses a piece whose erasure was ordered by whom it is sealed to; of
// one that is not here, by anybody.
func (k *Keeper) notErased(ctx context.Context, snapshot *follower.Snapshot, piece digest.Digest) error {
	orders, err := state.GetErasedEvidence(snapshot, piece)
	if orders == nil || err != nil {
		return err
	}
	recipient, err := k.store.Recipient(ctx, piece)
	switch reason.Of(err) {
	case reason.NotFound:
		return erased(piece, orders)
	case reason.EvidenceUnreadable: // damaged: whoever reads it is told
		return nil
	}
	if err != nil {
		return err
	}
	return erasedFor(snapshot, piece, recipient)
}

// erasedFor refuses a piece whose erasure was ordered by the owner of the key.
func erasedFor(snapshot *follower.Snapshot, piece digest.Digest, recipient []byte) error {
	orders, err := state.GetErasedEvidence(snapshot, piece)
	if err != nil {
		return err
	}
	if !state.Erases(orders, recipient) {
		return nil
	}
	return erased(piece, orders)
}

func erased(piece digest.Digest, orders *statev1.ErasedEvidence) error {
	return reason.New(reason.EvidenceErased, "evidence %s was erased by order, the newest in leaf %d", piece.Short(), orders.GetLast().GetIndex())
}
