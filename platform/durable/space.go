package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space tells how many bytes the file system of a directory has left for this process, and in all.
func Space(dir string) (freeBytes, totalBytes uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", dir, err)
	}
	size := uint64(fs.Bsize) // the type of a block's size differs between systems
	return fs.Bavail * size, fs.Blocks * size, nil
}
