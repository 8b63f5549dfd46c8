package raft

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// recoveryTerm is the term of the pointer that a recovery begins with. Every
// continued replica writes the same, so that the first election is of a later one.
const recoveryTerm = 1

// stableTerm is the key under which the library keeps its current term.
const stableTerm = "CurrentTerm"

// BeginAt writes into an empty or missing directory what a signed recovery says
// (rule C8): the engine goes on above index, with these members, from the state
// that the pointer names and that the Applier holds at that applied index. It is
// Bootstrap for a ledger that is not at its beginning; ErrNotEmpty as there.
func BeginAt(dir string, index uint64, members []ordering.Member, pointer []byte, logger *slog.Logger) (err error) {
	log, snapshots, err := openStores(dir, logger)
	if err != nil {
		return fmt.Errorf("recover %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	used, err := hraft.HasExistingState(log, log, snapshots)
	if err != nil {
		return fmt.Errorf("recover %s: %w", dir, err)
	}
	if used {
		return fmt.Errorf("recover %s: %w", dir, ErrNotEmpty)
	}
	f := pointerFile{Index: index, Term: recoveryTerm, ConfigurationIndex: index, Content: content{applied: index, pointer: pointer}.encode()}
	for _, m := range members {
		f.Servers = append(f.Servers, hraft.Server{ID: hraft.ServerID(m.ID), Address: hraft.ServerAddress(m.ID)})
	}
	slices.SortFunc(f.Servers, func(a, b hraft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if err := log.SetUint64([]byte(stableTerm), recoveryTerm); err != nil {
		return fmt.Errorf("recover %s: %w", dir, err)
	}
	return snapshots.add(f)
}
