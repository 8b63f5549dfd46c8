package page

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
)

// document is the page in the making.
type document struct{ strings.Builder }

func (d *document) add(format string, args ...any) { fmt.Fprintf(&d.Builder, format, args...) }

// table writes a table; a column is aligned as the numbers or the text in its
// first row.
func (d *document) table(caption string, head []string, rows [][]string) {
	number := func(cell string) bool {
		return cell != "" && strings.Trim(strings.TrimSuffix(cell, outside), "0123456789.,+-–") == ""
	}
	d.add("<table><caption>%s</caption><thead><tr>", html.EscapeString(caption))
	for i, h := range head {
		class := ""
		if len(rows) > 0 && number(rows[0][i]) {
			class = ` class="number"`
		}
		d.add(`<th scope="col"%s>%s</th>`, class, html.EscapeString(h))
	}
	d.add("</tr></thead><tbody>\n")
	for _, row := range rows {
		d.WriteString("<tr>")
		for _, cell := range row {
			var class []string
			if number(cell) {
				class = append(class, "number")
			} else if len(cell) < 15 {
				class = append(class, "short")
			}
			switch {
			case cell == notHeld || strings.HasSuffix(cell, outside):
				class = append(class, "bad")
			case cell == held:
				class = append(class, "good")
			}
			d.add(`<td class="%s">%s</td>`, strings.Join(class, " "), html.EscapeString(cell))
		}
		d.WriteString("</tr>\n")
	}
	d.WriteString("</tbody></table>\n")
}

// causes writes refusals by code.
func causes(refused map[string]int) string { return strings.Trim(campaign.Refusals(refused), "()") }

// Words of the tables.
const (
	held    = "held"
	notHeld = "NOT HELD"
	outside = " (!)" // after a figure that is outside its bound
)

// Write writes the page.
func Write(w io.Writer, r *Report) error {
	var d document
	d.add("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/><title>Accuracy of module %s</title>\n<style>%s</style></head><body>\n%s<main>\n",
		html.EscapeString(r.Module[:min(8, len(r.Module))]), style, patterns)
	d.summary(r)
	for i, g := range r.Campaign.Grids {
		c := r.Campaign.Config.Grids[i]
		switch g.Kind {
		case campaign.FreeFlow:
			d.freeFlow(g, c)
		case campaign.Accelerating:
			d.accelerating(g, c)
		case campaign.Faulty:
			d.faulty(g, c)
		}
	}
	d.closing(r)
	d.WriteString("</main></body></html>\n")
	_, err := io.WriteString(w, d.String())
	return err
}

func (d *document) summary(r *Report) {
	passes, cells := 0, 0
	for i, g := range r.Campaign.Grids {
		n := g.Bounded.Passes + g.Beyond.Passes
		passes += n
		cells += n / r.Campaign.Config.Grids[i].Passes
	}
	verdict, class, failed := "all criteria held", "good", 0
	for _, c := range r.Criteria {
		if !c.Held {
			failed++
		}
	}
	if !r.Held {
		verdict, class = fmt.Sprintf("%d of %d criteria NOT held", failed, len(r.Criteria)), "bad"
	}
	d.add("<h1>Accuracy campaign of a speed module</h1>\n<p class=\"verdict %s\">%s</p>\n", class, verdict)
	d.add("<p>%s simulated passes in %s cells, seed %d; module SHA-256 <code>%s</code>, measured by the %s; lacre %s. <strong>%s.</strong></p>\n",
		grouped(passes), grouped(cells), r.Campaign.Config.Seed, html.EscapeString(r.Module), html.EscapeString(r.Engine), html.EscapeString(r.Tool), html.EscapeString(sentence(r.Note)))
	d.add(`<p>The maximum permissible error (MPE, “the limit”) is 3 km/h up to 100 km/h and 3 %% above. The <em>one-sample error</em> v/(D·fs) is
what the speed v would be wrong by if the delay over the spacing D were wrong by one sample at the rate fs; the bounds apply
where it is below 3 %%, and everything else is run and shown just the same. A bound must hold for all passes of a grid together and for
each installation (rate and spacing) that has 1,000 such passes. An accepted value counts whatever its stated uncertainty.</p>
`)
	var rows [][]string
	for _, c := range r.Criteria {
		word := held
		if !c.Held {
			word = notHeld
		}
		rows = append(rows, []string{word, c.Grid, c.Name, c.Found})
	}
	d.table("Criteria", []string{"", "grid", "criterion", "found"}, rows)
}

func (d *document) heading(g campaign.GridReport, title string, c campaign.Grid) {
	d.add("<h2>%s <small>%s</small></h2>\n<p>%d channels, %s, spacings %s, %d speeds from %s to %s km/h, %d passes in each cell: %s in all, %s of them with a one-sample error below 3 %%.</p>\n",
		title, html.EscapeString(g.Name), g.Channels, list(c.RatesHz, "Hz"), list(c.SpacingsM, "m"), len(c.SpeedsKmh), short(c.SpeedsKmh[0]), short(c.SpeedsKmh[len(c.SpeedsKmh)-1]),
		c.Passes, grouped(g.Bounded.Passes+g.Beyond.Passes), grouped(g.Bounded.Passes))
}

func (d *document) figure(drawing, caption string) {
	d.add("<figure>%s<figcaption>%s</figcaption></figure>\n", drawing, html.EscapeString(caption))
}

func (d *document) freeFlow(g campaign.GridReport, c campaign.Grid) {
	d.heading(g, "Free flow", c)
	d.figure(errorPlot(g, c), "Error against speed. Each panel is an installation: columns are sample rates, rows spacings, each row with its own scale.")
	d.figure(coveragePlot(g, c), "How often the stated uncertainty U (k = 2) covers the true error. "+uncovered(g))
	d.figure(uncertaintyPlot(g, c), "The stated uncertainty grows as the rate resolves less, and so do the errors. Floors: the spacing is known to 6 mm (k = 2), and the budget's model term is 0.6 % (k = 2).")
	d.figure(refusalPlot(g, c, true), "Good passes that the module refused, by cause.")
	d.bands(g)
	d.installations(g)
	d.kinds(g)
	d.worst(g)
}

// uncovered names the cells in which U covers less than 95 %.
func uncovered(g campaign.GridReport) string {
	var cells []string
	n := 0
	for _, x := range g.Cells {
		if x.Accepted < 50 {
			continue
		}
		if n++; x.CoveredByU*100 < 95*x.Accepted {
			cells = append(cells, fmt.Sprintf("%s (%.2f %%)", x.Name(), campaign.Share(x.CoveredByU, x.Accepted)))
		}
	}
	if len(cells) == 0 {
		return fmt.Sprintf("It covers 95 %% or more in each of %s cells.", grouped(n))
	}
	return fmt.Sprintf("Of %s cells it covers less than 95 %% in %d: %s.", grouped(n), len(cells), strings.Join(cells[:min(10, len(cells))], ", "))
}

func (d *document) accelerating(g campaign.GridReport, c campaign.Grid) {
	d.heading(g, "Accelerations", c)
	d.add("<p>Constant accelerations of %s, speeding up or braking, as far as the speed does not change by more than 30 %% during the passage. The true speed is the mean of the front’s and the rear’s mean speeds over the array, as everywhere. A vehicle whose front and rear pass at different speeds has no one speed: refusals are right here and are not bounded.</p>\n", list(c.AccelerationsMss, "m/s²"))
	d.figure(refusalPlot(g, c, false), "Accelerating passes that the module refused, by cause.")
	d.bands(g)
	d.worst(g)
}

func (d *document) faulty(g campaign.GridReport, c campaign.Grid) {
	d.heading(g, "Faults", c)
	d.figure(faultPlot(g, c), "What became of faulty passes against the fault’s severity, on a scale of 0, invisible, to 1, gross; percent of passes, all rates, spacings and speeds.")
	var rows [][]string
	for _, row := range g.Faults {
		f := together(row)
		above := fmt.Sprint(f.AboveMPE())
		if row.Bounded.AboveMPE() > 0 {
			above += outside
		}
		rows = append(rows, []string{row.Fault, short(*row.Severity), grouped(f.Passes), grouped(f.Accepted), above, fmt.Sprintf("%.1f", f.LargestErrorPercent), causes(f.Refused)})
	}
	d.add("<details><summary>Figures of faults and severities</summary>\n")
	d.table("By fault and severity", []string{"fault", "severity", "passes", "accepted", "above the limit", "largest error, % of MPE", "refused by cause"}, rows)
	d.add("</details>\n")
	d.worst(g)
}

func (d *document) bands(g campaign.GridReport) {
	var rows [][]string
	for _, row := range g.Bands {
		f := row.Bounded
		if row.Band.From >= 3 {
			f = row.Beyond
		}
		if f.Passes > 0 {
			rows = append(rows, append([]string{fmt.Sprintf("%s to %s %%", short(row.Band.From), short(row.Band.To))}, figures(f)...))
		}
	}
	d.table("By one-sample error", append([]string{"one-sample error"}, figureHeads...), rows)
}

var figureHeads = []string{"passes", "refused, %", "above the limit", "beyond a third, %", "covered by U, %", "length covered, %", "mean error", "median", "95 %", "99 %", "largest", "median U", "refused by cause"}

// figures are a row's cells; errors and U are percent of the MPE.
func figures(f campaign.Figures) []string {
	share := func(part, whole int) string {
		if whole == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", campaign.Share(part, whole))
	}
	p := func(x float64) string { return fmt.Sprintf("%.1f", x) }
	return []string{
		grouped(f.Passes), share(f.Passes-f.Accepted, f.Passes), fmt.Sprint(f.AboveMPE()), share(f.Accepted-f.WithinThird, f.Accepted),
		share(f.CoveredByU, f.Accepted), share(f.LengthCoveredBy, f.Accepted), fmt.Sprintf("%+.1f", f.MeanErrorPercent),
		p(f.MedianErrorPercent), p(f.P95ErrorPercent), p(f.P99ErrorPercent), p(f.LargestErrorPercent), p(f.MedianUPercent), causes(f.Refused),
	}
}

func (d *document) installations(g campaign.GridReport) {
	for _, side := range []struct {
		name  string
		of    func(campaign.Row) campaign.Figures
		bound bool
	}{
		{"By installation, where the one-sample error is below 3 %; errors and U in percent of the MPE; (!) outside a bound", func(r campaign.Row) campaign.Figures { return r.Bounded }, true},
		{"By installation, where the one-sample error is 3 % or more", func(r campaign.Row) campaign.Figures { return r.Beyond }, false},
	} {
		var rows [][]string
		for _, row := range g.Installations {
			f := side.of(row)
			if f.Passes == 0 {
				continue
			}
			cells := figures(f)
			if side.bound && f.Passes >= campaign.JudgedAlone {
				for i, bad := range map[int]bool{
					1: (f.Passes-f.Accepted)*100 >= f.Passes, 2: f.AboveMPE() > 0, 3: (f.Accepted-f.WithinThird)*100 > f.Accepted,
					4: f.CoveredByU*100 < 95*f.Accepted, 5: f.LengthCoveredBy*100 < 95*f.Accepted, 11: f.MedianUPercent > 50,
				} {
					if bad {
						cells[i] += outside
					}
				}
			}
			rows = append(rows, append([]string{short(row.RateHz) + " Hz", short(row.SpacingM) + " m"}, cells...))
		}
		if len(rows) > 0 {
			d.table(side.name, append([]string{"rate", "spacing"}, figureHeads...), rows)
		}
	}
}

func (d *document) kinds(g campaign.GridReport) {
	var rows [][]string
	for _, kind := range []string{"motorcycle", "car", "van", "lorry", "lorry with trailer", "bumps", "plates", "wires", "circuits", "rectangle"} {
		counts := g.Kinds[kind]
		passes := 0
		for _, n := range counts {
			passes += n
		}
		if passes == 0 {
			continue
		}
		refused := map[string]int{}
		for code, n := range counts {
			if code != "VALID" {
				refused[code] = n
			}
		}
		rows = append(rows, []string{kind, grouped(passes), fmt.Sprintf("%.2f", campaign.Share(passes-counts["VALID"], passes)), causes(refused)})
	}
	d.table("Refusals by vehicle and by family of shapes, where the one-sample error is below 3 %", []string{"", "passes", "refused, %", "refused by cause"}, rows)
}

func (d *document) worst(g campaign.GridReport) {
	var rows [][]string
	for _, w := range g.Worst {
		share := fmt.Sprintf("%.1f", w.ErrorPercent)
		if w.ErrorPercent > 100 {
			share += outside
		}
		rows = append(rows, []string{w.Name, fmt.Sprintf("%.3f", w.SpeedKmh), fmt.Sprintf("%+.3f", w.ErrorKmh), fmt.Sprintf("%.3f", w.UKmh), share})
	}
	d.table("Accepted passes with the largest errors", []string{"pass", "true speed, km/h", "error, km/h", "stated U, km/h", "error, % of MPE"}, rows)
}

func (d *document) closing(r *Report) {
	e := r.Campaign.Engines
	d.add("<h2>How it was run</h2>\n<p>%s calls, the dearest used %s of fuel; %s of them on compiler and interpreter (one good pass in %d by lot, and every pass with a fault), %d differ in result bytes, fuel or outcome; %s results compared with the Go twin, %d differ.</p>\n",
		grouped(e.Calls), grouped(int(e.LargestFuel)), grouped(e.Checked), r.Campaign.Config.CheckOneIn, e.EnginesDiffer, grouped(e.TwinCompared), e.TwinsDiffer)
	if len(r.Campaign.Differing) > 0 {
		d.add("<p>Passes that differ: %s</p>\n", html.EscapeString(strings.Join(r.Campaign.Differing, ", ")))
	}
	d.add(`<p>Any pass can be repeated alone by its name, for instance <code>lacre module test --seed %d --pass NAME</code>; the whole campaign by
<code>lacre module test --full</code>. The same seed, module and architecture give the same report, whatever the number of workers.
Vehicles are motorcycles, cars, vans, lorries and lorries with trailers, in five families of pulse shapes, one of them (rectangle) never seen while the algorithm was made;
with noise, drift, unequal gains, crosstalk up to 0.3 %%, 14 to 16 bits, and spacings known to 3 mm (k = 1). The JSON report has the figures of every cell.</p>
`, r.Campaign.Config.Seed)
}

// grouped writes a whole number with commas.
func grouped(v int) string {
	s := fmt.Sprint(v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func sentence(s string) string {
	if s == "" {
		return "No note"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// list writes numbers with their unit.
func list(values []float64, unit string) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = grouped(int(math.Round(v)))
		if v != math.Round(v) {
			words[i] = short(v)
		}
	}
	return strings.Join(words, ", ") + " " + unit
}
