package bench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestMissingProgramHasARemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := findProgram("lacre-ledger"); err == nil || !strings.Contains(err.Error(), `"make build"`) {
		t.Errorf("findProgram gave %v, want the remedy", err)
	}
}

// program writes a shell script that stands for a service.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lacre-ledger")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func started(t *testing.T, script string) (*fleet, *process) {
	t.Helper()
	f := &fleet{network: &devnet.Network{Dir: t.TempDir()}}
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	})
	node := devnet.Node{ID: "replica", Role: recordv1.Role_ROLE_REPLICA}
	if err := f.spawn(program(t, script), node, filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	return f, f.processes[0]
}

// TestProcessThatEndsByItselfEndsTheRun, with what it said last.
func TestProcessThatEndsByItselfEndsTheRun(t *testing.T) {
	f, _ := started(t, "echo 'the disk is full' >&2; exit 3")
	ctx, cancel := context.WithCancelCause(t.Context())
	f.watch(ctx, cancel)
	<-ctx.Done()
	for _, part := range []string{"replica", "exit status 3", "the disk is full"} {
		if err := context.Cause(ctx); !strings.Contains(err.Error(), part) {
			t.Errorf("the run ended with %v, want %q in it", err, part)
		}
	}
}

// TestProcessThatWasKilledOnPurposeDoesNot, and is no longer live.
func TestProcessThatWasKilledOnPurposeDoesNot(t *testing.T) {
	f, p := started(t, "exec sleep 600")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.watch(ctx, cancel)
	if !f.runs("replica") {
		t.Fatal("it does not run")
	}
	if err := f.kill("replica"); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if f.runs("replica") || ctx.Err() != nil {
		t.Errorf("runs: %v, the run's end: %v", f.runs("replica"), context.Cause(ctx))
	}
	if err := f.kill("nobody"); err == nil {
		t.Error("a node that is not there was killed")
	}
}
