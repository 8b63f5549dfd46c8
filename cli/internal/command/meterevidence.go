package command

import (
	"context"
	"encoding/hex"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/meter"
)

// attached is what a meter saw beside each sample that it sends.
type attached struct {
	file, key, mediaType string
}

func (e *attached) flags(c *cobra.Command) {
	c.Flags().StringVar(&e.file, "evidence", "", "file that each sample names as evidence, sealed and uploaded")
	c.Flags().StringVar(&e.key, "evidence-key", "", "public key of the authority to which it is sealed, in hexadecimal")
	c.Flags().StringVar(&e.mediaType, "media-type", "image/jpeg", "what the evidence is")
}

// configure gives the meter the authority's key.
func (e *attached) configure(c *meter.Config) (err error) {
	if (e.file == "") != (e.key == "") {
		return usage("--evidence FILE and --evidence-key HEX go together")
	}
	if c.EvidenceKey, err = hex.DecodeString(e.key); err != nil {
		return usage("--evidence-key: %w", err)
	}
	return nil
}

// seal gives one more sealed copy of the file; none without a file.
func (e *attached) seal(m *meter.Meter) ([]sample.Evidence, error) {
	if e.file == "" {
		return nil, nil
	}
	f, err := os.Open(e.file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read.
	piece, err := m.AddEvidence(e.mediaType, f)
	return []sample.Evidence{piece}, err
}

// delivered waits until no evidence waits in the meter, or ctx ends; the next run
// sends what is left.
func (a *app) delivered(ctx context.Context, m *meter.Meter) error {
	for {
		left, err := m.PendingEvidence()
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			a.say("%d pieces of evidence wait in the outbox, and the next send sends them", len(left))
			return nil
		}
	}
}
