package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/daemon"
)

type config struct {
	Name string `yaml:"name" doc:"a name"`
}

func (c *config) Validate() error {
	if c.Name == "" {
		return errors.New("name: is missing")
	}
	return nil
}

func TestExitCodes(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	for path, text := range map[string]string{good: "name: node\n", bad: "nane: node\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	terminate := func(ctx context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	for _, c := range []struct {
		name string
		args []string
		run  func(context.Context) error
		want int
		says string
	}{
		{"done", []string{"-config", good}, func(context.Context) error { return nil }, daemon.ExitOK, ""},
		{"stopped by a signal", []string{"-config", good}, terminate, daemon.ExitOK, ""},
		{"stopped while it starts", []string{"-config", good}, func(ctx context.Context) error { return errors.Join(terminate(ctx), ctx.Err()) }, daemon.ExitOK, ""},
		{"failed", []string{"-config", good}, func(context.Context) error { return errors.New("no luck") }, daemon.ExitFailed, "no luck"},
		{"cancelled by nobody", []string{"-config", good}, func(context.Context) error { return context.Canceled }, daemon.ExitFailed, "canceled"},
		{"damaged while it stops", []string{"-config", good}, func(ctx context.Context) error {
			return errors.Join(terminate(ctx), context.Canceled, reason.New(reason.DataLoss, "frame 7"))
		}, daemon.ExitDataLoss, "frame 7"},
		{"removed from the network", []string{"-config", good}, func(context.Context) error { return errors.Join(daemon.Retired("replaced"), errors.New("x")) }, daemon.ExitRetired, "replaced"},
		{"help", []string{"-h"}, nil, daemon.ExitOK, "-config"},
		{"an unknown flag", []string{"-verbose"}, nil, daemon.ExitUsage, "-verbose"},
		{"an argument", []string{"-config", good, "start"}, nil, daemon.ExitUsage, "start"},
		{"no file", []string{"-config", good + ".old"}, nil, daemon.ExitUsage, "good.yaml.old"},
		{"an unknown key", []string{"-config", bad}, nil, daemon.ExitUsage, "nane"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			got := daemon.Main("test", c.args, &stderr, func(ctx context.Context, given config, _ *slog.Logger) error {
				if given.Name != "node" {
					t.Errorf("configuration %+v", given)
				}
				return c.run(ctx)
			})
			if got != c.want || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit %d, want %d; said %q, want %q in it", got, c.want, stderr.String(), c.says)
			}
		})
	}
}

// said is what was written; the last word on a SIGHUP may come after the end.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// SIGHUP reads the file again; one that is wrong changes nothing.
func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name: first\n")
	var stderr said
	code := daemon.MainReloading("test", []string{"-config", path}, &stderr, func(_ context.Context, c config, reload func(func(config) error), _ *slog.Logger) error {
		names, bad := make(chan string), make(chan struct{})
		reload(func(c config) error {
			if c.Name == "refused" {
				close(bad)
				return errors.New("not that one")
			}
			names <- c.Name
			return nil
		})
		if c.Name != "first" {
			t.Errorf("began with %q", c.Name)
		}
		hangUp := func(text string) {
			write(text)
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		}
		hangUp("name: second\n")
		if got := <-names; got != "second" {
			t.Errorf("read again: %q", got)
		}
		hangUp("name: refused\n")
		<-bad
		hangUp("name: third\n")
		if got := <-names; got != "third" {
			t.Errorf("read again: %q", got)
		}
		return nil
	})
	if code != daemon.ExitOK || !strings.Contains(stderr.String(), "not that one") {
		t.Errorf("exit %d, said %q", code, stderr.String())
	}
}
