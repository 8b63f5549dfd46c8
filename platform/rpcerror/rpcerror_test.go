package rpcerror_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

var update = flag.Bool("update", false, "write docs/errors.md from the table")

const page = "../../docs/errors.md"

// overTheWire is what a client makes of what a server makes of an error: the status crosses as its protobuf.
func overTheWire(t *testing.T, err error) error {
	t.Helper()
	sent, ok := status.FromError(rpcerror.ToStatus(err))
	if !ok {
		t.Fatalf("ToStatus(%v) is no status", err)
	}
	return rpcerror.FromStatus(status.FromProto(sent.Proto()).Err())
}

func TestEveryReasonSurvivesTheWire(t *testing.T) {
	for _, entry := range rpcerror.Reasons {
		sent := reason.New(entry.Reason, "counter %d, expected %d", 41, 97)
		got := overTheWire(t, sent)
		if !errors.Is(got, sent) || reason.Of(got) != entry.Reason {
			t.Errorf("%s arrives as %v", entry.Reason, got)
		}
		if code := status.Code(got); code != entry.Code {
			t.Errorf("%s arrives with code %s, want %s", entry.Reason, code, entry.Code)
		}
		if got.Error() != sent.Error() {
			t.Errorf("%s arrives as %q, want %q", entry.Reason, got, sent)
		}
		if rpcerror.IsPermanent(got) != entry.Permanent {
			t.Errorf("%s: permanent is %v, the table says %v", entry.Reason, !entry.Permanent, entry.Permanent)
		}
		if errors.Is(got, reason.New("ANOTHER", "")) {
			t.Errorf("%s is taken for another reason", entry.Reason)
		}
		// A node in between that only passes the error on changes nothing.
		if again := overTheWire(t, got); again.Error() != got.Error() || status.Code(again) != entry.Code {
			t.Errorf("%s forwarded arrives as %v", entry.Reason, again)
		}
	}
}

func TestContextOfWrappersStays(t *testing.T) {
	got := overTheWire(t, fmt.Errorf("meter m-7: %w", reason.New(reason.BackDated, "captured 3, block 5")))
	if want := "BACK_DATED: meter m-7: BACK_DATED: captured 3, block 5"; got.Error() != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestDelayLeaderAndFactsCross(t *testing.T) {
	got := overTheWire(t, rpcerror.With(reason.New(reason.Overloaded, "queue 8 of 8"), rpcerror.RetryAfter(250*time.Millisecond)))
	if delay := rpcerror.Delay(got); delay != 250*time.Millisecond || status.Code(got) != codes.ResourceExhausted {
		t.Errorf("delay %s, code %s", delay, status.Code(got))
	}
	got = overTheWire(t, rpcerror.With(reason.New(reason.NotLeader, ""), rpcerror.Leader("replica-2"), rpcerror.Fact("term", "9")))
	if hint := rpcerror.LeaderHint(got); hint != "replica-2" || status.Code(got) != codes.Unavailable {
		t.Errorf("leader hint %q, code %s", hint, status.Code(got))
	}
	var seen *rpcerror.Error
	if !errors.As(got, &seen) || seen.Metadata["term"] != "9" {
		t.Errorf("facts %v", seen)
	}
	if got := overTheWire(t, rpcerror.With(reason.New(reason.NotLeader, ""), rpcerror.Leader(""))); rpcerror.LeaderHint(got) != "" {
		t.Errorf("leader hint %q out of nothing", rpcerror.LeaderHint(got))
	}
	if plain := errors.New("plain"); rpcerror.With(plain, rpcerror.Leader("x")) != plain { //nolint:errorlint // identity is meant.
		t.Error("an error without a reason was given one")
	}
}

func TestErrorsWithoutReason(t *testing.T) {
	cases := map[string]struct {
		err    error
		code   codes.Code
		is     error  // what errors.Is finds on the client's side
		secret string // must not cross
	}{
		"unknown":   {errors.New("open /var/secret: denied"), codes.Internal, nil, "secret"},
		"deadline":  {fmt.Errorf("certify: %w", context.DeadlineExceeded), codes.DeadlineExceeded, context.DeadlineExceeded, "certify"},
		"cancelled": {context.Canceled, codes.Canceled, context.Canceled, ""},
		"a status":  {status.Error(codes.Unimplemented, "no such method"), codes.Unimplemented, nil, ""},
		"upstream":  {fmt.Errorf("dial: %w", &rpcerror.Error{Code: codes.Unavailable, Detail: "refused"}), codes.Unavailable, nil, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := overTheWire(t, c.err)
			if status.Code(got) != c.code || reason.Of(got) != "" || rpcerror.IsPermanent(got) {
				t.Fatalf("arrives as %v with code %s, reason %q", got, status.Code(got), reason.Of(got))
			}
			if c.is != nil && !errors.Is(got, c.is) {
				t.Errorf("%v is not %v", got, c.is)
			}
			if c.secret != "" && strings.Contains(got.Error(), c.secret) {
				t.Errorf("%q tells about the inside", got)
			}
		})
	}
	if rpcerror.ToStatus(nil) != nil || rpcerror.FromStatus(nil) != nil {
		t.Error("nil became an error")
	}
	if got := rpcerror.FromStatus(io.EOF); got != io.EOF { //nolint:errorlint // a stream's end passes unchanged.
		t.Errorf("io.EOF became %v", got)
	}
}

func TestBareResourceExhaustedIsTooLarge(t *testing.T) {
	got := rpcerror.FromStatus(status.Error(codes.ResourceExhausted, "grpc: received message larger than max (20 vs. 10)"))
	if reason.Of(got) != reason.TooLarge || !strings.Contains(got.Error(), "20 vs. 10") {
		t.Fatalf("got %v", got)
	}
}

func TestForeignErrorInfoIsNoReason(t *testing.T) {
	foreign, err := status.New(codes.Unavailable, "proxy").WithDetails(&errdetails.ErrorInfo{Domain: "proxy.example", Reason: "DATA_LOSS"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rpcerror.FromStatus(foreign.Err()); reason.Of(got) != "" {
		t.Fatalf("another domain's reason became %s", reason.Of(got))
	}
}

// TestTableIsComplete reads the constants of package reason from their source: neither a reason without an entry nor
// an entry without a reason.
func TestTableIsComplete(t *testing.T) {
	declared := declaredReasons(t)
	var listed []string
	for _, entry := range rpcerror.Reasons {
		listed = append(listed, string(entry.Reason))
		if entry.Meaning == "" || entry.Remedy == "" || entry.Code == codes.OK || entry.Code == codes.Internal {
			t.Errorf("entry %+v is not filled in", entry)
		}
	}
	slices.Sort(declared)
	slices.Sort(listed)
	if !slices.Equal(declared, listed) {
		t.Fatalf("package reason has %v\nthe table has %v", declared, listed)
	}
}

func TestErrorsPageMatchesTable(t *testing.T) {
	want := rpcerror.Markdown()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s does not match the table; run go test ./rpcerror -update", page)
	}
}

// declaredReasons returns the values of all constants of type Reason in package reason.
func declaredReasons(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../core/reason/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package reason: %v", err)
	}
	var values []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
				return true
			}
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					values = append(values, text)
				}
			}
			return true
		})
	}
	return values
}
