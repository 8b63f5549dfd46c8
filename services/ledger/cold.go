package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/services/ledger/internal/cold"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// ColdConfig says where raw vectors of old segments are kept, and from when.
type ColdConfig struct {
	Store   string        `yaml:"store" doc:"a directory, or the URL of a bucket such as s3://NAME?region=R&prefix=ID/ (credentials as the AWS SDK finds them), of this replica alone; empty: none, all are kept here"`
	After   time.Duration `yaml:"after" doc:"age of raw vectors, by the ledger's own time, from which they move; 0 means 2160h (90 days)"`
	Timeout time.Duration `yaml:"timeout" doc:"how long one request to it may take; 0 means 30s"`
}

const defaultColdAfter = 90 * 24 * time.Hour

func (c *ColdConfig) validate() error {
	var failures []error
	if c.After < 0 {
		failures = append(failures, fmt.Errorf("cold.after: is %s, want 0 or more", c.After))
	}
	if c.Timeout < 0 {
		failures = append(failures, fmt.Errorf("cold.timeout: is %s, want 0 or more", c.Timeout))
	}
	return errors.Join(failures...)
}

// openCold opens the configured cold storage for a store. One that does not answer
// keeps no replica from starting: it lacks what nobody may ask for.
func (s *Service) openCold(o *storage.Options) error {
	c := &s.config.Cold
	if c.Store == "" {
		return nil
	}
	ctx := context.Background()
	bucket, err := cold.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	s.cold, o.Cold, o.ColdTimeout = bucket, bucket, c.Timeout
	s.opened = append(s.opened, s.closeCold)
	if err := bucket.Check(ctx); err != nil {
		s.log.WarnContext(ctx, "cold storage does not answer; raw vectors in it cannot be read", "error", err)
	}
	return nil
}

func (s *Service) closeCold() error {
	if s.cold == nil {
		return nil
	}
	bucket := s.cold
	s.cold = nil
	return bucket.Close()
}

func coldUnnamed(segments uint32) error {
	return fmt.Errorf("raw vectors of %d segments are in cold storage, and none is configured\n       Remedy: name it in cold.store", segments)
}

// moveOld moves what has grown old to cold storage.
func (s *Service) moveOld(ctx context.Context) error {
	after := s.config.Cold.After
	if after == 0 {
		after = defaultColdAfter
	}
	return s.behind(ctx, "segment's raw vectors moved to cold storage",
		func() (bool, error) { return s.store.MoveCold(ctx, after, s.rest) },
		func() uint32 { return s.store.DroppedSegments() + s.store.ColdSegments() })
}
