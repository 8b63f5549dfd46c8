package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// RecoverAnew is Recover for a surviving replica whose newest block a recovery does
// not continue: it cosigned another history, or lacks blocks (rule C8). What it
// holds is put aside, under names that end in .before-recovery, its new keys come in
// the place of the old, and it begins as a replica that joins: started, it fetches
// the ledger from the others. Nothing is removed. Run again after a crash it goes on.
// It refuses a recovery that lacks a signature, by the configuration that this
// replica knows, and a replica that Recover continues.
func RecoverAnew(c Config, signed *envelope.Envelope, log *slog.Logger) error {
	message, err := recoveryOf(signed)
	if err != nil {
		return err
	}
	aside := c.storeDir() + asideSuffix
	if _, err := os.Stat(aside); errors.Is(err, fs.ErrNotExist) {
		if err := mayBeginAnew(&c, signed, message); err != nil {
			return err
		}
		// The store goes last: as long as it is here, all of this is done again.
		for _, path := range []string{c.raftDir(), fsm.RestoringFile(c.DataDir), c.storeDir()} {
			if err := os.Rename(path, path+asideSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := durable.SyncDir(filepath.Clean(c.DataDir)); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := beginAgain(&c, log); err != nil {
		return err
	}
	return errors.Join(replaceKey(c.CosignerKey), replaceKey(c.LogKey))
}

// beginAgain begins the directory of a replica that joins, also after an attempt
// that was cut short before there was a block.
func beginAgain(c *Config, log *slog.Logger) error {
	err := begin(*c, false, time.Now, log)
	if !errors.Is(err, ErrInitialised) {
		return err
	}
	store, err := storage.Open(c.storeDir(), storage.Options{Holder: c.NodeID})
	if err != nil {
		return asReason(err)
	}
	_, begun := store.Head()
	if err := store.Close(); err != nil || begun {
		return err
	}
	if err := os.RemoveAll(c.storeDir()); err != nil {
		return err
	}
	return begin(*c, false, time.Now, log)
}

// mayBeginAnew refuses what RecoverAnew must not do.
func mayBeginAnew(c *Config, signed *envelope.Envelope, message *recordv1.NetworkConfig) error {
	// For writing, so that no replica runs on it.
	store, err := storage.Open(c.storeDir(), storage.Options{Holder: c.NodeID})
	if err != nil {
		return asReason(err)
	}
	defer store.Close() //nolint:errcheck // nothing is written.
	config, err := state.GetConfig(store)
	if err != nil {
		return err
	}
	head, ok := store.Head()
	if config == nil || !ok {
		return fmt.Errorf("%s holds no ledger", c.storeDir())
	}
	recovery := message.GetRecovery()
	switch {
	case config.Digest == signed.Digest():
		return fmt.Errorf("this replica is continued already: block %d is the recovery", config.Height)
	case head.Height == recovery.GetHeight() && bytes.Equal(head.Header[:], recovery.GetHeader()):
		return fmt.Errorf("this replica's newest block, %d, is the one that is continued: \"lacre recovery apply\" continues it, without --anew", head.Height)
	case !bytes.Equal(message.GetHeader().GetPredecessor(), config.Digest[:]):
		return fmt.Errorf("the recovery follows configuration %x, this replica knows %s", message.GetHeader().GetPredecessor(), config.Digest)
	}
	network, err := NetworkOf(c.Genesis)
	if err != nil {
		return err
	}
	if got, err := digest.FromBytes(message.GetHeader().GetNetworkId()); err != nil || got != network {
		return fmt.Errorf("the recovery is of network %x, %s founds %s", message.GetHeader().GetNetworkId(), c.Genesis, network)
	}
	parties, err := state.Parties(config, signed)
	if err != nil {
		return err
	}
	for _, p := range parties {
		if p.Missing > 0 {
			return fmt.Errorf("%s: %d signed, %d missing", p.Who, p.Signed, p.Missing)
		}
	}
	return checkNextKeys(c, &state.Config{Message: message})
}
