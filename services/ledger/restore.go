package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Restore makes a replica's data directory out of its backup, without the
// ordering log, which the others give again. The backup stays as it is, and
// nothing that stands is overwritten. The replica that starts on it has an old
// disk and knows it: it signs nothing up to the heights that it may have signed
// (rule C7). All but this replica must be up, because it has forgotten for whom
// it voted.
//
// networkID must be the backup's; the backup must be of this very replica, or of
// a directory, which says only its lock's owner by its cosignature.
func Restore(c Config, backup string, networkID digest.Digest) (*Backup, error) {
	held, err := HeldBackup(backup)
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, fmt.Errorf("%s holds no backup: it has no %s", backup, backupManifest)
	}
	if held.NetworkID != networkID.String() {
		return nil, fmt.Errorf("the backup is of network %s, want %s", held.NetworkID, networkID)
	}
	if held.NodeID != "" && held.NodeID != c.NodeID {
		return nil, fmt.Errorf("the backup is of replica %q, the configuration is of %q: lock and cosignatures in it are the other one's", held.NodeID, c.NodeID)
	}
	for _, path := range []string{c.storeDir(), c.raftDir()} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s; move it away and keep it", ErrInitialised, path)
		}
	}
	making := filepath.Join(c.DataDir, "store.restoring")
	if err := os.RemoveAll(making); err != nil { // what an interrupted restoration left
		return nil, err
	}
	if err := os.MkdirAll(making, 0o700); err != nil {
		return nil, err
	}
	if err := os.CopyFS(making, os.DirFS(filepath.Join(backup, "store"))); err != nil {
		return nil, err
	}
	if err := c.detach(making); err != nil {
		return nil, asReason(err)
	}
	if err := os.Rename(making, c.storeDir()); err != nil {
		return nil, err
	}
	return held, durable.SyncDir(c.DataDir)
}

// detach makes a copied store one without an ordering log.
func (c *Config) detach(dir string) (err error) {
	store, err := storage.Open(dir, storage.Options{Holder: c.NodeID})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.ownsLock(store); err != nil {
		return err
	}
	head, ok := store.Head()
	if !ok {
		return errors.New("the backup has no block")
	}
	if applied := store.AppliedIndex(); applied > 0 {
		if err := fsm.NoteRestored(c.DataDir, head, applied); err != nil {
			return err
		}
	}
	return store.ForgetApplied()
}

// ownsLock checks that the lock in a store was signed by this replica.
func (c *Config) ownsLock(store *storage.Store) error {
	lock := store.Lock()
	if lock.IsZero() {
		return nil
	}
	config, err := state.GetConfig(store)
	if err != nil {
		return err
	}
	own, err := fsm.CosignatureOf(store)
	if err != nil || own == nil {
		return err
	}
	if want := state.CosignerName(config.Origin(), c.NodeID); own.Cosignature.Name != want {
		return fmt.Errorf("the backup's newest cosignature is of %s, this replica is %s: never start one replica on another's disk", own.Cosignature.Name, want)
	}
	return nil
}
