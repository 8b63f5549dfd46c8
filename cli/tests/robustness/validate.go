package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// agree waits until all replicas that are to be good have certified the same
// newest block, and compares what they say of it.
func (n *network) agree(ctx context.Context, whom func() []string) (height uint64, err error) {
	clients, closing, err := n.connect()
	if err != nil {
		return 0, err
	}
	defer closing()
	last := errors.New("no replica answered")
	for {
		said := make(map[string]*ledgerv1.GetStatusResponse)
		good := whom()
		for _, id := range good {
			call, cancel := context.WithTimeout(ctx, readTimeout)
			status, err := clients[id].GetStatus(call, &ledgerv1.GetStatusRequest{})
			cancel()
			if err != nil {
				last = fmt.Errorf("%s: %w", id, err)
				continue
			}
			said[id] = status
		}
		if len(said) == len(good) {
			if height, err := same(said); err == nil {
				return height, nil
			} else if last = err; errors.Is(err, errFork) {
				return 0, err
			}
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return 0, fmt.Errorf("the replicas do not agree: %w", last)
		}
	}
}

var errFork = errors.New("FORK")

// same compares the replicas' newest certified blocks.
func same(said map[string]*ledgerv1.GetStatusResponse) (height uint64, err error) {
	first := ""
	for id, s := range said {
		if first == "" {
			first, height = id, s.GetCertifiedHeight()
			continue
		}
		o := said[first]
		if s.GetCertifiedHeight() == o.GetCertifiedHeight() && (!bytes.Equal(s.GetHeader(), o.GetHeader()) || s.GetTreeSize() != o.GetTreeSize()) {
			return 0, fmt.Errorf("%w: block %d has size %d and header %x at %s, size %d and header %x at %s",
				errFork, height, s.GetTreeSize(), s.GetHeader(), id, o.GetTreeSize(), o.GetHeader(), first)
		}
		if s.GetCertifiedHeight() != height || s.GetAppliedHeight() != o.GetAppliedHeight() {
			err = fmt.Errorf("%s has certified block %d and applied %d, %s %d and %d", id, s.GetCertifiedHeight(), s.GetAppliedHeight(), first, o.GetCertifiedHeight(), o.GetAppliedHeight())
		}
	}
	for id, s := range said {
		if s.GetAppliedHeight() != s.GetCertifiedHeight() {
			return 0, fmt.Errorf("%s has applied block %d and certified %d", id, s.GetAppliedHeight(), s.GetCertifiedHeight())
		}
	}
	return height, err
}

// found is what the replicas' disks hold, block by block.
type ledgerFound struct {
	blocks       uint64
	measurements map[slot]digest.Digest
	places       map[slot]uint64 // index of the leaf
}

// inspect reads the stopped replicas' disks and compares all of them: every byte
// re-hashed, every block the same, no counter twice, no two certificates of one
// size with different roots. With certified, blocks above a disk's newest
// certificate do not count: where root keys continued the ledger, a replica that
// was lost may hold others.
func (n *network) inspect(ctx context.Context, good []string, certified bool) (_ *ledgerFound, _ []string, err error) {
	var problems []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	archives := make(map[string]*ledger.Archive)
	defer func() {
		for _, a := range archives {
			_ = a.Close() // only read from
		}
	}()
	for _, id := range good {
		a, err := n.archive(id)
		if err != nil {
			report("the disk of %s: %v", id, err)
			continue
		}
		archives[id] = a
		r, err := a.Verify(ctx, nil)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range r.Problems {
			report("the disk of %s: %s", id, p)
		}
	}
	f := &ledgerFound{measurements: make(map[slot]digest.Digest), places: make(map[slot]uint64)}
	counts := make(map[string]uint64) // blocks of each
	for id, a := range archives {
		if counts[id] = a.Blocks(); certified {
			if counts[id], err = certifiedBlocks(a); err != nil {
				report("%s: %v", id, err)
			}
		}
		f.blocks = max(f.blocks, counts[id])
	}
	roots := make(map[uint64]tlog.Checkpoint) // by size
	index := uint64(0)
	for height := range f.blocks {
		var leaves [][]byte
		of := ""
		for _, id := range good {
			a := archives[id]
			if a == nil || height >= counts[id] {
				continue // behind: agree says whether that is right
			}
			b, err := a.Block(height)
			if err != nil {
				report("block %d at %s: %v", height, id, err)
				continue
			}
			if leaves == nil {
				leaves, of = b.Leaves, id
			} else if !equalLeaves(leaves, b.Leaves) {
				report("FORK: block %d is another at %s than at %s", height, id, of)
			}
			if len(b.Certificate) == 0 {
				continue
			}
			certificate, err := tlog.ParseCertificate(b.Certificate)
			if err != nil {
				report("the certificate of block %d at %s: %v", height, id, err)
				continue
			}
			c := certificate.Checkpoint
			if old, ok := roots[c.Size]; ok && old != c {
				report("FORK: two certificates of size %d, roots %s and %s", c.Size, old.Root, c.Root)
			}
			roots[c.Size] = c
		}
		for _, leaf := range leaves {
			if err := f.add(leaf, index); err != nil {
				report("block %d: %v", height, err)
			}
			index++
		}
	}
	return f, problems, nil
}

// certifiedBlocks is how many blocks a disk has up to its newest certificate.
func certifiedBlocks(a *ledger.Archive) (uint64, error) {
	for height := a.Blocks(); height > 0; height-- {
		b, err := a.Block(height - 1)
		if err != nil {
			return 0, fmt.Errorf("block %d: %w", height-1, err)
		}
		if len(b.Certificate) > 0 {
			return height, nil
		}
	}
	return 0, nil
}

func equalLeaves(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// add takes a leaf in; a counter's second one is an error.
func (f *ledgerFound) add(leaf []byte, index uint64) error {
	r, err := record.Parse(leaf)
	if err != nil {
		return fmt.Errorf("record %d: %w", index, err)
	}
	if r.GetMeasurement() == nil {
		return nil
	}
	header, err := sample.Parse(r.GetMeasurement().GetHeader())
	if err != nil {
		return fmt.Errorf("record %d: %w", index, err)
	}
	s := slot{meter: header.MeterID, counter: header.Counter}
	if at, twice := f.places[s]; twice {
		return fmt.Errorf("%s counter %d is record %d and record %d", s.meter, s.counter, at, index)
	}
	f.measurements[s], f.places[s] = header.Digest, index
	return nil
}

// lost compares what was acknowledged with what is there.
func (f *ledgerFound) lost(acks []acknowledged) []string {
	var problems []string
	for _, a := range acks {
		switch got, ok := f.measurements[a.slot]; {
		case !ok:
			problems = append(problems, fmt.Sprintf("LOST: %s counter %d has a receipt and is not on the ledger", a.meter, a.counter))
		case got != a.sample:
			problems = append(problems, fmt.Sprintf("ALTERED: %s counter %d is sample %s on the ledger, the receipt is of %s", a.meter, a.counter, got, a.sample))
		}
	}
	return problems
}
