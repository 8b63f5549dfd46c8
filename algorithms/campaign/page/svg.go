package page

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Colours after Okabe and Ito.
const (
	blue, sky, orange, green = "#0072b2", "#56b4e9", "#e69f00", "#009e73"
	red, pink, yellow, ink   = "#d55e00", "#cc79a7", "#f0e442", "#333333"
	faint, ground, accepted  = "#8a8f94", "#eceff1", "#dbe5ec"
)

// svg is a drawing in the making.
type svg struct {
	b      strings.Builder
	marks  map[string]*strings.Builder // paths by style
	styles []string                    // in the order of their first mark
}

// newSVG begins a drawing of a size in px; the title is what is read out instead.
func newSVG(width, height float64, title string) *svg {
	s := &svg{}
	fmt.Fprintf(&s.b, `<svg viewBox="0 0 %s %s" width="%s" height="%s" role="img"><title>%s</title>`, n(width), n(height), n(width), n(height), html.EscapeString(title))
	return s
}

func (s *svg) end() string {
	for _, style := range s.styles {
		fmt.Fprintf(&s.b, `<path %s d="%s"/>`, style, s.marks[style])
	}
	return s.b.String() + "</svg>\n"
}

// n writes a coordinate.
func n(x float64) string { return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64) }

func (s *svg) line(x1, y1, x2, y2 float64, style string) {
	fmt.Fprintf(&s.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" %s/>`, n(x1), n(y1), n(x2), n(y2), style)
}

func (s *svg) rect(x, y, w, h float64, style string) {
	if w > 0 && h > 0 {
		fmt.Fprintf(&s.b, `<rect x="%s" y="%s" width="%s" height="%s" %s/>`, n(x), n(y), n(w), n(h), style)
	}
}

// text writes at the start, middle or end of which x is.
func (s *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(&s.b, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, n(x), n(y), anchor, class, html.EscapeString(text))
}

// point is a place in px.
type point struct{ x, y float64 }

func (s *svg) path(points []point, style string) {
	if len(points) == 0 {
		return
	}
	s.b.WriteString(`<polyline fill="none" points="`)
	for i, p := range points {
		if i > 0 {
			s.b.WriteByte(' ')
		}
		s.b.WriteString(n(p.x) + "," + n(p.y))
	}
	s.b.WriteString(`" ` + style + `/>`)
}

// mark draws one of the shapes that tell series apart without colour. Marks of a
// shape and colour become one path, on top of the rest: so thousands stay small.
func (s *svg) mark(p point, shape int, colour string) {
	path := func(style, format string, dx, dy float64) {
		if s.marks == nil {
			s.marks = map[string]*strings.Builder{}
		}
		style = fmt.Sprintf(style, colour)
		if s.marks[style] == nil {
			s.marks[style] = &strings.Builder{}
			s.styles = append(s.styles, style)
		}
		fmt.Fprintf(s.marks[style], format, n(p.x+dx), n(p.y+dy))
	}
	const filled, drawn = `fill="%s" fill-opacity=".75"`, `fill="none" stroke="%s" stroke-width="1.2"`
	switch shape % 5 {
	case 0:
		path(`fill="none" stroke="%s" stroke-opacity=".75" stroke-width="4.4" stroke-linecap="round"`, "M%s %sh0", 0, 0)
	case 1:
		path(filled, "M%s %sh4v4h-4z", -2, -2)
	case 2:
		path(filled, "M%s %sl2.6 4.6h-5.2z", 0, -2.8)
	case 3:
		path(drawn, "M%s %sl5 5m0 -5l-5 5", -2.5, -2.5)
	default:
		path(drawn, "M%s %sl2.8 2.8l-2.8 2.8l-2.8 -2.8z", 0, -2.8)
	}
}

// axis maps values to px.
type axis struct {
	from, to float64 // values
	at, end  float64 // px
	log      bool
}

func (a axis) px(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		v, from, to = math.Log(v), math.Log(from), math.Log(to)
	}
	return a.at + (v-from)/(to-from)*(a.end-a.at)
}

// panel is the area of a plot.
type panel struct {
	*svg
	x, y axis
}

// frame draws ground, grid lines and tick labels; labels says which axes get
// theirs, so that neighbours in a row share them.
func (p panel) frame(xTicks, yTicks []float64, xLabels, yLabels bool) {
	p.rect(p.x.at, p.y.end, p.x.end-p.x.at, p.y.at-p.y.end, `class="ground"`)
	for _, v := range xTicks {
		x := p.x.px(v)
		p.line(x, p.y.at, x, p.y.end, `class="grid"`)
		if xLabels {
			p.text(x, p.y.at+13, "middle", "tick", short(v))
		}
	}
	for _, v := range yTicks {
		y := p.y.px(v)
		p.line(p.x.at, y, p.x.end, y, `class="grid"`)
		if yLabels {
			p.text(p.x.at-5, y+3.5, "end", "tick", short(v))
		}
	}
}

func (p panel) at(x, y float64) point {
	return point{p.x.px(x), math.Max(p.y.end, math.Min(p.y.at, p.y.px(y)))}
}

// short writes a number as a reader would.
func short(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// entry is one of a legend.
type entry struct {
	name string
	draw func(s *svg, at point) // within 20 px to the right of at
}

// legend draws entries in a row, at their names' estimated widths.
func (s *svg) legend(x, y float64, entries []entry) {
	for _, e := range entries {
		e.draw(s, point{x, y})
		s.text(x+25, y+3.5, "start", "label", e.name)
		x += 25 + 18
		for _, r := range e.name {
			if r >= 'A' && r <= 'Z' || r == '_' {
				x += 2
			}
			x += 6.3
		}
	}
}

func lineEntry(name, style string) entry {
	return entry{name, func(s *svg, at point) { s.line(at.x, at.y, at.x+20, at.y, style) }}
}

func boxEntry(name, style string) entry {
	return entry{name, func(s *svg, at point) { s.rect(at.x+4, at.y-6, 12, 12, style) }}
}

func markEntry(name string, shape int, colour string) entry {
	return entry{name, func(s *svg, at point) { s.mark(point{at.x + 10, at.y}, shape, colour) }}
}

// seriesColours go with the shapes of mark.
var seriesColours = []string{blue, red, green, orange, pink, ink}
