package follower

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// Records visits every leaf of the ledger up to a snapshot's head, in order. What
// was visited counts only when it returns nil: then it was all of the certified
// tree, nothing left out and nothing besides. When a replica fails or serves
// another ledger, the next one is asked from the genesis on, and leaves are
// visited again. The bytes are the visitor's while it runs. It reads the whole
// ledger but the raw vectors, so it is not for every day.
func (f *Follower) Records(ctx context.Context, s *Snapshot, visit func(leaf []byte) error) error {
	var failures []error
	for try := range f.clients {
		at := (int(f.preferred.Load()) + try) % len(f.clients)
		err := f.records(ctx, f.clients[at], s, visit)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failures = append(failures, fmt.Errorf("replica %d: %w", at, err))
	}
	return errors.Join(failures...)
}

func (f *Follower) records(ctx context.Context, client ledgerv1.LedgerServiceClient, s *Snapshot, visit func(leaf []byte) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the stream
	defer cancel()
	stream, err := client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: ledgerv1.StreamView_STREAM_VIEW_RECORDS, StopAtHead: true})
	if err != nil {
		return err
	}
	tree := tlog.NewRange()
	for height := uint64(0); height <= s.head.Height; height++ {
		block, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it ends before block %d, and block %d is certified", height, s.head.Height)
		}
		if err != nil {
			return err
		}
		if block.GetHeight() != height {
			return fmt.Errorf("block %d came, block %d was due", block.GetHeight(), height)
		}
		for i, leaf := range block.GetLeaves() {
			if leaf.GetRecord() == nil {
				return fmt.Errorf("block %d: leaf %d came without its bytes, and they were asked for", height, i)
			}
			tree.Append(tlog.LeafHash(leaf.GetRecord()))
			if err := visit(leaf.GetRecord()); err != nil {
				return fmt.Errorf("block %d: leaf %d: %w", height, i, err)
			}
		}
	}
	if root := tree.Root(); tree.Size() != s.head.Size || root != s.head.Root {
		return fmt.Errorf("up to block %d it has %d leaves with root %s, certified are %d with root %s", s.head.Height, tree.Size(), root.Short(), s.head.Size, s.head.Root.Short())
	}
	return nil
}
