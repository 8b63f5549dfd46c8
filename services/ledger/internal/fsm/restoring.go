package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// RestoringFile is where a replica notes, in its data directory, that it fetches
// blocks.
func RestoringFile(dir string) string { return filepath.Join(dir, "restoring") }

// errRestored is the answer for an entry whose effects came with a restoration.
var errRestored = errors.New("the entry's block was fetched from another replica")

// restoring notes on disk that blocks up to a pointer's are being fetched: they
// hold the effects of entries that the applied index does not count yet. If the
// restoration is cut short and the log delivers those entries after all, they
// must not be applied a second time (rule R4).
type restoring struct {
	path string
	pointer
}

func openRestoring(dir string) (restoring, error) {
	r := restoring{path: RestoringFile(dir)}
	b, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if r.pointer, err = parsePointer(b); err != nil {
		return r, fmt.Errorf("%s: %w", r.path, err)
	}
	return r, nil
}

// begin is durable when it returns.
func (r *restoring) begin(p pointer) error {
	if p.applied <= r.applied {
		return nil
	}
	if err := durable.WriteFile(r.path, p.encode(), 0o600); err != nil {
		return err
	}
	r.pointer = p
	return nil
}

// end forgets the restoration once its entries count as applied.
func (r *restoring) end(applied uint64) error {
	if r.applied == 0 || applied < r.applied {
		return nil
	}
	if err := os.Remove(r.path); err != nil {
		return err
	}
	r.pointer = pointer{}
	return durable.SyncDir(filepath.Dir(r.path))
}

func (p pointer) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, pointerBytes), p.height)
	b = append(b, p.header[:]...)
	return binary.BigEndian.AppendUint64(b, p.applied)
}

// NoteRestored notes, in a replica's data directory, that a store whose applied
// index is forgotten holds the effects of the entries up to one. It is durable
// when it returns.
func NoteRestored(dir string, head state.BlockRef, applied uint64) error {
	p := pointer{height: head.Height, header: head.Header, applied: applied}
	return durable.WriteFile(RestoringFile(dir), p.encode(), 0o600)
}

// Unfinished tells whether a data directory holds blocks whose entries its store
// does not count as applied.
func Unfinished(dir string, applied uint64) (bool, error) {
	r, err := openRestoring(dir)
	return r.applied > applied, err
}
