package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// pace is the least time between what a follower gets at the head of the ledger. A
// small ledger has a block every few milliseconds, and each one that a follower gets
// alone costs it a wake-up and a certificate; the blocks of a pace cost it one.
// Whatever comes after a longer quiet is sent at once.
const pace = 50 * time.Millisecond

// What a follower is sent in a row without a certificate is bounded: it holds what
// none covers yet, and drops it and asks another replica if none comes for 10 s.
const (
	maxBare      = time.Second
	maxBareBytes = 256 << 10
)

// StreamBlocks follows the ledger from a height and goes on as blocks are
// certified. Every block that is sent is certified here; its own certificate is
// sent along if it has one, and that of a later block covers it otherwise. Who
// follows the statements, and not only up to the head, gets the blocks of a pace
// together, with the certificate of the newest and those of blocks with statements.
func (s *Server) StreamBlocks(request *ledgerv1.StreamBlocksRequest, stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
	ctx := stream.Context()
	stop := s.Collector.Newest().Block.Height
	view := request.GetView()
	paced := view != ledgerv1.StreamView_STREAM_VIEW_RECORDS && view != ledgerv1.StreamView_STREAM_VIEW_FULL && !request.GetStopAtHead()
	var sent time.Time
	covered, bare := time.Now(), 0 // when the newest certificate was sent, and the bytes since then
	for height := request.GetFromHeight(); ; height++ {
		if request.GetStopAtHead() && height > stop {
			return nil
		}
		if paced && height > s.Collector.Newest().Block.Height {
			sleep(ctx, time.Until(sent.Add(pace)))
		}
		newest, err := s.Collector.Wait(ctx, height)
		if err != nil {
			return context.Cause(ctx)
		}
		response, err := s.block(height, view)
		if err != nil {
			return err
		}
		if paced && height < newest.Block.Height && mayBeBare(response.GetLeaves(), bare, time.Since(covered)) {
			response.Certificate = nil
		}
		if bare += proto.Size(response); len(response.GetCertificate()) > 0 {
			covered, bare = time.Now(), 0
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		sent = time.Now()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// mayBeBare says whether a block's certificate may be held back behind so many bytes
// without one, sent in so long. One with a statement comes with its own: leaves, in the
// administrative view, show nothing else but the header, the last.
func mayBeBare(leaves []*ledgerv1.Leaf, bare int, since time.Duration) bool {
	statement := func(l *ledgerv1.Leaf) bool { return l.GetRecord() != nil }
	return bare < maxBareBytes && since < maxBare && !slices.ContainsFunc(leaves[:len(leaves)-1], statement)
}

// block is a block as a view shows it; only the full one reads more than the leaves.
func (s *Server) block(height uint64, view ledgerv1.StreamView) (response *ledgerv1.StreamBlocksResponse, err error) {
	response = &ledgerv1.StreamBlocksResponse{Height: height}
	switch view {
	case ledgerv1.StreamView_STREAM_VIEW_FULL:
		var stored storage.Stored
		if stored, err = s.Store.Load(height); err == nil {
			response.Leaves, response.RawVectors = whole(stored.Leaves), vectors(stored)
		}
	case ledgerv1.StreamView_STREAM_VIEW_RECORDS:
		var leaves [][]byte
		if leaves, err = s.Store.Leaves(height); err == nil {
			response.Leaves = whole(leaves)
		}
	default:
		response.Leaves, err = s.followed.of(height, func() ([]*ledgerv1.Leaf, error) {
			leaves, err := s.Store.Leaves(height)
			return administrativeView(leaves), err
		})
	}
	if err != nil {
		return nil, err
	}
	response.Certificate, err = s.exactCertificate(height)
	return response, err
}

func whole(leaves [][]byte) []*ledgerv1.Leaf {
	out := make([]*ledgerv1.Leaf, len(leaves))
	for i, leaf := range leaves {
		out[i] = &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: leaf}}
	}
	return out
}

func administrativeView(leaves [][]byte) []*ledgerv1.Leaf {
	out := make([]*ledgerv1.Leaf, len(leaves))
	for i, leaf := range leaves {
		if administrative(leaf) {
			out[i] = &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: leaf}}
			continue
		}
		hash := tlog.LeafHash(leaf)
		out[i] = &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Hash{Hash: hash[:]}}
	}
	return out
}

// followedBlocks is for how many of the newest blocks what followers get is kept:
// more than are made within a pace.
const followedBlocks = 64

// followed is what followers get of the newest blocks, made once for all of them.
type followed struct {
	mu     sync.Mutex // held while a view is made: who comes meanwhile wants the same
	blocks [followedBlocks]followedBlock
}

// followedBlock is a block in the administrative view, which is never changed.
type followedBlock struct {
	height uint64
	leaves []*ledgerv1.Leaf // nil before the first
}

// of is the view of a block; see makes it. A block that is older than the one in
// its place is made for this caller alone.
func (f *followed) of(height uint64, see func() ([]*ledgerv1.Leaf, error)) ([]*ledgerv1.Leaf, error) {
	f.mu.Lock()
	kept := &f.blocks[height%followedBlocks]
	if kept.height > height {
		f.mu.Unlock()
		return see()
	}
	defer f.mu.Unlock()
	if kept.leaves != nil && kept.height == height {
		return kept.leaves, nil
	}
	leaves, err := see()
	if err == nil {
		*kept = followedBlock{height: height, leaves: leaves}
	}
	return leaves, err
}

// administrative leaves and headers are what followers get in full.
func administrative(leaf []byte) bool {
	r, err := record.Parse(leaf)
	if err != nil {
		return true // whoever follows shall see it
	}
	switch r.GetBody().(type) {
	case *recordv1.Record_Statement, *recordv1.Record_BlockHeader:
		return true
	}
	return false
}

func vectors(stored storage.Stored) [][]byte {
	out := make([][]byte, len(stored.RawVectors))
	for i, v := range stored.RawVectors {
		out[i] = v.Bytes
	}
	return out
}

// exactCertificate is the certificate of this very height, or nil.
func (s *Server) exactCertificate(height uint64) ([]byte, error) {
	c, ok, err := s.Certificates.From(height)
	if err != nil || !ok || c.Height != height {
		return nil, err
	}
	return c.Note, nil
}

// FetchBlocks streams whole blocks to a replica that lacks them. They need not
// be certified: the replica validates each by itself and checks certificates.
func (r *Replica) fetchBlocks(ctx context.Context, from, to uint64, send func(height uint64, stored storage.Stored, certificate []byte) error) error {
	head := r.server.Machine.Head().Block.Height
	if to > head {
		return reason.New(reason.NotFound, "block %d is wanted, the newest here is %d", to, head)
	}
	for height := from; height <= to && ctx.Err() == nil; height++ {
		stored, err := r.server.Store.Load(height)
		if err != nil {
			return err
		}
		certificate, err := r.server.exactCertificate(height)
		if err != nil {
			return err
		}
		if err := send(height, stored, certificate); err != nil {
			return err
		}
	}
	return ctx.Err()
}
