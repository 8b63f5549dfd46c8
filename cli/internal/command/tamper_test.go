package command

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// bundleOf is the trust bundle of a test network, with another quorum if asked
// for: both are good bundles of one origin.
func bundleOf(t *testing.T, n *statetest.Network, quorum int) *trust.Bundle {
	t.Helper()
	policy, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	if quorum != int(n.Config.GetQuorum()) {
		var replicas []tlog.VerifierKey
		for _, w := range policy.Witnesses {
			replicas = append(replicas, w.Key)
		}
		if policy, err = tlog.NewQuorumPolicy(policy.Logs, replicas, quorum); err != nil {
			t.Fatal(err)
		}
	}
	b, err := trust.New(trust.Epoch{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every command that takes a trust bundle refuses one that is not the pinned
// one, before it does anything else, and says both digests; a file of which a bit
// is flipped is refused, too.
func TestATrustBundleThatIsNotThePinnedOneIsRefused(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	good, other := bundleOf(t, n, 3), bundleOf(t, n, 4)
	dir := t.TempDir()
	file := filepath.Join(dir, "trust")
	if err := os.WriteFile(filepath.Join(dir, "receipt"), []byte("no receipt"), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := map[string][]string{
		"trust show":     {"trust", "show"},
		"receipt verify": {"receipt", "verify", filepath.Join(dir, "receipt")},
		"audit":          {"audit", "--from", dir},
	}
	run := func(args []string, content []byte) (code int, says string) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var out, complaints bytes.Buffer
		code = Main(append(args, "--trust", file, "--pin", good.Digest().String()), strings.NewReader(""), &out, &complaints)
		return code, complaints.String()
	}
	for name, args := range commands {
		if _, says := run(args, good.Bytes()); strings.Contains(says, "pinned") {
			t.Errorf("%s with the pinned bundle: %s", name, says)
		}
		code, says := run(args, other.Bytes())
		if code != ExitRefuted || !strings.Contains(says, good.Digest().String()) || !strings.Contains(says, other.Digest().String()) {
			t.Errorf("%s with another bundle: exit code %d, %q; want both digests", name, code, says)
		}
	}
	f := trustFlags{file: file, pin: good.Digest().String()}
	content := good.Bytes()
	for at := range content { // core/trust flips all bits; here one of each byte
		bit := 8*at + at%8
		content[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.read(nil); err == nil {
			t.Fatalf("bit %d of byte %d flipped: accepted", bit%8, bit/8)
		}
		content[bit/8] ^= 1 << (bit % 8)
	}
}

// blocks is a source of blocks that breaks off.
type blocks struct {
	n     *statetest.Network
	until uint64
	err   error
}

func (l blocks) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for height := from; height <= l.n.Store.Head().Height; height++ {
			if height == l.until {
				yield(nil, l.err)
				return
			}
			if !yield(&audit.Block{Height: height, Leaves: l.n.Store.BlockLeaves(height), Certificate: l.n.Certificate(height)}, nil) {
				return
			}
		}
	}
}

// An audit whose connection is lost on the way prints what it found, keeps its
// state, ends with the error, and goes on from there.
func TestAuditKeepsItsStateWhenTheConnectionIsLost(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	n.Register("m-1")
	lost := errors.New("connection lost")
	file := filepath.Join(t.TempDir(), "state")
	options := audit.Options{Trust: bundleOf(t, n, 3), LedgerOnly: true}
	conclude := func(l blocks) (string, error) {
		t.Helper()
		var out, hints bytes.Buffer
		var outcome auditOutcome
		var ended error
		outcome.Report, ended = audit.Run(t.Context(), l, options)
		err := (&app{out: &out, err: &hints}).concludeAudit(file, &outcome, ended)
		return out.String() + hints.String(), err
	}
	says, err := conclude(blocks{n, 2, lost})
	if !errors.Is(err, lost) || !strings.Contains(says, "--resume continues at block 2") || !strings.Contains(says, "ended early") {
		t.Fatalf("lost before block 2: %v\n%s", err, says)
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if options.Resume, err = audit.ParseState(kept); err != nil || options.Resume.Next() != 2 {
		t.Fatalf("the state kept: %v", err)
	}
	if says, err = conclude(blocks{n: n, until: 100}); err != nil || !strings.Contains(says, "continues at block 3") {
		t.Errorf("resumed: %v\n%s", err, says)
	}
}
