package meter

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/sample"
)

func TestImportCSV(t *testing.T) {
	for _, c := range []struct {
		name    string
		text    string
		options ImportOptions
		want    [][]int16
	}{
		{"explicit scale", "1,2\n-1,0.5\n", ImportOptions{Scale: 10}, [][]int16{{10, -10}, {20, 5}}},
		{"offset", "101,102\n99,100\n", ImportOptions{Scale: 10, Offset: 100}, [][]int16{{10, -10}, {20, 0}}},
		{"halves to even", "0.5,1.5\n2.5,-0.5\n", ImportOptions{Scale: 1}, [][]int16{{0, 2}, {2, 0}}},
		{"automatic", "100,5\n103,5\n100,4\n", ImportOptions{}, [][]int16{{0, 24000, 0}, {0, 0, -8000}}},
		{"automatic, nothing there", "7,7\n7,7\n", ImportOptions{}, [][]int16{{0, 0}, {0, 0}}},
		{"header, comment, empty line, CRLF", "# unit: mV\r\na,b\r\n\r\n1,2\r\n", ImportOptions{Scale: 1}, [][]int16{{1}, {2}}},
		{"decimal comma", "0,5;1\n-1,5e0;2\n", ImportOptions{Scale: 2, DecimalComma: true}, [][]int16{{1, -3}, {2, 4}}},
		{"tabs", "1\t2\n", ImportOptions{Scale: 1, Comma: '\t'}, [][]int16{{1}, {2}}},
		{"the ends of the range", "32767,-32768\n", ImportOptions{Scale: 1}, [][]int16{{32767}, {-32768}}},
		{"quoted", "\"1\", 2 \n", ImportOptions{Scale: 1}, [][]int16{{1}, {2}}},
	} {
		got, err := ImportCSV(strings.NewReader(c.text), c.options)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestImportCSVNamesTheLine(t *testing.T) {
	for _, c := range []struct {
		name string
		text string
		line int
	}{
		{"one column", "1\n", 1},
		{"too many columns", strings.Repeat("1,", sample.MaxChannels) + "1\n", 1},
		{"ragged", "1,2\n\n1,2,3\n", 3},
		{"word in a row", "1,2\n1,x\n", 2},
		{"half a header", "loop 1,2\n", 1},
		{"a second header", "a,b\nc,d\n1,2\n", 2},
		{"not a number", "1,2\n3,NaN\n", 2},
		{"infinite", "1,2\n3,Inf\n", 2},
		{"beyond float64", "1,1e999\n", 1},
		{"hexadecimal", "1,0x10\n", 1},
		{"empty field", "1,2\n3,\n", 2},
		{"beyond 16 bits", "1,2\n3,32768\n", 2},
		{"bare quote", "1,2\n3,\"4\n", 2},
		{"too long", strings.Repeat("1,2\n", sample.MaxSamplesPerChannel+1), sample.MaxSamplesPerChannel + 1},
	} {
		_, err := ImportCSV(strings.NewReader(c.text), ImportOptions{Scale: 1})
		var at *LineError
		if !errors.As(err, &at) || at.Line != c.line {
			t.Errorf("%s: %v, want an error of line %d", c.name, err, c.line)
		}
	}
	for _, text := range []string{"", "a,b\n", "# nothing\n"} {
		if _, err := ImportCSV(strings.NewReader(text), ImportOptions{}); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	if _, err := ImportCSV(strings.NewReader("1,2\n"), ImportOptions{Comma: ',', DecimalComma: true}); err == nil {
		t.Error("one comma for two purposes was accepted")
	}
}

func TestExampleFile(t *testing.T) {
	f, err := os.Open("testdata/example.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	samples, err := ImportCSV(f, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != 2 || len(samples[0]) != 800 {
		t.Fatalf("%d channels of %d samples, want 2 of 800", len(samples), len(samples[0]))
	}
	// Where each channel first passes half of its peak: 100 ms apart, 2 m at 72 km/h.
	var edges [2]int
	for c, channel := range samples {
		for edges[c] < len(channel) && channel[edges[c]] < 11_000 {
			edges[c]++
		}
	}
	if d := edges[1] - edges[0]; d < 99 || d > 101 {
		t.Errorf("leading edges are %d samples apart, want 100", d)
	}
}

func FuzzImportCSV(f *testing.F) {
	f.Add("a,b\n1,2\n", 0.0, false)
	f.Add("1;2,5\n", 3.0, true)
	f.Fuzz(func(t *testing.T, text string, scale float64, decimalComma bool) {
		samples, err := ImportCSV(strings.NewReader(text), ImportOptions{Scale: scale, DecimalComma: decimalComma})
		if err != nil {
			return
		}
		if len(samples) < 2 || len(samples) > sample.MaxChannels || len(samples[0]) == 0 {
			t.Fatalf("%d channels", len(samples))
		}
		for _, channel := range samples {
			if len(channel) != len(samples[0]) {
				t.Fatal("ragged")
			}
		}
	})
}
