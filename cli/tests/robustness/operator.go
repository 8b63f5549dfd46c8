package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
)

const (
	commandTimeout = 15 * time.Second
	againAfter     = 200 * time.Millisecond
)

// operator does what the people of a network do, with the command that they do it
// with, in files that travel. While faults go on each step is done again until it
// is done.
type operator struct {
	network *network
	say     func(string, ...any)
	drafts  int
}

// lacre runs the command and returns what it printed.
func (o *operator) lacre(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(o.network.bin, "lacre"), args...) //nolint:gosec // our own program.
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("lacre %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// until tries again until it is done or ctx ends.
func (o *operator) until(ctx context.Context, what string, try func(context.Context) error) error {
	for {
		last := try(ctx)
		if last == nil {
			o.say("operator: %s", what)
			return nil
		}
		if err := wait(ctx, againAfter); err != nil {
			return fmt.Errorf("%s: %w; at last: %w", what, err, last)
		}
	}
}

// record has a statement drafted, signed by the keys in files, and recorded.
func (o *operator) record(ctx context.Context, keys []string, draft ...string) error {
	what := strings.Join(draft[:3], " ")
	var file string
	err := o.until(ctx, "drafted "+what, func(ctx context.Context) error {
		var err error
		file, err = o.draft(ctx, draft...)
		return err
	})
	if err != nil {
		return err
	}
	signed, err := o.sign(ctx, file, keys...)
	if err != nil {
		return err
	}
	// The same statement again is answered with its place.
	return o.until(ctx, "recorded "+what, func(ctx context.Context) error {
		_, err := o.lacre(ctx, "network", "change", "submit", signed, "--network", o.network.live())
		return err
	})
}

// draft runs a command that writes a draft, and returns its file.
func (o *operator) draft(ctx context.Context, command ...string) (string, error) {
	dir := filepath.Join(o.network.live(), "drafts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	o.drafts++
	file := filepath.Join(dir, strconv.Itoa(o.drafts)+".json")
	_, err := o.lacre(ctx, append(command, "--out", file)...)
	return file, err
}

// sign signs a draft with the keys in files, and returns the signed file.
func (o *operator) sign(ctx context.Context, draft string, keys ...string) (string, error) {
	digest, err := o.lacre(ctx, "approval", "show", draft, "--digest")
	if err != nil {
		return "", err
	}
	signed := strings.TrimSuffix(draft, ".json") + ".dsse"
	args := []string{"network", "change", "sign", draft, "--digest", strings.TrimSpace(digest), "--network", o.network.live(), "--out", signed}
	for _, key := range keys {
		args = append(args, "--key", key)
	}
	_, err = o.lacre(ctx, args...)
	return signed, err
}

// roots are the files of root keys that are a majority of the organisations'.
func (o *operator) roots() []string {
	var keys []string
	for _, id := range []string{devnet.Authority, "institute", "operator"} {
		keys = append(keys, o.network.KeyPath(id))
	}
	return keys
}

// trusted extends the pinned trust bundle until it has so many epochs.
func (o *operator) trusted(ctx context.Context, epochs int) error {
	return o.until(ctx, fmt.Sprintf("the trust bundle has %d epochs", epochs), func(ctx context.Context) error {
		failures := []error{fmt.Errorf("the trust bundle has %d epochs", len(o.network.trusted().Epochs()))}
		for _, id := range o.network.current() {
			if o.network.processes[id].running() {
				failures = append(failures, o.update(ctx, id))
			}
			if len(o.network.trusted().Epochs()) >= epochs {
				return nil
			}
		}
		return errors.Join(failures...)
	})
}

// update extends the trust bundle by what a replica has.
func (o *operator) update(ctx context.Context, id string) error {
	node, err := o.network.Node(id)
	if err != nil {
		return err
	}
	if _, err = o.lacre(ctx, "trust", "update", "--network", o.network.live(), "--from", node.Address, "--spki", node.SPKI); err != nil {
		return err
	}
	kept, err := o.network.keptTrust()
	if err != nil || len(kept.Epochs()) <= len(o.network.trusted().Epochs()) {
		return err // a client may have learnt more meanwhile
	}
	o.network.believe(kept)
	return nil
}
