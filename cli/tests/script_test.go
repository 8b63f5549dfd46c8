// Package tests runs the command `lacre` as its users do: as a process of its
// own, by the scripts in testdata/script.
//
// Source: github.com/rogpeppe/go-internal/testscript (the script language);
// issue "The whole path", part 8.
//
// Beside testscript's own commands the scripts have:
//
//	exits CODE lacre ARGS...   run a command and want its exit code
//	awaits CODE lacre ARGS...  run it again and again until it has that exit code, for
//	                           what comes with time alone
//	start DIR                  run `lacre dev --dir DIR` and wait until it is ready;
//	                           sets $REPLICA and $SPKI to the first replica's
//	stop                       interrupt it, and want a clean end
//	dropper DIR METER          run a gateway that passes heartbeats on and drops samples;
//	                           sets $DROPPER and $DROPPERSPKI
//	keysigner FILE [wrong]     a program for `--signer`, with that key; exec'd by lacre
//	public NAME FILE           set $NAME to the first 64 hexadecimal digits in FILE
//	replace FILE OLD NEW       replace the one place in a file where a text stands
//	flip FILE BYTE             flip one bit of a byte; from the end if negative
package tests

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/command"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lacre": func() {
			os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // this is the main of the process that a script starts.
		},
		"keysigner": keysigner,
	})
}

func TestScripts(t *testing.T) {
	golden, err := filepath.Abs("../../core/testdata/receipts")
	if err != nil {
		t.Fatal(err)
	}
	recording, err := filepath.Abs("../../meter/testdata/example.csv")
	if err != nil {
		t.Fatal(err)
	}
	constant, err := filepath.Abs("../../services/compute/testdata/constant.wasm")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GOLDEN", golden)       // receipts that other implementers have too
			env.Setenv("CONSTANT", constant)   // a module that is not built in
			env.Setenv("RECORDING", recording) // the example of `meter send`
			env.Setenv("MODULE", digest.Plain(speed.Module()).String())
			env.Setenv("STRANGER", digest.Plain([]byte("no module")).String())
			env.Values[running] = &process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "awaits": awaits, "dropper": dropper, "start": start, "stop": stop, "flip": flip, "public": public, "replace": replace,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	if got, want := exitCode(ts, args); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// exitCode runs a command, and tells the code that it gave and the one it should.
func exitCode(ts *testscript.TestScript, args []string) (got, want int) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	return got, want
}

func awaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: awaits CODE COMMAND ARGS...")
	}
	for {
		if got, want := exitCode(ts, args); got == want {
			return
		}
	}
}

type key int

const running key = 0

// process is the development network of a script.
type process struct {
	command *exec.Cmd // nil while none runs
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: start DIR")
	}
	p := ts.Value(running).(*process)
	dir := ts.MkAbs(args[0])
	c := exec.Command("lacre", "dev", "--dir", dir)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	ts.Check(err)
	ts.Check(c.Start())
	p.command = c
	ts.Defer(func() {
		if p.command == c { // the script failed, or forgot to stop it
			c.Process.Kill()
			c.Wait()
		}
	})
	lines := bufio.NewScanner(out)
	for ready := false; !ready; ready = strings.HasPrefix(lines.Text(), "ready") {
		if !lines.Scan() {
			p.command = nil
			ts.Fatalf("lacre dev ended before it was ready: %v\n%s", c.Wait(), stderr.String())
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	ts.Check(err)
	var n devnet.Network
	ts.Check(json.Unmarshal(b, &n))
	replica := n.ByRole(recordv1.Role_ROLE_REPLICA)[0]
	ts.Setenv("REPLICA", replica.Address)
	ts.Setenv("SPKI", replica.SPKI)
}

func stop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: stop")
	}
	p := ts.Value(running).(*process)
	if p.command == nil {
		ts.Fatalf("no network runs")
	}
	c := p.command
	p.command = nil
	ts.Check(c.Process.Signal(os.Interrupt))
	ts.Check(c.Wait())
}

func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[1]); n != 1 {
		ts.Fatalf("%q stands %d times in %s, want once", args[1], n, args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600))
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE BYTE")
	}
	file := ts.MkAbs(args[0])
	content, err := os.ReadFile(file)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(content)
	}
	if at < 0 || at >= len(content) {
		ts.Fatalf("%s has %d bytes, byte %s is not among them", args[0], len(content), args[1])
	}
	content[at] ^= 1
	ts.Check(os.WriteFile(file, content, 0o600))
}

// public sets NAME to the first 64 hexadecimal digits in a file: a key or a digest.
func public(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: public NAME FILE")
	}
	found := regexp.MustCompile(`[0-9a-f]{64}`).FindString(ts.ReadFile(args[1]))
	if found == "" {
		ts.Fatalf("%s holds no 64 hexadecimal digits", args[1])
	}
	ts.Setenv(args[0], found)
}
