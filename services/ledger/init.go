package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// ErrInitialised is Init's answer for a replica that exists.
var ErrInitialised = errors.New("the replica is initialised already")

// Init begins a replica of the network that the genesis file founds: block 0,
// cosigned, and the ordering engine's first members. It is the only way to
// begin one, and never touches one that exists.
//
// A replica that is not of the genesis configuration signs nothing and knows no
// members: it waits until the others add it (rule C6).
func Init(c Config, log *slog.Logger) error { return initialise(c, time.Now, log) }

func initialise(c Config, clock func() time.Time, log *slog.Logger) error {
	return begin(c, true, clock, log)
}

// begin makes a replica's directory from the genesis file. A founder that the
// genesis configuration names cosigns its block and knows the first members.
func begin(c Config, founder bool, clock func() time.Time, log *slog.Logger) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, err := os.Stat(c.storeDir()); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrInitialised, c.storeDir())
	}
	genesis, err := readGenesis(c.Genesis)
	if err != nil {
		return err
	}
	block, err := fsm.GenesisBlock(genesis)
	if err != nil {
		return err
	}
	store, err := storage.Open(c.storeDir(), storage.Options{Holder: c.NodeID})
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Error("closing the new store", "error", err)
		}
	}()
	pending := store.Pending()
	if err := pending.Add(block); err != nil {
		return err
	}
	config, err := state.GetConfig(pending)
	if err != nil {
		return err
	}
	if founder && config.Replica(c.NodeID) != nil {
		signer, err := newSigner(&c, config.Origin(), clock, storage.Lock{})
		if err != nil {
			return err
		}
		signer.SignFrom(0) // there is no past yet (rule C7)
		signed, err := signer.Sign(block.Ref, nil)
		if err != nil {
			return err
		}
		block.Lock, block.Cosignature = signer.Lock(), fsm.Lines(signed)
		if err := raft.Bootstrap(c.raftDir(), members(config), log); err != nil {
			return err
		}
	}
	return store.Commit(storage.Batch{Blocks: []storage.Block{block}})
}

// members are a configuration's replicas, as the ordering engine lists them.
func members(config *state.Config) []ordering.Member {
	list := make([]ordering.Member, 0, len(config.Message.GetReplicas()))
	for _, r := range config.Message.GetReplicas() {
		list = append(list, ordering.Member{ID: r.GetNodeId(), Voter: true})
	}
	return list
}

// NetworkOf is the id of the network that a genesis file founds, after the
// transition's own checks.
func NetworkOf(genesisFile string) (digest.Digest, error) {
	genesis, err := readGenesis(genesisFile)
	if err != nil {
		return digest.Zero, err
	}
	block, err := fsm.GenesisBlock(genesis)
	if err != nil {
		return digest.Zero, fmt.Errorf("%s: %w", genesisFile, err)
	}
	for _, w := range block.Writes {
		if string(w.Key) == state.KeyNetwork {
			return digest.FromBytes(w.Value)
		}
	}
	return digest.Zero, fmt.Errorf("%s founds no network", genesisFile)
}

func readGenesis(path string) (*recordv1.Genesis, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	genesis := new(recordv1.Genesis)
	if err := record.Decode(b, 16<<20, genesis); err != nil {
		return nil, fmt.Errorf("genesis %s: %w", path, err)
	}
	return genesis, nil
}

func newSigner(c *Config, origin string, clock func() time.Time, lock storage.Lock) (*certify.Signer, error) {
	cosigner, err := identity.ReadKey(c.CosignerKey)
	if err != nil {
		return nil, err
	}
	log, err := identity.ReadKey(c.LogKey)
	if err != nil {
		return nil, err
	}
	return certify.NewSigner(origin, state.CosignerName(origin, c.NodeID), cosigner, log, clock, lock), nil
}
