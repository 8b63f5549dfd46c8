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
//   - A site is where the meter stood at the capture, by the parameters in force
//     then: those under which the endorsers computed.
//
// The ledger knows no owner of a meter. Who accounts by owner brings a list.
package account

import (
	"context"
	"fmt"

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
	Site         By = "site"  // in force at the capture
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
	// Resume counts only the blocks after an earlier account's, or audit's. It is
	// not changed.
	Resume   *audit.State
	Progress func(audit.Progress)
}

// Of accounts for a ledger: it replays all of it, or what came after
// Options.Resume, compares it with its certificates, and counts what is
// certified. The account is nil when the audit finds that something does not
// hold; the report then says what. An error means that it could not go on.
func Of(ctx context.Context, source audit.Source, o Options) (*Account, *audit.Report, error) {
	t := newTally(o)
	if o.Resume != nil {
		if !o.Resume.Settled() {
			return nil, nil, fmt.Errorf("account: the state ends at block %d, which no certificate covered then: what lies between would be counted never, or twice; begin at the genesis block, or at a state whose last block is certified", o.Resume.Next()-1)
		}
		t.after = o.Resume.ViewFrom(ctx, source)
	}
	report, err := audit.Run(ctx, source, audit.Options{Trust: o.Trust, LedgerOnly: true, Resume: o.Resume, Replayed: t.block, Progress: o.Progress})
	if err == nil {
		err = t.failed
	}
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	if report.CertifiedHeight < t.settled {
		return nil, report, fmt.Errorf("account: the newest certificate is of height %d, and blocks up to %d were counted; no ledger runs so far ahead", report.CertifiedHeight, t.settled)
	}
	counted, err := t.account(report)
	return counted, report, err
}
