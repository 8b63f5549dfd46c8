package durable

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives path the owner and group of what stood there before, if they are others: only root can.
func keepOwner(path string, before fs.FileInfo) error {
	own, err := os.Stat(path)
	if err != nil {
		return err
	}
	was, is := owner(before), owner(own)
	if was == is {
		return nil
	}
	return os.Lchown(path, was[0], was[1])
}

// owner is the user and group of a file; -1 where the system has none.
func owner(info fs.FileInfo) [2]int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]int{int(s.Uid), int(s.Gid)}
	}
	return [2]int{-1, -1}
}
