package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/state"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Expired is what the source has no more because decisions on the ledger let it go
// (docs/adr/0017). It was not compared and not re-executed.
type Expired struct {
	RawVectors uint64 `json:"rawVectors"`
	// FromHeight and ToHeight are the first and the last block of which one is gone.
	FromHeight uint64     `json:"fromHeight"`
	ToHeight   uint64     `json:"toHeight"`
	Decisions  []Decision `json:"decisions"` // those that let them go, by their number
}

// Decision lets raw vectors go.
type Decision struct {
	Sequence      uint64   `json:"sequence"` // of the statement on raw-vectors
	Index         uint64   `json:"index"`    // of its leaf
	Height        uint64   `json:"height"`   // of the block that brought it
	BelowHeight   uint64   `json:"belowHeight"`
	Rule          string   `json:"rule"`
	Organisations []string `json:"organisations"` // whose root keys signed
	RawVectors    uint64   `json:"rawVectors"`    // that are gone by it
}

// String is the decision as a line.
func (d Decision) String() string {
	return fmt.Sprintf("%d by statement %d on raw-vectors, record %d of block %d, signed by %s, below block %d: %s",
		d.RawVectors, d.Sequence, d.Index, d.Height, strings.Join(d.Organisations, ", "), d.BelowHeight, d.Rule)
}

// absences are raw vectors that the source does not give. Whether a decision lets
// them go shows later in the ledger, so they are judged at its end.
type absences struct {
	blocks []absent  // ascending
	named  []Finding // the first of those that no decision covers so far, at most MaxFindings
}

// absent is how many raw vectors of a block are.
type absent struct{ height, count uint64 }

// add takes what would be a finding.
func (s *absences) add(f Finding, decided func() uint64) {
	if n := len(s.blocks); n == 0 || s.blocks[n-1].height != f.Height {
		s.blocks = append(s.blocks, absent{height: f.Height})
	}
	s.blocks[len(s.blocks)-1].count++
	if len(s.named) == MaxFindings {
		below := decided()
		s.named = slices.DeleteFunc(s.named, func(f Finding) bool { return f.Height < below })
	}
	if len(s.named) < MaxFindings {
		s.named = append(s.named, f)
	}
}

// judge tells what expired from what is lost, by the decisions of the ledger. cut
// says that the audit ended before the newest block, which may hold another decision.
func (s *absences) judge(decisions []*statev1.RawExpiry, cut bool) (expired Expired, lost []Finding) {
	expired.Decisions = []Decision{}
	verdict := receipt.Refuted
	if cut {
		verdict = receipt.Undecidable
	}
	below := uint64(0)
	if n := len(decisions); n > 0 {
		below = decisions[n-1].GetBelowHeight()
	}
	named := make(map[uint64]uint64)
	for _, f := range s.named {
		if f.Height >= below {
			f.Verdict = verdict
			lost, named[f.Height] = append(lost, f), named[f.Height]+1
		}
	}
	at := 0
	for _, b := range s.blocks {
		if b.height >= below {
			if more := b.count - named[b.height]; more > 0 {
				lost = append(lost, Finding{Kind: DataLoss, Verdict: verdict, Height: b.height,
					Detail: fmt.Sprintf("%d raw vectors of the block are absent, and no record lets them go", more)})
			}
			continue
		}
		for ; decisions[at].GetBelowHeight() <= b.height; at++ {
		}
		d := decisions[at]
		if n := len(expired.Decisions); n == 0 || expired.Decisions[n-1].Sequence != d.GetLast().GetSequence() {
			expired.Decisions = append(expired.Decisions, Decision{Sequence: d.GetLast().GetSequence(), Index: d.GetLast().GetIndex(),
				Height: d.GetHeight(), BelowHeight: d.GetBelowHeight(), Rule: d.GetRule(), Organisations: d.GetOrganisations()})
		}
		expired.Decisions[len(expired.Decisions)-1].RawVectors += b.count
		if expired.RawVectors == 0 {
			expired.FromHeight = b.height
		}
		expired.RawVectors, expired.ToHeight = expired.RawVectors+b.count, b.height
	}
	return expired, lost
}

// expired judges what the source did not give. A kept state that was damaged holds no
// decision, and lets nothing go.
func (a *auditor) expired() {
	decisions, err := state.Expiries(&view{State: a.state})
	if err != nil {
		decisions = nil
	}
	var lost []Finding
	a.report.Expired, lost = a.absences.judge(decisions, a.cut || a.ended)
	for _, f := range lost {
		a.find(f)
	}
}

// decided is the height below which raw vectors may be absent, as far as is replayed.
func (a *auditor) decided() uint64 {
	newest, err := state.NewestExpiry(&view{State: a.state})
	if err != nil {
		return 0
	}
	return newest.GetBelowHeight()
}
