// Package expiry drafts the decision that raw vectors of old blocks go.
//
// Source: docs/adr/0017-when-may-raw-vectors-go.md; docs/formats.md, "Statements".
//
// Invariants:
//   - The block that a draft names was proven from the trust bundle: its header is a
//     leaf of a tree that the bundle accepts. Nothing is believed of who was asked.
//   - A draft keeps to the retention in force at the newest certified block. The ledger
//     judges again, by its own time.
package expiry

import (
	"context"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Ledger is what a draft is made of: a certified state, and a replica that proves
// headers of any age.
type Ledger struct {
	View   state.View
	Config *state.Config
	Head   state.BlockRef
	Client ledgerv1.LedgerServiceClient
	Trust  *trust.Bundle
}

// Order is what shall expire. The zero value asks for all that the retention lets go.
type Order struct {
	BelowHeight    uint64 // 0: by time
	BeforeUnixNano int64  // blocks of this time and later stay; 0: all older than the retention
	Rule           string
}

// Block is a block by its proven header.
type Block struct {
	Height   uint64
	Header   digest.Digest
	UnixNano int64 // block time
}

// Draft makes the next decision, and returns the last block that it covers.
func Draft(ctx context.Context, l *Ledger, o Order, issuedAt time.Time) (*recordv1.RawVectorExpiry, *Block, error) {
	retention := l.Config.Message.GetLimits().GetRawVectorRetentionNano()
	if retention == 0 {
		return nil, nil, fmt.Errorf("configuration %d keeps raw vectors for ever\n       Remedy: set a retention first, with \"lacre network change draft --limit raw-vector-retention=DURATION\"",
			l.Config.Message.GetHeader().GetSequence())
	}
	newest, err := state.NewestExpiry(l.View)
	if err != nil {
		return nil, nil, err
	}
	now, err := l.now(ctx)
	if err != nil {
		return nil, nil, err
	}
	latest := now - retention // of the last block that may be covered
	below := o.BelowHeight
	if below == 0 {
		until := latest
		if o.BeforeUnixNano != 0 {
			until = min(until, o.BeforeUnixNano-1)
		}
		if below, err = l.firstAfter(ctx, until); err != nil {
			return nil, nil, err
		}
	}
	if below <= newest.GetBelowHeight() {
		return nil, nil, fmt.Errorf("nothing more may expire: %d blocks are as old as is asked for (the retention is %s), and decision %d let the raw vectors below block %d go",
			below, time.Duration(retention), newest.GetLast().GetSequence(), newest.GetBelowHeight())
	}
	last, err := l.Block(ctx, below-1)
	if err != nil {
		return nil, nil, err
	}
	if last.UnixNano > latest {
		return nil, nil, fmt.Errorf("block %d is %s old by the ledger's time, the retention is %s: expire fewer blocks, or wait",
			last.Height, time.Duration(now-last.UnixNano), time.Duration(retention))
	}
	sequence, predecessor, err := state.NextStatement(l.View, record.SubjectRawVectors)
	if err != nil {
		return nil, nil, err
	}
	e := &recordv1.RawVectorExpiry{
		Header: &recordv1.StatementHeader{
			NetworkId: l.Config.NetworkID.Bytes(), Subject: record.SubjectRawVectors, Sequence: sequence, IssuedAtUnixNano: issuedAt.UnixNano(),
		},
		BelowHeight: below, LastBlock: last.Header.Bytes(), Rule: o.Rule,
	}
	if sequence > 1 {
		e.Header.Predecessor = predecessor.Bytes()
	}
	return e, last, nil
}

// now is the ledger's time: that of the newest certificate, which dates the next block
// (rule C4), or of the newest block.
func (l *Ledger) now(ctx context.Context) (int64, error) {
	response, err := l.Client.GetCheckpoint(ctx, &ledgerv1.GetCheckpointRequest{})
	if err != nil {
		return 0, err
	}
	certificate, err := tlog.ParseCertificate(response.GetCertificate())
	if err != nil {
		return 0, fmt.Errorf("the newest certificate: %w", err)
	}
	if err := l.Trust.Check(signature.Direct{}, certificate); err != nil {
		return 0, fmt.Errorf("the newest certificate: %w", err)
	}
	return max(l.Head.BlockTimeUnixNano, int64(min(certificate.MedianTime(), math.MaxInt64/1_000_000_000))*1_000_000_000), nil
}

// firstAfter is the first height whose block is later than a time; block time never
// falls (rule C4).
func (l *Ledger) firstAfter(ctx context.Context, unixNano int64) (uint64, error) {
	var failed error
	first := sort.Search(int(l.Head.Height+1), func(height int) bool {
		if failed != nil {
			return true
		}
		var b *Block
		if b, failed = l.Block(ctx, uint64(height)); failed != nil {
			return true
		}
		return b.UnixNano > unixNano
	})
	return uint64(first), failed
}

// Block proves a block's header.
func (l *Ledger) Block(ctx context.Context, height uint64) (*Block, error) {
	if height > l.Head.Height {
		return nil, fmt.Errorf("block %d is asked for, the newest certified is %d", height, l.Head.Height)
	}
	index, err := l.headerIndex(ctx, height)
	if err != nil {
		return nil, err
	}
	response, err := l.Client.GetRecord(ctx, &ledgerv1.GetRecordRequest{Index: index})
	if err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("the header of block %d (record %d) is not proven: %w", height, index, fmt.Errorf(format, args...))
	}
	certificate, err := tlog.ParseCertificate(response.GetCertificate())
	if err != nil {
		return nil, fail("%w", err)
	}
	if err := l.Trust.Check(signature.Direct{}, certificate); err != nil {
		return nil, fail("%w", err)
	}
	path := make([]digest.Digest, len(response.GetProof()))
	for i, hash := range response.GetProof() {
		if path[i], err = digest.FromBytes(hash); err != nil {
			return nil, fail("proof, hash %d: %w", i, err)
		}
	}
	leaf := response.GetRecord()
	if err := tlog.VerifyInclusion(tlog.LeafHash(leaf), index, certificate.Checkpoint.Size, path, certificate.Checkpoint.Root); err != nil {
		return nil, fail("%w", err)
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return nil, fail("%w", err)
	}
	if h := r.GetBlockHeader(); h == nil || h.GetHeight() != height {
		return nil, fail("it is a header of block %d (%T)", h.GetHeight(), r.GetBody())
	}
	return &Block{Height: height, Header: record.HeaderDigest(leaf), UnixNano: r.GetBlockHeader().GetBlockTimeUnixNano()}, nil
}

// headerIndex is where the header of a block lies, as the replica says; GetRecord
// proves it.
func (l *Ledger) headerIndex(ctx context.Context, height uint64) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.Client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{FromHeight: height, View: ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE, StopAtHead: true})
	if err != nil {
		return 0, err
	}
	response, err := stream.Recv()
	if err != nil {
		return 0, err
	}
	leaves := response.GetLeaves()
	if response.GetHeight() != height || len(leaves) == 0 {
		return 0, fmt.Errorf("block %d is asked for, block %d with %d leaves came", height, response.GetHeight(), len(leaves))
	}
	r, err := record.Parse(leaves[len(leaves)-1].GetRecord())
	if err != nil {
		return 0, fmt.Errorf("the header of block %d: %w", height, err)
	}
	return r.GetBlockHeader().GetFirstIndex() + uint64(r.GetBlockHeader().GetRecordCount()), nil
}
