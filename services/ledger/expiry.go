package ledger

import (
	"context"
	"errors"

	"github.com/lacre-metrology/lacre/core/state"
)

// ExpiryConfig says what this replica does with raw vectors that a decision on the
// ledger lets go (docs/adr/0017). The decision obliges nobody to drop them.
type ExpiryConfig struct {
	Drop       bool `yaml:"drop" doc:"true: raw vectors that a decision on the ledger lets go are dropped, a whole packed segment at a time, and come back from nowhere; false: this replica keeps them"`
	DeleteCold bool `yaml:"delete_cold" doc:"true: their objects in cold storage are deleted too; false: they stay there, and nothing reads them any more"`
}

func (c *Config) validateExpiry() error {
	if c.Expiry.DeleteCold && (!c.Expiry.Drop || c.Cold.Store == "") {
		return errors.New("expiry.delete_cold: needs expiry.drop, and cold.store that says where the objects are")
	}
	return nil
}

// dropExpired drops what a certified decision lets go.
func (s *Service) dropExpired(ctx context.Context) error {
	if !s.config.Expiry.Drop {
		return nil
	}
	decision, err := state.NewestExpiry(s.store)
	if err != nil || decision == nil {
		return err
	}
	// It wakes this when it is applied. The certificate comes within a moment, or the next round sees it.
	waiting, cancel := context.WithTimeout(ctx, packInterval)
	_, err = s.collector.Wait(waiting, decision.GetHeight())
	if cancel(); err != nil {
		return ctx.Err()
	}
	certified := s.collector.Newest().Block.Height
	err = s.behind(ctx, "segment's expired raw vectors are dropped",
		func() (bool, error) { return s.store.DropExpired(certified) }, s.store.DroppedSegments)
	if err != nil || !s.config.Expiry.DeleteCold {
		return err
	}
	return s.behind(ctx, "dropped segment has no object in cold storage",
		func() (bool, error) { return s.store.EraseCold(ctx) }, s.store.DroppedSegments)
}
