// Package trust is what a verifier must be given beforehand, and all of it: the
// list of epochs of a network, each with the policy that certified its trees.
//
// Source: docs/architecture.md, "The trust bundle of a verifier"; C2SP tlog-policy for
// the policies. The text form is:
//
//	lacre/trust/v1
//	epoch <last tree size, or 0 while it is open> <number of policy lines>
//	<policy lines>
//	epoch ...
//
// Invariants:
//   - One origin; last sizes strictly ascending; only the last epoch may be
//     open. So exactly one epoch, or none, answers for a tree size.
//   - One text for one bundle: Parse encodes again and compares; the digest of
//     the text is what people pin.
package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Bounds of a bundle.
const (
	MaxEpochs = 1024
	// MaxSize bounds a bundle's text in bytes.
	MaxSize = 8 << 20
)

const header = "lacre/trust/v1"

// ErrMalformed says that the bytes are not the one form that Bytes writes.
var ErrMalformed = errors.New("malformed trust bundle")

// Epoch is a span of tree sizes with one policy.
type Epoch struct {
	Policy   *tlog.Policy
	LastSize uint64 // the last tree size that the policy certifies; 0 = open
}

// Bundle is the list of epochs, oldest first. It is made by New or Parse and
// not changed afterwards, so it is safe for concurrent use.
type Bundle struct {
	epochs []Epoch
}

var _ tlog.Checker = (*Bundle)(nil)

// New checks the epochs (errors.Is ErrMalformed) and copies the list.
func New(epochs ...Epoch) (*Bundle, error) {
	b := &Bundle{epochs: slices.Clone(epochs)}
	if err := b.check(); err != nil {
		return nil, err
	}
	if n := len(b.Bytes()); n > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, n, MaxSize)
	}
	return b, nil
}

func (b *Bundle) check() error {
	if n := len(b.epochs); n == 0 || n > MaxEpochs {
		return fmt.Errorf("%w: %d epochs, want 1 to %d", ErrMalformed, n, MaxEpochs)
	}
	last := uint64(0)
	for i, e := range b.epochs {
		if e.Policy == nil {
			return fmt.Errorf("%w: epoch %d has no policy", ErrMalformed, i)
		}
		if e.Policy.Origin() != b.Origin() {
			return fmt.Errorf("%w: epoch %d is about %s, epoch 0 about %s", ErrMalformed, i, e.Policy.Origin(), b.Origin())
		}
		if open := e.LastSize == 0; open && i == len(b.epochs)-1 {
			continue
		}
		if e.LastSize <= last || e.LastSize > tlog.MaxTreeSize {
			return fmt.Errorf("%w: epoch %d ends at size %d, the one before at %d", ErrMalformed, i, e.LastSize, last)
		}
		last = e.LastSize
	}
	return nil
}

// Origin is the origin of the network's log.
func (b *Bundle) Origin() string { return b.epochs[0].Policy.Origin() }

// Epochs is a copy of the list, oldest first.
func (b *Bundle) Epochs() []Epoch { return slices.Clone(b.epochs) }

// Newest is the last epoch.
func (b *Bundle) Newest() Epoch { return b.epochs[len(b.epochs)-1] }

// Extend closes the open epoch at lastSize and opens one with the next policy.
// The caller has verified the configuration record that says so. The receiver
// does not change.
func (b *Bundle) Extend(lastSize uint64, next *tlog.Policy) (*Bundle, error) {
	if newest := b.Newest(); newest.LastSize != 0 {
		return nil, fmt.Errorf("%w: the newest epoch already ended, at size %d", ErrMalformed, newest.LastSize)
	}
	epochs := b.Epochs()
	epochs[len(epochs)-1].LastSize = lastSize
	if lastSize == 0 {
		return nil, fmt.Errorf("%w: an epoch cannot be closed at size 0", ErrMalformed)
	}
	return New(append(epochs, Epoch{Policy: next})...)
}

// Policy is the policy that answers for a tree size: of the first epoch that
// has not ended before it.
func (b *Bundle) Policy(size uint64) (*tlog.Policy, error) {
	i, _ := slices.BinarySearchFunc(b.epochs, size, func(e Epoch, size uint64) int {
		if e.LastSize != 0 && e.LastSize < size {
			return -1
		}
		return 1 // never equal: the search finds the first epoch that is not before size
	})
	if i == len(b.epochs) {
		return nil, &tlog.PolicyError{Origin: b.Origin(), Size: size,
			Reason: fmt.Sprintf("the trust bundle ends at size %d; update it", b.Newest().LastSize)}
	}
	return b.epochs[i].Policy, nil
}

// Check implements tlog.Checker: the policy of the epoch chosen by tree size
// decides. A certificate by old replicas beyond their last size is refused,
// and one by new replicas below their first.
func (b *Bundle) Check(v signature.Verifier, c *tlog.Certificate) error {
	policy, err := b.Policy(c.Checkpoint.Size)
	if err != nil {
		return err
	}
	return policy.Check(v, c)
}

// Digest is what is printed and pinned.
func (b *Bundle) Digest() digest.Digest { return digest.Of(digest.TrustBundle, b.Bytes()) }

// Bytes is the canonical text.
func (b *Bundle) Bytes() []byte {
	var s strings.Builder
	s.WriteString(header + "\n")
	for _, e := range b.epochs {
		text := string(e.Policy.Text())
		fmt.Fprintf(&s, "epoch %d %d\n%s", e.LastSize, strings.Count(text, "\n"), text)
	}
	return []byte(s.String())
}

// Parse reads what Bytes writes, and nothing else (errors.Is ErrMalformed).
func Parse(text []byte) (*Bundle, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(text), MaxSize)
	}
	rest, ok := strings.CutPrefix(string(text), header+"\n")
	if !ok {
		return nil, fmt.Errorf("%w: it does not start with the line %q", ErrMalformed, header)
	}
	var epochs []Epoch
	for rest != "" && len(epochs) <= MaxEpochs {
		var e Epoch
		var err error
		if e, rest, err = parseEpoch(rest); err != nil {
			return nil, fmt.Errorf("%w: epoch %d: %w", ErrMalformed, len(epochs), err)
		}
		epochs = append(epochs, e)
	}
	b, err := New(epochs...)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b.Bytes(), text) {
		return nil, fmt.Errorf("%w: not the canonical form", ErrMalformed)
	}
	return b, nil
}

// parseEpoch takes one epoch off the front. Numbers in odd forms fall to the
// comparison in Parse.
func parseEpoch(text string) (e Epoch, rest string, err error) {
	line, rest, _ := strings.Cut(text, "\n")
	words := strings.Split(line, " ")
	if len(words) != 3 || words[0] != "epoch" {
		return e, "", fmt.Errorf("%.60q is not \"epoch\", last size and number of lines", line)
	}
	if e.LastSize, err = strconv.ParseUint(words[1], 10, 63); err != nil {
		return e, "", fmt.Errorf("last size: %w", err)
	}
	lines, err := strconv.ParseUint(words[2], 10, 16)
	if err != nil {
		return e, "", fmt.Errorf("number of lines: %w", err)
	}
	end := 0
	for range lines {
		n := strings.IndexByte(rest[end:], '\n')
		if n < 0 {
			return e, "", fmt.Errorf("the text ends before its %d policy lines", lines)
		}
		end += n + 1
	}
	e.Policy, err = tlog.ParsePolicy([]byte(rest[:end]))
	return e, rest[end:], err
}
