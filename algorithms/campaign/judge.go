package campaign

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Criterion is one thing that must hold.
type Criterion struct {
	Grid  string `json:"grid,omitempty"` // empty: the whole campaign
	Name  string `json:"name"`
	Held  bool   `json:"held"`
	Found string `json:"found"`
}

// JudgedAlone is how many passes an installation must have to be judged by
// itself: below, one pass would be a tenth of a bound of one percent or more.
const JudgedAlone = 1000

// bound is a bound on the figures of many passes. The bounds are part of the
// specification (issue "The whole path", part 4) and are not to be moved.
type bound struct {
	name  string
	held  func(Figures) bool
	found func(Figures) string
	brief func(Figures) string // of one installation among many; nil: found
}

func atLeast(part, whole, percent int) bool { return part*100 >= whole*percent }

var (
	withinMPE = bound{
		"every accepted value within 3 km/h, 3 % above 100 km/h",
		func(f Figures) bool { return f.Accepted > 0 && f.WithinMPE == f.Accepted },
		func(f Figures) string {
			return fmt.Sprintf("%d of %d, at most %.1f %% of the limit", f.WithinMPE, f.Accepted, f.LargestErrorPercent)
		},
		nil,
	}
	withinThird = bound{
		"99 % within a third of that",
		func(f Figures) bool { return f.Accepted > 0 && atLeast(f.WithinThird, f.Accepted, 99) },
		func(f Figures) string { return fmt.Sprintf("%.3f %%", Share(f.WithinThird, f.Accepted)) },
		nil,
	}
	covered = bound{
		"stated U (k=2) covers at least 95 %",
		func(f Figures) bool { return f.Accepted > 0 && atLeast(f.CoveredByU, f.Accepted, 95) },
		func(f Figures) string {
			return fmt.Sprintf("%.3f %% of %d", Share(f.CoveredByU, f.Accepted), f.Accepted)
		},
		nil,
	}
	medianU = bound{
		"median U at most half the limit",
		func(f Figures) bool { return f.Accepted > 0 && f.MedianUPercent <= 50 },
		func(f Figures) string { return fmt.Sprintf("%.1f %% of the limit", f.MedianUPercent) },
		nil,
	}
	lengthCovered = bound{
		"the length's stated U (k=2) covers at least 95 %",
		func(f Figures) bool { return f.Accepted > 0 && atLeast(f.LengthCoveredBy, f.Accepted, 95) },
		func(f Figures) string { return fmt.Sprintf("%.3f %%", Share(f.LengthCoveredBy, f.Accepted)) },
		nil,
	}
	refused = bound{
		"under 1 % of good passes refused",
		func(f Figures) bool { return (f.Passes-f.Accepted)*100 < f.Passes },
		func(f Figures) string {
			return fmt.Sprintf("%.3f %% %s", Share(f.Passes-f.Accepted, f.Passes), Refusals(f.Refused))
		},
		func(f Figures) string { return fmt.Sprintf("%.2f %%", Share(f.Passes-f.Accepted, f.Passes)) },
	}
	noneAbove = bound{
		"no faulty pass accepted with an error above the limit",
		func(f Figures) bool { return f.AboveMPE() == 0 },
		func(f Figures) string {
			return fmt.Sprintf("%d of %d accepted; refused %s", f.AboveMPE(), f.Accepted, Refusals(f.Refused))
		},
		func(f Figures) string { return fmt.Sprintf("%d of %d", f.AboveMPE(), f.Accepted) },
	}
	coveredBeyond = bound{"where the one-sample error is 3 % or more, stated U (k=2) still covers at least 95 %", covered.held, covered.found, nil}
)

// Judge draws up the criteria of a report, and tells whether all hold. A grid's
// bounds must hold for all its passes in cells below BoundedBelow together, and
// for each installation (rate and spacing) that has JudgedAlone such passes.
func Judge(r Report) (all []Criterion, held bool) {
	for _, g := range r.Grids {
		bounded := func(row Row) Figures { return row.Bounded }
		switch g.Kind {
		case FreeFlow:
			for _, b := range []bound{withinMPE, withinThird, covered, medianU, lengthCovered, refused} {
				all = append(all, b.judge(g, g.Bounded, bounded))
			}
		case Accelerating:
			for _, b := range []bound{withinMPE, covered} {
				all = append(all, b.judge(g, g.Bounded, bounded))
			}
		case Faulty:
			all = append(all, noneAbove.judge(g, g.Bounded, bounded))
		}
		if g.Kind != Faulty && g.Beyond.Accepted > 0 {
			all = append(all, coveredBeyond.judge(g, g.Beyond, func(row Row) Figures { return row.Beyond }))
		}
	}
	e := r.Engines
	add := func(held bool, name, format string, args ...any) {
		all = append(all, Criterion{Name: name, Held: held, Found: fmt.Sprintf(format, args...)})
	}
	add(e.Failed == 0, "no trap, no lack of fuel, no malformed output", "%d of %d calls; the dearest used %d of fuel", e.Failed, e.Calls, e.LargestFuel)
	if e.Checked > 0 {
		add(e.EnginesDiffer == 0, "compiler and interpreter agree", "%d of %d calls on both differ", e.EnginesDiffer, e.Checked)
	}
	if e.TwinCompared > 0 {
		add(e.TwinsDiffer == 0, "the Go twin gives the same bytes", "%d of %d results differ", e.TwinsDiffer, e.TwinCompared)
	}
	held = true
	for _, c := range all {
		held = held && c.Held
	}
	return all, held
}

// judge applies a bound to a grid's passes and to its installations.
func (b bound) judge(g GridReport, together Figures, part func(Row) Figures) Criterion {
	c := Criterion{Grid: g.Name, Name: b.name, Held: b.held(together), Found: b.found(together)}
	judged, failed, brief := 0, []string{}, b.brief
	if brief == nil {
		brief = b.found
	}
	for _, row := range g.Installations {
		f := part(row)
		if f.Passes < JudgedAlone {
			continue
		}
		if judged++; !b.held(f) {
			failed = append(failed, fmt.Sprintf("%g Hz, %g m: %s", row.RateHz, row.SpacingM, brief(f)))
		}
	}
	switch {
	case len(failed) > 0:
		c.Held = false
		c.Found += fmt.Sprintf("; not in %d of %d installations (%s)", len(failed), judged, strings.Join(failed, "; "))
	case judged > 1:
		c.Found += fmt.Sprintf("; and in each of %d installations", judged)
	}
	return c
}

// Refusals writes counts by code, ordered by name; empty for none.
func Refusals(refused map[string]int) string {
	if len(refused) == 0 {
		return ""
	}
	b, err := json.Marshal(refused)
	if err != nil {
		return ""
	}
	return strings.NewReplacer(`"`, "", "{", "(", "}", ")", ":", " ", ",", ", ").Replace(string(b))
}
