// Package completeness shows that nothing is missing between two samples of a
// meter: consecutive counters, each sample naming the digest of the one before.
//
// Source: architecture, rules S3 and S6; docs/formats.md, "Completeness".
//
// Invariants:
//   - Nothing in a file is trusted: every item has an inclusion proof to one
//     certificate's tree, and every sample the meter's signature.
//   - Complete means that every counter of the span is there. One that is not is
//     named; the file cannot say whether the ledger has it, only that it does not
//     show it.
//   - Pure: no clock and no I/O.
//
// That registration and rollovers were signed by a notified body is on the
// certificate's word: the quorum that certified their leaves judged them.
package completeness

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Version is the version of the files.
const Version = 1

// Bounds of a file.
const (
	MaxMeasurements = 1024 // a longer span is several files
	MaxRollovers    = 64
	MaxBytes        = 64 << 20 // above the sum of all items at their largest
	maxPathHashes   = 64
)

// Build encodes a file in its one form; the version is filled in. Errors are
// *reason.Error: TooLarge, Malformed or NotCanonical.
func Build(c *recordv1.Completeness) ([]byte, error) {
	c.Version = Version
	if err := check(c); err != nil {
		return nil, err
	}
	encoded, err := wire.Encode(c)
	if err != nil {
		return nil, reason.New(reason.NotCanonical, "%v", err)
	}
	return encoded, nil
}

// Parse reads what Build writes, and nothing else. It proves form only. Errors
// are *reason.Error: TooLarge, NotCanonical or Malformed.
func Parse(encoded []byte) (*recordv1.Completeness, error) {
	c := new(recordv1.Completeness)
	if err := record.Decode(encoded, MaxBytes, c); err != nil {
		return nil, err
	}
	return c, check(c)
}

func check(c *recordv1.Completeness) error {
	first, last := c.GetFirstCounter(), c.GetLastCounter()
	switch {
	case c.GetVersion() != Version:
		return reason.New(reason.Malformed, "file has version %d, want %d", c.GetVersion(), Version)
	case first == 0 || last < first:
		return reason.New(reason.Malformed, "span of counters %d to %d, want ascending ones from 1", first, last)
	case last-first >= MaxMeasurements:
		return reason.New(reason.TooLarge, "span of counters %d to %d, a file covers at most %d", first, last, MaxMeasurements)
	case len(c.GetMeasurements()) > MaxMeasurements || len(c.GetRollovers()) > MaxRollovers:
		return reason.New(reason.TooLarge, "file has %d measurements and %d rollovers, the limits are %d and %d",
			len(c.GetMeasurements()), len(c.GetRollovers()), MaxMeasurements, MaxRollovers)
	case c.GetRegistration() == nil:
		return reason.New(reason.Malformed, "file has no registration")
	}
	items := append([]*recordv1.ProvenRecord{c.GetRegistration()}, c.GetRollovers()...)
	for _, p := range append(items, c.GetMeasurements()...) {
		if n := len(p.GetRecord()); n == 0 || n > record.MaxBytes {
			return reason.New(reason.TooLarge, "file has a record of %d bytes, want 1 to %d", n, record.MaxBytes)
		}
		if n := len(p.GetProof()); n > maxPathHashes {
			return reason.New(reason.TooLarge, "file has a proof of %d hashes, at most %d", n, maxPathHashes)
		}
		for _, h := range p.GetProof() {
			if len(h) != digest.Size {
				return reason.New(reason.Malformed, "file has a proof with a hash of %d bytes, want %d", len(h), digest.Size)
			}
		}
	}
	return nil
}
