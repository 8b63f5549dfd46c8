package page

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// aReport runs a campaign of every kind of grid; wrong, its values are 4 km/h too
// high.
func aReport(t *testing.T, wrong bool) *Report {
	t.Helper()
	c := campaign.Config{
		Seed: 5, Families: sim.TuningFamilies, CheckOneIn: 2,
		Grids: []campaign.Grid{
			{Name: "free", Channels: 2, RatesHz: []float64{200, 1000}, SpacingsM: []float64{2, 3}, SpeedsKmh: []float64{20, 60, 150}, Passes: 8},
			{Name: "accelerating", Channels: 2, RatesHz: []float64{1000}, SpacingsM: []float64{2}, SpeedsKmh: []float64{60, 150}, Passes: 4, AccelerationsMss: []float64{0.5, 2}},
			{Name: "faults", Channels: 2, RatesHz: []float64{1000}, SpacingsM: []float64{2}, SpeedsKmh: []float64{60}, Passes: 2, Faults: sim.Faults, Severities: []float64{0, 0.5, 1}},
		},
	}
	r, err := campaign.Run(t.Context(), c, func(input []byte, check bool) (campaign.Answer, error) {
		output := speed.Measure(input)
		if wrong {
			output[9] += 16 // 4,096 m/h of the first value
		}
		return campaign.Answer{Output: output, Checked: check, EnginesDiffer: wrong && check}, nil
	}, campaign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	report := &Report{Module: strings.Repeat("ab", 32), Engine: "<engine>", Tool: "v0 & more", Note: "a note", Campaign: r}
	report.Criteria, report.Held = campaign.Judge(r)
	return report
}

// TestPageIsWellFormed XML, without scripts or references to anything else, and
// holds every criterion with its verdict, every grid, and how to repeat.
func TestPageIsWellFormed(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		r := aReport(t, wrong)
		var b bytes.Buffer
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		html := b.String()
		text, drawings := wellFormed(t, html)
		if drawings != 1+4+1+1 { // hatches; free flow; accelerating; faults
			t.Errorf("%d drawings", drawings)
		}
		for _, c := range r.Criteria {
			if !strings.Contains(text, c.Name) || !strings.Contains(text, c.Found) {
				t.Errorf("criterion %q with %q is not on the page", c.Name, c.Found)
			}
		}
		for _, want := range []string{r.Module, "<engine>", "v0 & more", "A note", "v/(D·fs)", "--pass NAME", "free", "accelerating", "faults", "two vehicles", r.Campaign.Grids[0].Worst[0].Name} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not on the page", want)
			}
		}
		if n := strings.Count(html, notHeld+"</td>"); wrong != (n > 0) || wrong == r.Held || wrong != strings.Contains(text, "criteria NOT held") || wrong != strings.Contains(text, "Passes that differ: free/") {
			t.Errorf("wrong %v: held %v, %d criteria are marked", wrong, r.Held, n)
		}
		for _, forbidden := range []string{"<script", "http://", "https://", "src=", "@import", "NaN", "Inf", "%!"} {
			if strings.Contains(html, forbidden) {
				t.Errorf("%q is on the page", forbidden)
			}
		}
	}
}

// wellFormed returns the text between tags, and counts drawings.
func wellFormed(t *testing.T, html string) (text string, drawings int) {
	t.Helper()
	var b strings.Builder
	for d := xml.NewDecoder(strings.NewReader(html)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), drawings
		}
		if err != nil {
			line, column := d.InputPos()
			t.Fatalf("line %d, column %d: %v", line, column, err)
		}
		switch x := token.(type) {
		case xml.CharData:
			b.Write(x)
		case xml.StartElement:
			if x.Name.Local == "svg" {
				drawings++
			}
		}
	}
}

// TestReportIsDeterministic, as JSON and as a page.
func TestReportIsDeterministic(t *testing.T) {
	var pages, reports [2][]byte
	for i := range pages {
		r := aReport(t, false)
		var b bytes.Buffer
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		report, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		pages[i], reports[i] = b.Bytes(), report
	}
	if !bytes.Equal(pages[0], pages[1]) || !bytes.Equal(reports[0], reports[1]) {
		t.Error("two runs of one campaign give two reports")
	}
}

// TestJSONKeepsItsValue: breaking lines changes no value, and rows stay on a line.
func TestJSONKeepsItsValue(t *testing.T) {
	r := aReport(t, true)
	pretty, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal(pretty, &a), json.Unmarshal(plain, &b)); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("another value: %v", err)
	}
	if !bytes.Contains(pretty, []byte("\n \"held\": false,\n")) || !bytes.Contains(pretty, []byte(" [200,2,20,")) {
		t.Errorf("not the expected lines:\n%s", pretty[:2000])
	}
	for in, want := range map[string]string{
		`{"a":"{\"b\":[1,2]}","c":[]}`: "{\n \"a\": \"{\\\"b\\\":[1,2]}\",\n \"c\": []\n}\n",
		`[[1,{"x":2}],{}]`:             "[\n [1,{\"x\": 2}],\n {}\n]\n",
	} {
		if got := string(lines([]byte(in), 1)); got != want {
			t.Errorf("%s becomes %q, want %q", in, got, want)
		}
	}
}
