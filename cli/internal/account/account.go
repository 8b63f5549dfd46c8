// Package account counts who computed what: whoever recomputes a measurement
// earns a preset amount for it whatever the result, so anyone must be able to
// count.
//
// Sources: metrology.md, "What the paper asks"; architecture, rules C4 and S5.
//
// Invariants:
//   - Only Measurement leaves count, each once for each organisation that
//     endorsed it: a set's claims that never became leaves earn nothing (rule
//     S5), and two endorsers of one organisation are one computation.
//   - Nothing is counted that the audit did not replay, and nothing above the
//     height that it found certified under the trust bundle.
//   - Time is block time, which a quorum certifies; never a meter's clock.
//
// The ledger knows no owner of a meter. Who accounts by owner brings a list.
package account

import (
	"context"
	"fmt"
	"iter"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// By says what the rows of an account are.
type By string

// What an account may be by.
const (
	Organisation By = "organisation" // that endorsed
	Meter        By = "meter"
	Site         By = "site"  // by the meter's registration
	Owner        By = "owner" // by the list that the caller brings
	Period       By = "period"
)

// Dimensions are all of them, in the order of the command's help.
var Dimensions = []By{Organisation, Owner, Meter, Site, Period}

// Options choose what is counted. Trust is needed.
type Options struct {
	Trust *trust.Bundle
	// FromUnixNano and UntilUnixNano bound the block times that count; the end is
	// not included, and 0 is open.
	FromUnixNano, UntilUnixNano int64
	By                          By
	Period                      string            // day, month or year, in UTC; for Period
	Owners                      map[string]string // by meter; for Owner
	Progress                    func(audit.Progress)
}

// Of accounts for a ledger: it replays all of it, compares it with its
// certificates, and counts what is certified. The account is nil when the audit
// finds that something does not hold; the report then says what. An error means
// that it could not go on.
func Of(ctx context.Context, source audit.Source, o Options) (*Account, *audit.Report, error) {
	t := newTally(o)
	report, err := audit.Run(ctx, counted{source, t}, audit.Options{Trust: o.Trust, LedgerOnly: true, Progress: o.Progress})
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	if report.CertifiedHeight < t.settled {
		return nil, report, fmt.Errorf("account: the newest certificate is of height %d, and blocks up to %d were counted; no ledger runs so far ahead", report.CertifiedHeight, t.settled)
	}
	return t.account(report), report, nil
}

// counted hands the source's blocks to the auditor, and to the tally once the
// auditor has taken them.
type counted struct {
	audit.Source
	tally *tally
}

// Blocks implements audit.Source.
func (c counted) Blocks(ctx context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for b, err := range c.Source.Blocks(ctx, from) {
			if !yield(b, err) || err != nil {
				return // also for a block that does not hold
			}
			c.tally.block(b)
		}
	}
}
