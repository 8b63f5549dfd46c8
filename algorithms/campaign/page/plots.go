package page

import (
	"fmt"
	"math"
	"slices"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
)

// errorPlot is one panel for each installation: the error against speed.
func errorPlot(g campaign.GridReport, c campaign.Grid) string {
	const left, top, gap, rowGap = 78.0, 64.0, 10.0, 12.0
	columns, rows := float64(len(c.RatesHz)), float64(len(c.SpacingsM))
	width := min(360, (1130-left-gap*(columns-1))/columns)
	height := min(190, max(110, width*0.72))
	s := newSVG(max(760, left+columns*(width+gap)), top+rows*(height+rowGap)+36, "Error in percent of the maximum permissible error against speed, one panel for each rate and spacing; the table of installations has the figures")
	s.legend(left, 12, []entry{
		lineEntry("median", `stroke="`+blue+`" stroke-width="1.4"`),
		lineEntry("95 % of passes", `stroke="`+green+`" stroke-width="1.4" stroke-dasharray="5 2"`),
		lineEntry("99 %", `stroke="`+orange+`" stroke-width="1.6" stroke-dasharray="2 2"`),
		{"largest error of a cell", func(s *svg, at point) { s.mark(point{at.x + 10, at.y}, 0, ink) }},
	})
	s.legend(left, 32, []entry{
		lineEntry("maximum permissible error", `class="limit"`),
		lineEntry("a third of it", `class="third"`),
		boxEntry("one-sample error 3 % or more: the bounds do not apply", `class="beyond"`),
	})
	for j, spacing := range c.SpacingsM {
		limit := 45.0 // a row's panels have one scale; what lies above 130 % is marked
		for _, x := range g.Cells {
			if x.SpacingM == spacing {
				limit = max(limit, min(130, math.Ceil(x.LargestErrorPercent/10)*10+5))
			}
		}
		for i, rate := range c.RatesHz {
			p := panel{svg: s}
			p.x = axis{from: 0, to: slices.Max(c.SpeedsKmh), at: left + float64(i)*(width+gap), end: left + float64(i)*(width+gap) + width}
			p.y = axis{from: 0, to: limit, at: top + float64(j)*(height+rowGap) + height, end: top + float64(j)*(height+rowGap)}
			p.frame(upTo(p.x.to, 100), upTo(limit, 20), j == len(c.SpacingsM)-1, i == 0)
			if from := campaign.BoundedBelow * spacing * rate * 3.6; from < p.x.to {
				p.rect(p.x.px(from), p.y.end, p.x.end-p.x.px(from), p.y.at-p.y.end, `class="beyond"`)
			}
			if limit >= 100 {
				p.line(p.x.at, p.y.px(100), p.x.end, p.y.px(100), `class="limit"`)
			}
			p.line(p.x.at, p.y.px(100.0/3), p.x.end, p.y.px(100.0/3), `class="third"`)
			p.errorLines(g.Cells, rate, spacing)
			if j == 0 {
				s.text((p.x.at+p.x.end)/2, top-6, "middle", "head", short(rate)+" Hz")
			}
			if i == 0 {
				s.text(4, (p.y.at+p.y.end)/2+4, "start", "head", short(spacing)+" m")
			}
		}
	}
	s.text(left, top+rows*(height+rowGap)+24, "start", "label", "across: true speed, km/h; up: error, % of the maximum permissible error")
	return s.end()
}

func (p panel) errorLines(cells campaign.Cells, rate, spacing float64) {
	var median, p95, p99 []point
	for _, x := range cells {
		if x.RateHz != rate || x.SpacingM != spacing || x.Accepted == 0 {
			continue
		}
		v := x.SpeedKmh
		median, p95, p99 = append(median, p.at(v, x.MedianErrorPercent)), append(p95, p.at(v, x.P95ErrorPercent)), append(p99, p.at(v, x.P99ErrorPercent))
		if x.LargestErrorPercent > p.y.to {
			p.text(p.x.px(v), p.y.end+9, "middle", "over", "▲")
		} else {
			p.mark(p.at(v, x.LargestErrorPercent), 0, ink)
		}
	}
	p.path(median, `stroke="`+blue+`" stroke-width="1.4"`)
	p.path(p95, `stroke="`+green+`" stroke-width="1.4" stroke-dasharray="5 2"`)
	p.path(p99, `stroke="`+orange+`" stroke-width="1.6" stroke-dasharray="2 2"`)
}

// coveragePlot shows how often U covers the error, against speed and against the
// one-sample error.
func coveragePlot(g campaign.GridReport, c campaign.Grid) string {
	const left, top, width, height = 60.0, 34.0, 480.0, 240.0
	lowest := 94.0
	for _, x := range g.Cells {
		if x.Accepted >= 50 {
			lowest = min(lowest, math.Floor(campaign.Share(x.CoveredByU, x.Accepted)))
		}
	}
	s := newSVG(2*(left+width)+30, top+height+48, "Share of accepted passes whose error the stated uncertainty covers, against speed and against the one-sample error; the tables have the figures")
	levels := upTo(100-lowest, nice((100-lowest)/6))
	for i := range levels {
		levels[i] += lowest
	}
	y := axis{from: lowest, to: 100.3, at: top + height, end: top}
	p := panel{s, axis{from: 0, to: slices.Max(c.SpeedsKmh), at: left, end: left + width}, y}
	p.frame(upTo(slices.Max(c.SpeedsKmh), 25), levels, true, true)
	p.line(p.x.at, y.px(95), p.x.end, y.px(95), `class="limit"`)
	draw := func(figures func(campaign.Row) campaign.Figures, style string) {
		var points []point
		for _, row := range g.Speeds {
			if f := figures(row); f.Accepted >= 50 {
				points = append(points, p.at(row.SpeedKmh, campaign.Share(f.CoveredByU, f.Accepted)))
			}
		}
		p.path(points, style)
	}
	bounded, beyond := `stroke="`+blue+`" stroke-width="1.8"`, `stroke="`+orange+`" stroke-width="1.8" stroke-dasharray="5 2"`
	draw(func(r campaign.Row) campaign.Figures { return r.Bounded }, bounded)
	draw(func(r campaign.Row) campaign.Figures { return r.Beyond }, beyond)
	s.legend(left, 14, []entry{
		lineEntry("below 3 %", bounded), lineEntry("3 % or more", beyond),
		lineEntry("bound 95 %", `class="limit"`),
	})
	s.text(left+width/2, top+height+34, "middle", "label", "true speed, km/h; all installations together, covered by U (k = 2), %")

	q := panel{s, oneSampleAxis(g, 2*left+width+20, width), y}
	q.frame(oneSampleTicks(q.x), levels, true, true)
	q.line(q.x.at, y.px(95), q.x.end, y.px(95), `class="limit"`)
	q.line(q.x.px(3), q.y.at, q.x.px(3), q.y.end, `class="third"`)
	for _, x := range g.Cells {
		if x.Accepted >= 50 {
			i := slices.Index(c.SpacingsM, x.SpacingM)
			q.mark(q.at(100*x.OneSample(), campaign.Share(x.CoveredByU, x.Accepted)), i, seriesColours[i%len(seriesColours)])
		}
	}
	s.legend(q.x.at, 14, spacingEntries(c))
	s.text(q.x.at+width/2, top+height+34, "middle", "label", "one-sample error v/(D fs), %; each mark a cell of 50 accepted passes or more")
	return s.end()
}

// upTo returns 0, step, ... up to a limit.
func upTo(limit, step float64) []float64 {
	var ticks []float64
	for i := 0; step*float64(i) <= limit; i++ {
		ticks = append(ticks, step*float64(i))
	}
	return ticks
}

// nice rounds a step up to 1, 2 or 5 times a power of ten.
func nice(step float64) float64 {
	scale := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5} {
		if step <= m*scale*1.0001 {
			return m * scale
		}
	}
	return 10 * scale
}

func spacingEntries(c campaign.Grid) []entry {
	var entries []entry
	for i, d := range c.SpacingsM {
		entries = append(entries, markEntry(short(d)+" m", i, seriesColours[i%len(seriesColours)]))
	}
	return entries
}

func oneSampleAxis(g campaign.GridReport, at, width float64) axis {
	low, high := math.Inf(1), 0.0
	for _, x := range g.Cells {
		low, high = min(low, 100*x.OneSample()), max(high, 100*x.OneSample())
	}
	return axis{from: low * 0.8, to: high * 1.25, at: at, end: at + width, log: true}
}

func oneSampleTicks(a axis) []float64 {
	return slices.DeleteFunc([]float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30}, func(v float64) bool { return v < a.from || v > a.to })
}

// uncertaintyPlot shows that U grows as the rate resolves less: the median of U
// and, beside it on the same scale, the error that 95 % of the passes keep.
func uncertaintyPlot(g campaign.GridReport, c campaign.Grid) string {
	const left, top, width, height = 60.0, 34.0, 480.0, 280.0
	s := newSVG(2*(left+width)+30, top+height+48, "Median stated uncertainty, and the 95th percentile of the error, in percent of the speed against the one-sample error; the table of bands has the figures")
	y := axis{from: 0.1, to: 10, at: top + height, end: top, log: true}
	for k, what := range []struct {
		name  string
		value func(campaign.CellFigures) float64 // percent of the MPE
	}{
		{"median of the stated U (k = 2), % of the speed", func(x campaign.CellFigures) float64 { return x.MedianUPercent }},
		{"error that 95 % of the passes keep, % of the speed", func(x campaign.CellFigures) float64 { return x.P95ErrorPercent }},
	} {
		p := panel{s, oneSampleAxis(g, left+float64(k)*(left+width+20), width), y}
		p.frame(oneSampleTicks(p.x), []float64{0.1, 0.3, 1, 3, 10}, true, true)
		p.line(p.x.px(3), p.y.at, p.x.px(3), p.y.end, `class="third"`)
		var diagonal []point
		for v := p.x.from; v <= p.x.to; v *= 1.02 {
			if v >= y.from && v <= y.to {
				diagonal = append(diagonal, p.at(v, v))
			}
		}
		p.path(diagonal, `stroke="`+faint+`" stroke-dasharray="6 3"`)
		for _, x := range g.Cells {
			if value := what.value(x) * campaign.MPE(x.SpeedKmh) / x.SpeedKmh; x.Accepted >= 5 && value > 0 {
				i := slices.Index(c.SpacingsM, x.SpacingM)
				p.mark(p.at(100*x.OneSample(), value), i, seriesColours[i%len(seriesColours)])
			}
		}
		s.text(p.x.at, 14, "start", "head", what.name)
		s.text(p.x.at+width/2, top+height+34, "middle", "label", "one-sample error v/(D fs), %")
	}
	s.legend(left+4, top+14, append(spacingEntries(c), lineEntry("U = one sample", `stroke="`+faint+`" stroke-dasharray="6 3"`)))
	return s.end()
}

// codeStyle is how a code looks, in every plot alike; the hatched ones are of the
// patterns that the page defines.
func codeStyle(code string) string {
	fills := map[string]string{
		"LANE_CHANGE": orange, "SPEEDS_DISAGREE": sky, "TWO_VEHICLES": green, "MISSING_EDGE": yellow, "REVERSAL": blue,
		"CLIPPING": red, "SATURATION": pink, "LOW_SNR": ink, "DEAD_CHANNEL": "url(#hatch-grey)", "NO_VEHICLE": "url(#hatch-blue)",
		"OUT_OF_RANGE": "url(#hatch-green)", "MALFORMED_INPUT": "url(#hatch-orange)", "EXECUTION_FAILED": "url(#hatch-red)",
	}
	fill := fills[code]
	if fill == "" {
		fill = faint
	}
	return `fill="` + fill + `" stroke="#fff" stroke-width=".4"`
}

// codes lists the codes that occur, the most frequent first.
func codes(all ...map[string]int) []string {
	sum := map[string]int{}
	for _, m := range all {
		for code, n := range m {
			sum[code] += n
		}
	}
	var names []string
	for code := range sum {
		names = append(names, code)
	}
	slices.SortFunc(names, func(a, b string) int {
		if sum[a] != sum[b] {
			return sum[b] - sum[a]
		}
		if a < b {
			return -1
		}
		return 1
	})
	return names
}

// refusalPlot stacks refusals by cause against speed, apart below and from 3 %;
// bounded says that there is a bound on all of them.
func refusalPlot(g campaign.GridReport, c campaign.Grid, bounded bool) string {
	const left, top, width, height = 60.0, 54.0, 480.0, 220.0
	names := codes(g.Bounded.Refused, g.Beyond.Refused)
	s := newSVG(2*(left+width)+30, top+height+48, "Refused passes by cause in percent against speed, where the bounds apply and where not")
	highest := 1.0
	for _, row := range g.Speeds {
		for _, f := range []campaign.Figures{row.Bounded, row.Beyond} {
			if f.Passes > 0 {
				highest = max(highest, campaign.Share(f.Passes-f.Accepted, f.Passes))
			}
		}
	}
	step := nice(highest / 6)
	levels := upTo(highest+step, step)
	y := axis{from: 0, to: levels[len(levels)-1], at: top + height, end: top}
	for k, side := range []struct {
		name string
		of   func(campaign.Row) campaign.Figures
	}{
		{"refused, %, where the one-sample error is below 3 %", func(r campaign.Row) campaign.Figures { return r.Bounded }},
		{"refused, %, where it is 3 % or more", func(r campaign.Row) campaign.Figures { return r.Beyond }},
	} {
		top := slices.Max(c.SpeedsKmh)
		p := panel{s, axis{from: 0, to: top * 1.02, at: left + float64(k)*(left+width+20), end: left + width + float64(k)*(left+width+20)}, y}
		p.frame(upTo(slices.Max(c.SpeedsKmh), 25), levels, true, true)
		bar := width / (1.02 * top) * 0.8 * gapOf(c.SpeedsKmh)
		for _, row := range g.Speeds {
			p.stack(p.x.px(row.SpeedKmh)-bar/2, bar, names, side.of(row), false)
		}
		if bounded && k == 0 {
			p.line(p.x.at, y.px(1), p.x.end, y.px(1), `class="limit"`)
		}
		s.text(p.x.at, 44, "start", "head", side.name)
		s.text(p.x.at+width/2, 54+height+34, "middle", "label", "true speed, km/h")
	}
	var entries []entry
	for _, name := range names {
		entries = append(entries, boxEntry(name, codeStyle(name)))
	}
	if bounded {
		entries = append(entries, lineEntry("bound: 1 % of all", `class="limit"`))
	}
	s.legend(left, 14, entries)
	return s.end()
}

// gapOf is the least distance between neighbours.
func gapOf(sorted []float64) float64 {
	gap := math.Inf(1)
	for i := 1; i < len(sorted); i++ {
		gap = min(gap, sorted[i]-sorted[i-1])
	}
	if math.IsInf(gap, 1) {
		return 10
	}
	return gap
}

// stack draws one bar: refusals by code from below and, if asked, what was
// accepted, above the limit at the very top.
func (p panel) stack(x, width float64, names []string, f campaign.Figures, all bool) {
	if f.Passes == 0 {
		return
	}
	from := 0.0
	piece := func(count int, style string) {
		to := from + 100*float64(count)/float64(f.Passes)
		p.rect(x, p.y.px(to), width, p.y.px(from)-p.y.px(to), style)
		from = to
	}
	for _, name := range names {
		piece(f.Refused[name], codeStyle(name))
	}
	if all {
		piece(f.WithinMPE, `fill="`+accepted+`"`)
		piece(f.AboveMPE(), `fill="url(#hatch-red)"`)
	}
}

// faultPlot has a panel for each fault: what became of its passes, by severity.
func faultPlot(g campaign.GridReport, c campaign.Grid) string {
	const left, top, width, height, gap, columns = 40.0, 74.0, 262.0, 120.0, 18.0, 4
	names := codes(g.Bounded.Refused, g.Beyond.Refused)
	rows := (len(c.Faults) + columns - 1) / columns
	most := slices.Max(c.Severities) // the grid has some (campaign.Grid.check)
	s := newSVG(left+columns*(width+gap), top+float64(rows)*(height+44)+10, "What became of passes with faults, by severity; the table of faults has the figures")
	var entries []entry
	for _, name := range names {
		entries = append(entries, boxEntry(name, codeStyle(name)))
	}
	entries = append(entries, boxEntry("accepted, within the limit", `fill="`+accepted+`"`), boxEntry("accepted, above the limit", `fill="url(#hatch-red)"`))
	s.legend(left, 12, entries[:min(6, len(entries))])
	s.legend(left, 32, entries[min(6, len(entries)):min(12, len(entries))])
	s.legend(left, 52, entries[min(12, len(entries)):])
	for k, fault := range c.Faults {
		x, y := left+float64(k%columns)*(width+gap), top+float64(k/columns)*(height+44)
		p := panel{s, axis{from: -0.06 * most, to: 1.06 * most, at: x, end: x + width}, axis{from: 0, to: 100, at: y + height + 14, end: y + 14}}
		p.frame([]float64{0, most / 2, most}, []float64{0, 50, 100}, true, k%columns == 0)
		bar := width / 1.12 * 0.85 * gapOf(c.Severities) / most
		for _, row := range g.Faults {
			if row.Fault == fault.String() {
				p.stack(p.x.px(*row.Severity)-bar/2, bar, names, together(row), true)
			}
		}
		s.text(x, y+9, "start", "head", fmt.Sprint(fault))
	}
	return s.end()
}

// together adds up counts on both sides of 3 %; the percentiles are of neither.
func together(r campaign.Row) campaign.Figures {
	a, b := r.Bounded, r.Beyond
	f := campaign.Figures{
		Passes: a.Passes + b.Passes, Accepted: a.Accepted + b.Accepted, WithinMPE: a.WithinMPE + b.WithinMPE, CoveredByU: a.CoveredByU + b.CoveredByU,
		LargestErrorPercent: max(a.LargestErrorPercent, b.LargestErrorPercent), Refused: map[string]int{},
	}
	for _, refused := range []map[string]int{a.Refused, b.Refused} {
		for code, n := range refused {
			f.Refused[code] += n
		}
	}
	return f
}
