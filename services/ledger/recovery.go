package ledger

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// nextKey is the file of a key that a recovery puts in the place of another.
func nextKey(path string) string { return strings.TrimSuffix(path, ".pem") + ".next.pem" }

// asideSuffix marks what a recovery replaced; it is evidence and never removed.
const asideSuffix = ".before-recovery"

// LockOf is what a stopped replica says of itself in a recovery (rule C8), signed
// with its cosigner key, and its new keys: they are made beside the present ones,
// in files ending in .next.pem, and are the same when it is asked again. The
// directory is not changed.
func LockOf(c Config) (*envelope.Envelope, error) {
	store, err := storage.OpenReadOnly(c.storeDir(), storage.Options{Holder: c.NodeID})
	if err != nil {
		return nil, fmt.Errorf("%s (is the replica stopped?): %w", c.storeDir(), asReason(err))
	}
	defer store.Close() //nolint:errcheck // only read from.
	config, err := state.GetConfig(store)
	if err != nil {
		return nil, err
	}
	head, ok := store.Head()
	if config == nil || !ok {
		return nil, fmt.Errorf("%s holds no ledger", c.storeDir())
	}
	own, err := identity.ReadKey(c.CosignerKey)
	if err != nil {
		return nil, err
	}
	replica := config.Replica(c.NodeID)
	if replica == nil || !bytes.Equal(replica.GetCosignerKey(), tagged(own)) {
		return nil, fmt.Errorf("cosigner_key %s is not that of replica %s in configuration %s", c.CosignerKey, c.NodeID, config.Digest.Short())
	}
	lock := &recordv1.RecoveryLock{
		NetworkId: config.NetworkID.Bytes(), Config: config.Digest.Bytes(), NodeId: c.NodeID,
		Head: recoveryPoint(head), AppliedIndex: store.AppliedIndex(),
	}
	if l := store.Lock(); !l.IsZero() {
		block, _, err := store.Block(l.Height)
		if err != nil {
			return nil, asReason(err)
		}
		lock.Locked = recoveryPoint(block)
	}
	if newest, ok, err := store.NewestCertificate(); err != nil {
		return nil, asReason(err)
	} else if ok {
		block, _, err := store.Block(newest.Height)
		if err != nil {
			return nil, asReason(err)
		}
		lock.Certified = recoveryPoint(block)
	}
	for path, into := range map[string]*[]byte{nextKey(c.CosignerKey): &lock.CosignerKey, nextKey(c.LogKey): &lock.LogKey} {
		key, err := identity.ReadKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			if _, key, err = ed25519.GenerateKey(nil); err == nil {
				err = identity.WriteKey(path, key)
			}
		}
		if err != nil {
			return nil, err
		}
		*into = tagged(key)
	}
	payload, err := wire.Encode(lock)
	if err != nil {
		return nil, err
	}
	return record.SignStatement(record.TypeRecoveryLock, payload, own)
}

func tagged(key ed25519.PrivateKey) []byte {
	k, err := signature.KeyOf(signature.Ed25519, key.Public())
	if err != nil {
		return nil // equals no key of a configuration
	}
	return k.Bytes()
}

func recoveryPoint(b state.BlockRef) *recordv1.RecoveryPoint {
	return &recordv1.RecoveryPoint{Height: b.Height, Header: b.Header.Bytes(), Size: b.Size, Root: b.Root.Bytes()}
}

// Recovered is what Recover did.
type Recovered struct {
	Height uint64 // of the recovery's block
	Done   bool   // it was there already
}

// Recover continues a stopped replica by a recovery that a majority of the root
// keys has signed (rule C8): it makes the recovery's block on top of the block
// that is continued, cosigned with the replica's new key, begins the ordering
// engine anew with the new members, and puts the new keys in the place of the old.
// What is replaced stays beside it. Run again after a crash it goes on. A replica
// that does not hold just the continued block is refused and not changed.
func Recover(c Config, signed *envelope.Envelope, log *slog.Logger) (Recovered, error) {
	return recoverBy(c, signed, time.Now, log)
}

// recoveryOf is the configuration that a recovery is.
func recoveryOf(signed *envelope.Envelope) (*recordv1.NetworkConfig, error) {
	if signed.PayloadType != record.TypeNetworkConfig {
		return nil, fmt.Errorf("it is of type %q, a recovery is of %q", signed.PayloadType, record.TypeNetworkConfig)
	}
	message := new(recordv1.NetworkConfig)
	if err := record.Decode(signed.Payload, record.MaxBytes, message); err != nil {
		return nil, err
	}
	if message.GetRecovery() == nil {
		return nil, errors.New("it is an ordinary configuration, which \"lacre network change submit\" hands in: its field recovery is empty")
	}
	return message, nil
}

func recoverBy(c Config, signed *envelope.Envelope, clock func() time.Time, log *slog.Logger) (r Recovered, err error) {
	message, err := recoveryOf(signed)
	if err != nil {
		return r, err
	}
	leaf, err := record.FromEnvelope(signed)
	if err != nil {
		return r, err
	}
	store, err := storage.Open(c.storeDir(), storage.Options{Holder: c.NodeID})
	if err != nil {
		return r, asReason(err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	head, _ := store.Head()
	config, err := state.GetConfig(store)
	if err != nil {
		return r, err
	}
	r.Height = message.GetRecovery().GetHeight() + 1
	if config.Digest != signed.Digest() {
		block, err := recoveryBlock(&c, store, head, leaf, message, clock)
		if err != nil {
			return r, err
		}
		if err := store.Commit(storage.Batch{Blocks: []storage.Block{*block}, AppliedIndex: message.GetRecovery().GetOrderingIndex()}); err != nil {
			return r, err
		}
		head = block.Ref
	} else if head.Height != r.Height {
		r.Done = true
		return r, nil // the replica went on since
	}
	members := members(&state.Config{Message: message})
	if err := beginOrdering(&c, message.GetRecovery().GetOrderingIndex(), members, fsm.Pointer(head, message.GetRecovery().GetOrderingIndex()), log); err != nil {
		return r, err
	}
	return r, errors.Join(replaceKey(c.CosignerKey), replaceKey(c.LogKey))
}

// recoveryBlock is the block that a recovery makes on this replica's head.
func recoveryBlock(c *Config, store *storage.Store, head state.BlockRef, leaf []byte, message *recordv1.NetworkConfig, clock func() time.Time) (*storage.Block, error) {
	recovery := message.GetRecovery()
	if held, ok, err := store.Block(recovery.GetHeight()); err != nil {
		return nil, asReason(err)
	} else if !ok || !bytes.Equal(held.Header[:], recovery.GetHeader()) || head.Height != recovery.GetHeight() {
		return nil, fmt.Errorf("the recovery continues block %d, header %x; this replica's newest is block %d, header %s: it is not continued. \"lacre recovery apply --anew\" puts what is in %s aside, it is evidence, and lets the replica join anew with its new keys",
			recovery.GetHeight(), recovery.GetHeader(), head.Height, head.Header, c.DataDir)
	}
	block, err := state.BeginRecovery(store, head, state.Options{})
	if err != nil {
		return nil, err
	}
	outcomes, err := block.Submit(state.ParseSubmission([][]byte{leaf}, nil))
	if err != nil {
		return nil, err
	}
	if o := outcomes[0]; !o.Accepted {
		return nil, &reason.Error{Reason: o.Reason, Detail: o.Detail}
	}
	sealed, err := block.Seal()
	if err != nil {
		return nil, err
	}
	tree, err := store.Range()
	if err != nil {
		return nil, err
	}
	nodes := storage.Extend(tree, sealed.LeafHashes)
	made := &storage.Block{Ref: sealed.Complete(tree.Root()), Leaves: sealed.Records, LeafHashes: sealed.LeafHashes, Nodes: nodes, Writes: sealed.Writes}
	after := state.Config{Message: message}
	if err := checkNextKeys(c, &after); err != nil {
		return nil, err
	}
	next := *c
	next.CosignerKey, next.LogKey = nextKey(c.CosignerKey), nextKey(c.LogKey)
	config, err := state.GetConfig(store)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(&next, config.Origin(), clock, storage.Lock{})
	if err != nil {
		return nil, err
	}
	signer.SignFrom(0) // the new key has no past (rule C7)
	cosigned, err := signer.Sign(made.Ref, nil)
	if err != nil {
		return nil, err
	}
	made.Lock, made.Cosignature = signer.Lock(), fsm.Lines(cosigned)
	return made, nil
}

// checkNextKeys wants the new keys that lie here to be those that the recovery
// names for this replica.
func checkNextKeys(c *Config, after *state.Config) error {
	own := after.Replica(c.NodeID)
	if own == nil {
		return fmt.Errorf("replica %s is none of the recovery's: it does not go on", c.NodeID)
	}
	for path, want := range map[string][]byte{nextKey(c.CosignerKey): own.GetCosignerKey(), nextKey(c.LogKey): own.GetLogKey()} {
		key, err := identity.ReadKey(path)
		if err != nil {
			return err
		}
		if got := tagged(key); !bytes.Equal(got, want) {
			return fmt.Errorf("%s holds the key %x, the recovery names %x for %s", path, got, want, c.NodeID)
		}
	}
	return nil
}

// beginOrdering puts an engine that begins at an index in the place of the old
// one, which stays beside it.
func beginOrdering(c *Config, index uint64, members []ordering.Member, pointer []byte, log *slog.Logger) error {
	aside := c.raftDir() + asideSuffix
	if _, err := os.Stat(aside); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(c.raftDir(), aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := durable.SyncDir(c.DataDir); err != nil {
			return err
		}
	}
	err := raft.BeginAt(c.raftDir(), index, members, pointer, log)
	if errors.Is(err, raft.ErrNotEmpty) {
		return nil // an earlier attempt came so far
	}
	return err
}

// replaceKey puts the new key in the place of the old one.
func replaceKey(path string) error {
	if _, err := os.Stat(nextKey(path)); errors.Is(err, fs.ErrNotExist) {
		return nil // done before
	}
	if _, err := os.Stat(path + asideSuffix); errors.Is(err, fs.ErrNotExist) {
		if err := os.Link(path, path+asideSuffix); err != nil {
			return err
		}
	}
	return os.Rename(nextKey(path), path)
}

// PlanRecovery says what follows from surviving replicas' locks if the newest
// block of this directory is continued, and that block.
func (a *Archive) PlanRecovery(locks []*envelope.Envelope) (*state.Config, *state.RecoveryPlan, error) {
	config, err := state.GetConfig(a.store)
	if err != nil {
		return nil, nil, asReason(err)
	}
	head, ok := a.store.Head()
	if config == nil || !ok {
		return nil, nil, errors.New("the directory holds no ledger")
	}
	plan, err := state.PlanRecovery(a.store, head, locks, state.Options{})
	return config, plan, asReason(err)
}
