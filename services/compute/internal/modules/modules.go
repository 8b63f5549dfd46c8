// Package modules keeps the algorithms that this endorser holds: on disk under
// their digest, and loaded in the sandbox.
//
// Source: architecture, "The sandbox"; WELMEC 7.2 U5/U6 and D1 to D4 as
// metrology.md words them (secondary source).
//
// Invariants:
//   - A module's name is the SHA-256 of its bytes, checked at every load; a file
//     with other bytes is refused and named.
//   - A program stays loaded until the process ends: no request can make an
//     endorser lose an algorithm that it runs (the old version stays on error).
//   - A module on which the engines once differed stays on the interpreter, after
//     a restart too: a marker lies beside it.
package modules

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

const (
	suffix = ".wasm"
	marker = ".interpreter" // follows a digest: that module runs on the interpreter alone
)

// Modules is safe for concurrent use.
type Modules struct {
	dir    string
	engine *sandbox.Engine

	installing sync.Mutex // one module is loaded at a time

	mu       sync.RWMutex
	programs map[digest.Digest]*sandbox.Program
}

// Open loads every module in dir, which it creates if need be.
func Open(ctx context.Context, dir string, engine *sandbox.Engine, log *slog.Logger) (*Modules, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	m := &Modules{dir: dir, engine: engine, programs: make(map[digest.Digest]*sandbox.Program)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	for _, entry := range entries {
		extension := filepath.Ext(entry.Name())
		if extension != suffix && extension != marker {
			continue
		}
		want, err := digest.Parse(strings.TrimSuffix(entry.Name(), extension))
		if err != nil {
			return nil, fmt.Errorf("modules: %s: %w", filepath.Join(dir, entry.Name()), err)
		}
		if extension == marker {
			engine.Distrust(want)
			continue
		}
		module, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("modules: %w", err)
		}
		if got := Digest(module); got != want {
			return nil, reason.New(reason.DataLoss, "module file %s holds bytes with digest %s", entry.Name(), got)
		}
		program, err := engine.Load(ctx, module)
		if err != nil {
			return nil, fmt.Errorf("modules: %s: %w", entry.Name(), err)
		}
		m.programs[want] = program
		log.InfoContext(ctx, "algorithm loaded", "algorithm", want, "name", program.Module().Name, "version", program.Module().Version)
	}
	return m, nil
}

// Digest is a module's identity: the plain SHA-256 of its bytes.
func Digest(module []byte) digest.Digest { return sha256.Sum256(module) }

// Install checks, keeps and loads a module. The caller has checked that an
// approval names its digest. Installing what is there already changes nothing.
// Errors: PROFILE_VIOLATION, or of the disk.
func (m *Modules) Install(ctx context.Context, module []byte) (digest.Digest, error) {
	m.installing.Lock()
	defer m.installing.Unlock()
	id := Digest(module)
	if m.Program(id) != nil {
		return id, nil
	}
	ctx = context.WithoutCancel(ctx) // the program outlives the call that brought it
	program, err := m.engine.Load(ctx, bytes.Clone(module))
	var violation *profile.Error
	if errors.As(err, &violation) {
		return id, reason.New(reason.ProfileViolation, "module %s: %v", id.Short(), violation)
	}
	if err != nil {
		return id, err
	}
	path := filepath.Join(m.dir, id.String()+suffix)
	if err := durable.CreateFile(path, module, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return id, errors.Join(fmt.Errorf("keep module: %w", err), program.Close(ctx))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programs[id] = program
	return id, nil
}

// Distrust keeps a module on the interpreter from the next start on; the engine
// sees to it until then.
func (m *Modules) Distrust(id digest.Digest) error {
	err := durable.CreateFile(filepath.Join(m.dir, id.String()+marker), nil, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Program is the loaded program of a module, or nil.
func (m *Modules) Program(id digest.Digest) *sandbox.Program {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.programs[id]
}

// Bytes reads a module that is loaded, nil when it is not. The error is
// DATA_LOSS when the file is not what was installed, or of the disk.
func (m *Modules) Bytes(id digest.Digest) ([]byte, error) {
	if m.Program(id) == nil {
		return nil, nil
	}
	module, err := os.ReadFile(filepath.Join(m.dir, id.String()+suffix))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	if got := Digest(module); got != id {
		return nil, reason.New(reason.DataLoss, "module file of %s holds bytes with digest %s", id.Short(), got.Short())
	}
	return module, nil
}

// List is what is loaded, ascending by digest.
func (m *Modules) List() []digest.Digest {
	m.mu.RLock()
	defer m.mu.RUnlock()
	ids := make([]digest.Digest, 0, len(m.programs))
	for id := range m.programs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) })
	return ids
}
