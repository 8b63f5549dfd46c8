package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lacre-metrology/lacre/platform/durable"
)

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
	r := restoring{path: filepath.Join(dir, "restoring")}
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
