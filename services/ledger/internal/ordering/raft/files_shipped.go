//go:build !robustness

package raft

import (
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// logFiles are the operating system's.
func logFiles() types.VFS { return fs.New() }
