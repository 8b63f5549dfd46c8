// Package source is where the auditor reads a ledger: a running replica over
// gRPC, or a replica's data directory.
//
// Source: sandbox/audit (the interface and who trusts what);
// proto/lacre/ledger/v1, the full view of StreamBlocks.
//
// Invariants:
//   - Nothing here judges. Bytes are handed on as they come; what does not fit
//     is the auditor's finding.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/lacre-metrology/lacre/core/record"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Replica reads a running replica, up to the height that is certified when the
// reading begins. A lost connection is an error; the audit's state continues.
func Replica(client ledgerv1.LedgerServiceClient) audit.Source {
	return replica{client, ledgerv1.StreamView_STREAM_VIEW_FULL}
}

// Records is Replica without the raw vectors, for a reader that looks at none.
func Records(client ledgerv1.LedgerServiceClient) audit.Source {
	return replica{client, ledgerv1.StreamView_STREAM_VIEW_RECORDS}
}

type replica struct {
	client ledgerv1.LedgerServiceClient
	view   ledgerv1.StreamView
}

// Blocks implements audit.Source.
func (r replica) Blocks(ctx context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		ctx, cancel := context.WithCancel(ctx) // ends the stream when the auditor stops early
		defer cancel()
		stream, err := r.client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{
			FromHeight: from, View: r.view, StopAtHead: true,
		})
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			response, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			var b *audit.Block
			if err == nil {
				b, err = block(response)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// block places the raw vectors beside their measurements.
func block(response *ledgerv1.StreamBlocksResponse) (*audit.Block, error) {
	b := &audit.Block{Height: response.GetHeight(), Certificate: response.GetCertificate(), Raw: make([][]byte, len(response.GetLeaves()))}
	vectors := response.GetRawVectors()
	for i, leaf := range response.GetLeaves() {
		content := leaf.GetRecord()
		if content == nil {
			return nil, fmt.Errorf("block %d: leaf %d came without its bytes, and they were asked for", b.Height, i)
		}
		b.Leaves = append(b.Leaves, content)
		if len(vectors) == 0 {
			continue
		}
		if r, err := record.Parse(content); err == nil && r.GetMeasurement() != nil {
			if len(vectors[0]) > 0 { // empty where they expired
				b.Raw[i] = vectors[0]
			}
			vectors = vectors[1:]
		}
	}
	if len(vectors) > 0 {
		return nil, fmt.Errorf("block %d: %d raw vectors more than measurements", b.Height, len(vectors))
	}
	return b, nil
}

// Directory reads a data directory that no replica writes to.
func Directory(a *ledger.Archive) audit.Source { return directory{a} }

type directory struct {
	archive *ledger.Archive
}

// Blocks implements audit.Source.
func (d directory) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for height := from; height < d.archive.Blocks(); height++ {
			stored, err := d.archive.Block(height)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&audit.Block{Height: height, Leaves: stored.Leaves, Raw: stored.RawVectors, Certificate: stored.Certificate}, nil) {
				return
			}
		}
	}
}
