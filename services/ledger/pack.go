package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

const (
	// How many times as long packing rests as it works. All replicas fill a segment
	// at the same moment, so on a machine that they share a quarter of a core for
	// each would be felt as a stall; a sixteenth is enough for 64 MiB in some seconds.
	// When more than one segment waits, packing must catch up.
	packShare, packShareBehind = 15, 3
	// packInterval is when to look again for what has grown old, and for what could
	// not be packed or moved: the disk had no room for both forms, a backup was
	// read, cold storage did not answer.
	packInterval = time.Minute

	minSegmentBytes = 64 << 10
	maxSegmentBytes = 1 << 30
)

// pack packs full segments as they come, drops raw vectors that expired, and moves
// others to cold storage as they grow old, behind everything else.
func (s *Service) pack(ctx context.Context) error {
	ticker := time.NewTicker(packInterval)
	defer ticker.Stop()
	for {
		if err := s.packFull(ctx); err != nil {
			return err
		}
		if err := s.dropExpired(ctx); err != nil {
			return err
		}
		if err := s.moveOld(ctx); err != nil {
			return err
		}
		select {
		case <-s.store.Full():
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// packFull packs all that is full now. What fails without harm to the store is
// logged, and tried again later.
func (s *Service) packFull(ctx context.Context) error {
	return s.behind(ctx, "full segment is packed", func() (bool, error) { return s.store.Pack(ctx, s.rest) }, s.store.Packed)
}

// behind works segment by segment until there is no more.
func (s *Service) behind(ctx context.Context, what string, one func() (bool, error), count func() uint32) error {
	for {
		done, err := one()
		var lost *storage.DataLossError
		var poisoned *storage.PoisonedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &lost), errors.As(err, &poisoned):
			return err
		case err != nil:
			s.log.WarnContext(ctx, "no "+what, "error", err, "again_in", packInterval)
			return nil
		case !done:
			return nil
		}
		s.log.InfoContext(ctx, "a "+what, "segment", count())
	}
}

// rest is the storage.Rest of a running replica.
func (s *Service) rest(ctx context.Context, worked time.Duration) error {
	share := packShare
	if s.store.Unpacked() > 1 {
		share = packShareBehind
	}
	timer := time.NewTimer(time.Duration(share) * worked)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
