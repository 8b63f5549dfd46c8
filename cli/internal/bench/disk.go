package bench

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// space is the disk that replicas use, by kind: blocks allocated, as du counts.
type space struct {
	segments uint64 // records and raw vectors
	index    uint64 // everything else that a replica knows: state, tree nodes, certificates
	order    uint64 // the ordering engine's log; bounded, for it is cut behind snapshots
}

func (s space) minus(o space) space {
	return space{less(s.segments, o.segments), less(s.index, o.index), less(s.order, o.order)}
}

// less is a-b, or 0: a log that was cut takes less than before.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// measureSpace walks the data directories of all replicas.
func measureSpace(n *devnet.Network) (space, error) {
	var total space
	for _, node := range n.ByRole(recordv1.Role_ROLE_REPLICA) {
		root := filepath.Join(n.NodeDir(node.ID), "data")
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // files come and go while replicas run
			}
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			*total.kind(root, path) += allocated(info)
			return nil
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// kind is where a file counts.
func (s *space) kind(root, path string) *uint64 {
	inside, err := filepath.Rel(root, path)
	switch {
	case err == nil && strings.HasPrefix(inside, filepath.Join("store", "segments")+string(filepath.Separator)):
		return &s.segments
	case err == nil && strings.HasPrefix(inside, "raft"+string(filepath.Separator)):
		return &s.order
	}
	return &s.index
}

// blockBytes is the unit of st_blocks (stat(2)).
const blockBytes = 512

func allocated(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Blocks) * blockBytes
	}
	return uint64(info.Size())
}
