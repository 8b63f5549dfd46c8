package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

const (
	// probeInterval is how often a disk that takes no writes is tried.
	probeInterval = 5 * time.Second
	// spaceNeeded is what must be free before a replica goes on: the ordering log's
	// next segment, which is 64 MiB, and as much again for blocks.
	spaceNeeded = 128 << 20
)

// Serve opens a replica and runs it until ctx ends. While the disk takes no
// writes, because it is full, a quota is reached, or it is mounted read-only, the
// replica serves nothing and waits: the admin port says that it is not ready and
// why, and it goes on by itself once the disk takes writes and has room. After
// any write that failed everything is opened anew, since nobody knows what of it
// is on the disk. Peers that are read anew (reload) outlast that.
func Serve(ctx context.Context, c Config, reload func(func(Config) error), log *slog.Logger) error {
	var newest atomic.Pointer[[]Peer]
	alone := false
	return serve(ctx, func(ctx context.Context) error {
		c := c
		if list := newest.Load(); list != nil {
			c.Peers = *list
		}
		service, err := New(c, log)
		if err != nil {
			return err
		}
		reload(func(c Config) error {
			if err := service.SetPeers(c.Peers); err != nil {
				return err
			}
			newest.Store(&c.Peers)
			return nil
		})
		service.alone = alone
		err = service.Run(ctx)
		alone = errors.Is(err, errPassedOver)
		return err
	}, func(ctx context.Context, cause error) error { return awaitDisk(ctx, c, log, cause) })
}

// serve runs, and waits, in turns. A replica that the others go on without begins
// again at once.
func serve(ctx context.Context, run func(context.Context) error, await func(context.Context, error) error) error {
	for {
		err := run(ctx)
		if errors.Is(err, errPassedOver) && ctx.Err() == nil {
			continue
		}
		if ctx.Err() != nil || !diskRefuses(err) || reason.Of(dataLoss(err)) == reason.DataLoss {
			return err
		}
		if err := await(ctx, err); err != nil {
			return err
		}
	}
}

// diskRefuses tells whether a write failed for a reason that passes without harm
// to what is stored: no space, no quota, a read-only file system. An error of the
// device is not among them.
func diskRefuses(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// awaitDisk returns nil once the data directory takes writes.
func awaitDisk(ctx context.Context, c Config, log *slog.Logger, cause error) error {
	metrics := admin.NewRegistry()
	g := new(admin.Gauges)
	g.Gauge("lacre_ledger_disk_refuses_writes", refusesWritesHelp, nil, func(emit func(float64, ...string)) { emit(1) })
	metrics.MustRegister(g)
	port, err := admin.New(c.Admin, admin.Options{
		Service: "ledger", NodeID: c.NodeID, Registry: metrics, Logger: log,
		Ready: func() map[string]bool { return map[string]bool{"disk": false} },
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	waiting, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := port.Run(waiting); err != nil && waiting.Err() == nil {
			log.Error("the admin port ended", "error", err)
		}
	}()
	defer func() { cancel(); <-stopped }()
	log.Error("the disk takes no writes: this replica serves nothing and waits", "node", c.NodeID, "dir", c.DataDir, "error", cause,
		"remedy", fmt.Sprintf("make room, at least %d MiB, or mount the file system for writing; the replica then goes on by itself", spaceNeeded>>20))
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(cause, ctx.Err())
		}
		if err := probe(c.DataDir); err != nil {
			log.Warn("the disk still takes no writes", "node", c.NodeID, "error", err)
			continue
		}
		log.Info("the disk takes writes again", "node", c.NodeID)
		return nil
	}
}

// probe tells why the directory takes no writes; nil if it does.
func probe(dir string) error {
	free, _, err := durable.Space(dir)
	if err != nil {
		return err
	}
	if free < spaceNeeded {
		return fmt.Errorf("%d MiB are free in %s, %d are needed: %w", free>>20, dir, spaceNeeded>>20, syscall.ENOSPC)
	}
	path := filepath.Join(dir, "probe")
	for _, step := range []fault.Step{fault.Write, fault.LogWrite, fault.Sync, fault.LogSync, fault.Commit, fault.Certify, fault.Append, fault.Term} {
		if err := fault.Around(step, func() error { return nil }); err != nil { // the suite's disks fail by step
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}
