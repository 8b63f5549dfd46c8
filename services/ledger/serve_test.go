package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/lacre-metrology/lacre/core/reason"
)

// A disk that takes no writes is waited for; everything else ends the process.
func TestServeWaitsForADiskThatTakesNoWrites(t *testing.T) {
	full := fmt.Errorf("append: %w", &os.PathError{Op: "write", Path: "a.seg", Err: syscall.ENOSPC})
	broken := &os.PathError{Op: "write", Path: "a.seg", Err: syscall.EIO}
	lost := reason.New(reason.DataLoss, "a frame")
	for name, c := range map[string]struct {
		ends  []error // of each run
		want  error
		waits int
	}{
		"stopped":                     {[]error{nil}, nil, 0},
		"full, then stopped":          {[]error{full, nil}, nil, 1},
		"full twice":                  {[]error{full, full, nil}, nil, 2},
		"read-only":                   {[]error{&os.PathError{Err: syscall.EROFS}, nil}, nil, 1},
		"the device fails":            {[]error{broken}, syscall.EIO, 0},
		"full, then the device fails": {[]error{full, broken}, syscall.EIO, 1},
		"data loss on a full disk":    {[]error{errors.Join(full, lost)}, lost, 0},
		"passed over, then removed":   {[]error{errors.Join(errPassedOver, errors.New("x")), ErrRemoved}, ErrRemoved, 0},
	} {
		t.Run(name, func(t *testing.T) {
			runs, waits := 0, 0
			err := serve(t.Context(), func(context.Context) error { runs++; return c.ends[runs-1] },
				func(_ context.Context, cause error) error {
					waits++
					if !diskRefuses(cause) {
						t.Errorf("waits because of %v", cause)
					}
					return nil
				})
			if !errors.Is(err, c.want) || c.want == nil && err != nil || waits != c.waits || runs != len(c.ends) {
				t.Errorf("%v after %d runs and %d waits, want %v, %d and %d", err, runs, waits, c.want, len(c.ends), c.waits)
			}
		})
	}
}

// It goes on when the directory takes writes, and not before, and stops when told.
func TestAwaitDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		wait := func() { ended <- awaitDisk(ctx, Config{DataDir: dir}, slog.New(slog.DiscardHandler), syscall.EROFS) }
		go wait()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("it does not wait: %v", err)
		default:
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the disk takes writes: %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("the probe left %v behind", left)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		go wait()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, syscall.EROFS) || !errors.Is(err, context.Canceled) {
			t.Errorf("stopped while waiting: %v", err)
		}
	})
}
