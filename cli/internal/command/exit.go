package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// The exit codes of every command. This is the one place that lists them;
// `lacre help exit-codes` prints exitCodes.
const (
	ExitOK          = 0  // done; of a check: verified
	ExitRefuted     = 1  // a check found something wrong: refuted, findings, a demonstration or type test that did not hold
	ExitUndecidable = 2  // a check lacks what it needs: neither verified nor refuted
	ExitFailed      = 3  // it could not be done: refused by the network, unreachable, unreadable file
	ExitDataLoss    = 4  // stored bytes are not what they were
	ExitUsage       = 64 // the command line is wrong (EX_USAGE of sysexits.h)
	ExitInterrupted = 130
)

const exitCodes = `The exit code says what came of a command:

  0    done; of a check (receipt verify, audit, module inspect): verified
  1    a check found something wrong: refuted, findings, not within the profile;
       a demonstration or a type test that did not hold
  2    a check lacks what it needs, so it is neither verified nor refuted
  3    it could not be done: refused by the network, unreachable, unreadable file
  4    stored bytes are not what they were (DATA_LOSS)
  64   the command line is wrong
  130  interrupted
`

// exitError gives an error its exit code. An empty err says that the output
// has told everything.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit ends a command whose output said why.
func exit(code int) error {
	if code == ExitOK {
		return nil
	}
	return &exitError{code: code}
}

// usage says that the command line is wrong.
func usage(format string, args ...any) error {
	return &exitError{code: ExitUsage, err: fmt.Errorf(format, args...)}
}

// unreachable says that no answer came from the other side at all.
func unreachable(err error) bool {
	var remote *rpcerror.Error
	return errors.As(err, &remote) && remote.Reason == "" && remote.Code == codes.Unavailable
}

// finish prints an error with its remedy, if the table of reasons has one, and
// returns the exit code.
func finish(stderr io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	code := ExitFailed
	var coded *exitError
	switch why := reason.Of(err); {
	case errors.As(err, &coded):
		code = coded.code
		if coded.err == nil {
			return code
		}
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case why == reason.DataLoss:
		code = ExitDataLoss
	}
	io.WriteString(stderr, plain(fmt.Sprintf("lacre: %v\n", err))) //nolint:errcheck // there is nowhere else to say it.
	if entry, ok := rpcerror.Lookup(reason.Of(err)); ok {
		fmt.Fprintf(stderr, "       %s\n       Remedy: %s\n", entry.Meaning, entry.Remedy) //nolint:errcheck // as above.
	}
	if unreachable(err) {
		fmt.Fprintln(stderr, "       Remedy: is the network running? \"lacre dev\" starts one; check --server and --spki otherwise.") //nolint:errcheck // as above.
	}
	if code == ExitUsage {
		fmt.Fprintln(stderr, "       The command's --help shows examples.") //nolint:errcheck // as above.
	}
	return code
}
