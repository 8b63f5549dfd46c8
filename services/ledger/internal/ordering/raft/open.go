package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// ErrNotEmpty is Bootstrap's answer for a directory that has seen an engine.
var ErrNotEmpty = errors.New("the ordering directory is not empty")

// Bootstrap writes the first configuration into an empty or missing directory:
// the members of the genesis document, all with a vote. Each of them does it
// once, with the same members, before its first Open. A replica that joins later
// does not: it opens the empty directory and waits to be added. A crash in the
// middle leaves a directory for which Bootstrap says ErrNotEmpty and which knows
// no members; it holds nothing yet and may be removed.
func Bootstrap(dir string, members []ordering.Member, logger *slog.Logger) (err error) {
	var configuration hraft.Configuration
	for _, m := range members {
		configuration.Servers = append(configuration.Servers, hraft.Server{ID: hraft.ServerID(m.ID), Address: hraft.ServerAddress(m.ID)})
	}
	// Every member must write the same bytes.
	slices.SortFunc(configuration.Servers, func(a, b hraft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })

	log, snapshots, err := openStores(dir, logger)
	if err != nil {
		return fmt.Errorf("bootstrap %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	config := hraft.DefaultConfig()
	config.LocalID = "bootstrap" // checked for presence only
	config.Logger = newLogger(logger)
	err = hraft.BootstrapCluster(config, log, log, snapshots, nil, configuration)
	if errors.Is(err, hraft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap %s: %w", dir, ErrNotEmpty)
	}
	if err != nil {
		return fmt.Errorf("bootstrap %s: %w", dir, err)
	}
	return nil
}

// openStores opens what the engine keeps on disk: the log, with term and vote,
// and the snapshots.
func openStores(dir string, logger *slog.Logger) (sealedLog, *pointerStore, error) {
	logDir := filepath.Join(dir, "log")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return sealedLog{}, nil, err
	}
	snapshots, err := openPointerStore(filepath.Join(dir, "snapshots"))
	if err != nil {
		return sealedLog{}, nil, err
	}
	log, err := openLog(logDir, logger, 0)
	return log, snapshots, err
}

// openLog checks the log in dir and opens it. segmentBytes is the size at which
// a segment is full; 0 means raft-wal's 64 MiB.
func openLog(dir string, logger *slog.Logger, segmentBytes int) (sealedLog, error) {
	if logger == nil {
		logger = slog.Default()
	}
	meta := new(logMeta)
	state, err := meta.Load(dir)
	if err == nil {
		err = checkLog(dir, state, logger)
	}
	if err != nil {
		return sealedLog{}, fmt.Errorf("open the log: %w", err)
	}
	log, err := wal.Open(dir, wal.WithLogger(newLogger(logger)), wal.WithMetaStore(meta), wal.WithSegmentSize(segmentBytes),
		wal.WithSegmentFiler(lightFiler{segment.NewFiler(dir, logFiles())}))
	if err != nil {
		return sealedLog{}, fmt.Errorf("open the log: %w", err)
	}
	return sealedLog{log, dir}, nil
}

// recoverState makes log, snapshots and Applier fit together before the library
// sees them; what cannot come from a crash is DATA_LOSS. The library itself
// would take the newest snapshot's index as applied without asking the Applier
// (rqlite#2747, #2759), panic on a gap, and leave a log that ends below the
// snapshot, to which raft-wal can append nothing.
func recoverState(ctx context.Context, log hraft.LogStore, snapshots *pointerStore, applier ordering.Applier) error {
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	newest, exists, err := snapshots.newest()
	if err != nil {
		return err
	}
	if exists {
		c, err := decodeContent(newest.Content)
		if err != nil {
			return reason.New(reason.DataLoss, "newest snapshot, at entry %d: %v", newest.Index, err)
		}
		if c.applied > newest.Index {
			return reason.New(reason.DataLoss, "newest snapshot, at entry %d, was made at applied index %d", newest.Index, c.applied)
		}
		// A crash came between the arrival of the snapshot and its restoration.
		if applier.AppliedIndex() < c.applied {
			if err := restoreContent(ctx, applier, newest.Content); err != nil {
				return err
			}
		}
		// Or between its restoration and the removal of the log before it.
		if last != 0 && last < newest.Index {
			if err := log.DeleteRange(first, last); err != nil {
				return err
			}
			first, last = 0, 0
		}
	}
	if last != 0 && first > newest.Index+1 {
		return reason.New(reason.DataLoss, "the log begins at entry %d, the newest snapshot covers up to %d", first, newest.Index)
	}

	applied := applier.AppliedIndex()
	if known := max(last, newest.Index); applied > known {
		return reason.New(reason.DataLoss, "entries up to %d are applied, log and snapshot end at %d (rule R2)", applied, known)
	}
	if applied < first || applied > last || last == 0 {
		return nil // the entry is not in the log
	}
	var entry hraft.Log
	if err := log.GetLog(applied, &entry); err != nil {
		return fmt.Errorf("read entry %d: %w", applied, err)
	}
	kept, ok := applier.AppliedDigest(applied)
	if got := digest.Of(digest.Entry, entry.Data); ok && (entry.Type != hraft.LogCommand || got != kept) {
		return reason.New(reason.DataLoss, "entry %d in the log is a %v with digest %s, the one applied there had %s (rule R2)",
			applied, entry.Type, got.Short(), kept.Short())
	}
	return nil
}
