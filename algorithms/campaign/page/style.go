package page

import _ "embed"

// style is the page's whole appearance.
//
//go:embed style.css
var style string

// patterns are the hatched fills of the plots.
var patterns = `<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>` +
	hatch("grey", ink) + hatch("blue", blue) + hatch("green", green) + hatch("orange", orange) + hatch("red", red) + `</defs></svg>` + "\n"

func hatch(name, colour string) string {
	return `<pattern id="hatch-` + name + `" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="4" height="4" fill="#fff"/><rect width="2" height="4" fill="` + colour + `"/></pattern>`
}
