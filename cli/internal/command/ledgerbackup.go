package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// backedUp is what `ledger backup` prints.
type backedUp struct {
	*ledger.Backup
	Dir   string `json:"dir"`
	Bytes int64  `json:"bytes"` // that were copied this time
}

func newLedgerBackup(a *app) *cobra.Command {
	var from, to string
	c := a.reading(&cobra.Command{
		Use:   "backup",
		Short: "Copy a replica's ledger while it goes on, or from its directory",
		Long: `Copies one state of a replica's ledger to a directory: all of it, or what came since
the backup that lies there. --from is the admin port of a running replica
(HOST:PORT of its configuration's admin.listen), which goes on meanwhile, or the
data directory of a stopped one. Interrupted, it leaves an earlier backup as good
as it was; run it again.

A backup is read like a data directory: "lacre audit --from DIR" replays it,
"lacre ledger verify DIR" re-hashes it. It holds no key and not the ordering log.
Everything in it is public.`,
		Example: `  lacre ledger backup --from 127.0.0.1:7403 --to /backup/replica-institute
  lacre ledger backup --from /var/lib/lacre/ledger --to /backup/replica-institute --json
  lacre ledger verify /backup/replica-institute`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usage("--from and --to are needed")
			}
			return a.runBackup(c.Context(), from, to)
		},
	})
	c.Flags().StringVar(&from, "from", "", "HOST:PORT of a running replica's admin port, or the data directory of a stopped one")
	c.Flags().StringVar(&to, "to", "", "directory of the backup")
	return c
}

func (a *app) runBackup(ctx context.Context, from, to string) error {
	held, err := ledger.HeldBackup(to)
	if err != nil {
		return err
	}
	stream, err := openBackup(ctx, from, held)
	if err != nil {
		return err
	}
	var copied atomic.Int64
	stop := a.tellBytes(&copied)
	b, err := ledger.ReceiveBackup(to, held, stream, func(n int64) { copied.Add(n) })
	stop()
	if err := errors.Join(err, stream.Close()); err != nil {
		return err
	}
	text := fmt.Sprintf("blocks      0 to %d, certified up to %d\nrecords     %d\nnetwork     %s\ncopied      %.1f MB\nin          %s\n",
		b.Height, b.CertifiedHeight, b.Records, b.NetworkID, float64(copied.Load())/1e6, to)
	a.say("lacre ledger verify %s re-hashes every byte of it", to)
	return a.print(backedUp{Backup: b, Dir: to, Bytes: copied.Load()}, text)
}

// tellBytes says now and then how much was copied; nobody knows of how much.
func (a *app) tellBytes(copied *atomic.Int64) (stop func()) {
	ticker, done := time.NewTicker(2*time.Second), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
				a.say("copied %.1f MB", float64(copied.Load())/1e6)
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}

// openBackup begins a backup's stream.
func openBackup(ctx context.Context, from string, held *ledger.Backup) (io.ReadCloser, error) {
	if info, err := os.Stat(from); err == nil && info.IsDir() {
		in, out := io.Pipe()
		go func() { out.CloseWithError(ledger.BackUpDirectory(ctx, from, held, out)) }()
		return in, nil
	}
	if strings.ContainsRune(from, os.PathSeparator) {
		return nil, fmt.Errorf("%s is no directory", from)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s?have=%d&packed=%d", from, ledger.BackupPath, held.FullSegments(), held.PackedSegments()), nil)
	if err != nil {
		return nil, usage("--from: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w; --from is admin.listen of the replica's configuration", err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024)) // an extra
		return nil, errors.Join(fmt.Errorf("%s answers %s: %s", from, response.Status, strings.TrimSpace(string(text))), response.Body.Close())
	}
	return response.Body, nil
}

func newLedgerRestore(a *app) *cobra.Command {
	var to, networkID string
	c := a.reading(&cobra.Command{
		Use:   "restore BACKUP",
		Short: "Begin a replica again from its backup",
		Long: `Makes the data directory that a configuration names out of a backup of this very
replica. Nothing that stands is overwritten; what an interrupted restoration left
is made again. All other replicas must be up: this one has forgotten for whom it
voted. Started, it fetches what came since the backup, and signs nothing up to
the heights that it may have signed before; its log says from which on.`,
		Example: `  lacre ledger restore /backup/replica-institute --config /etc/lacre/ledger.yaml --network-id HEX`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			want, err := digest.Parse(networkID)
			if err != nil {
				return usage("--network-id: %w", err)
			}
			var c ledger.Config
			if err := config.Load(to, &c); err != nil {
				return usage("%w", err)
			}
			b, err := ledger.Restore(c, args[0], want)
			if err != nil {
				return err
			}
			a.say("start it, while all others are up: lacre-ledger -config %s", to)
			return a.print(b, fmt.Sprintf("replica %s begins again in %s with block %d\n", c.NodeID, c.DataDir, b.Height))
		},
	})
	c.Flags().StringVar(&to, "config", "", "the replica's configuration file")
	c.Flags().StringVar(&networkID, "network-id", "", "the id that the network must have")
	return c
}

func newLedgerVerify(a *app) *cobra.Command {
	var options ledger.ArchiveOptions
	c := a.reading(&cobra.Command{
		Use:   "verify DIR",
		Short: "Re-hash every byte of a data directory or backup",
		Long: `Re-hashes every record and raw vector, the tree, the chain of headers and the
structure of the index. It executes nothing and trusts nobody, but shows only that
the directory is whole: that what it says is right, and certified, is shown by
"lacre audit --from DIR". The directory must not be in use.

Raw vectors that were moved to cold storage are read there: name it as the
replica's configuration does (cold.store), or leave them out; then only their
records are checked, and the answer says how many were not read. One that is gone
by a decision on the ledger is no damage, and is counted; without one it is.

Exit code: 0 nothing is missing or damaged, 1 something is, 4 not even the index
of the stored bytes holds together.`,
		Example: `  lacre ledger verify /backup/replica-institute
  lacre ledger verify /var/lib/lacre/ledger --json
  lacre ledger verify /var/lib/lacre/ledger --cold /mnt/cold/replica-institute`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if options.Cold != "" && options.SkipCold {
				return usage("--cold and --without-cold exclude each other")
			}
			archive, err := ledger.OpenArchiveWith(args[0], options)
			if err != nil {
				return err
			}
			bar := progress.New(a.err, "blocks")
			report, err := archive.Verify(c.Context(), func(done, of uint64) { bar.Set(int(done), int(of)) })
			bar.Stop()
			if err := errors.Join(err, archive.Close()); err != nil {
				return withoutCold(err, options.Cold)
			}
			text := fmt.Sprintf("%d blocks, %d records, %d raw vectors, %.1f MB re-hashed", report.Blocks, report.Records, report.RawVectors, float64(report.Bytes)/1e6)
			if report.Cold > report.Skipped {
				text += fmt.Sprintf(", %d raw vectors of them in cold storage", report.Cold)
			}
			if report.Skipped > 0 {
				text += fmt.Sprintf("; %d raw vectors in cold storage were not read", report.Skipped)
			}
			if report.Expired > 0 {
				text += fmt.Sprintf("; %d raw vectors of blocks %d to %d expired by decisions on the ledger (\"lacre ledger info\" names them)", report.Expired, report.ExpiredFrom, report.ExpiredTo)
			}
			text += ": "
			code := ExitOK
			if len(report.Problems) == 0 {
				text += "whole\n"
			} else {
				code = ExitRefuted
				text += fmt.Sprintf("%d problems\n  %s\n", len(report.Problems), strings.Join(report.Problems, "\n  "))
			}
			if err := a.print(report, text); err != nil {
				return err
			}
			return exit(code)
		},
	})
	c.Flags().StringVar(&options.Cold, "cold", "", "cold storage of the replica, as its configuration names it")
	c.Flags().BoolVar(&options.SkipCold, "without-cold", false, "leave raw vectors in cold storage out")
	return c
}

// withoutCold says what helps against an error of a directory whose raw vectors
// are elsewhere, and nobody said where.
func withoutCold(err error, named string) error {
	if named != "" || reason.Of(err) != reason.NotReady {
		return err
	}
	return fmt.Errorf("%w\n       Remedy: name it with --cold, as the replica's configuration does in cold.store", err)
}
