package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/receipt"
)

const exampleTables = "../../../examples/tables"

func TestWholeOf(t *testing.T) {
	for _, c := range []struct {
		text  string
		scale int
		want  int64
		good  bool
	}{
		{"150", -3, 150_000, true}, {"139.5", -3, 139_500, true}, {"0.001", -3, 1, true}, {"0", -3, 0, true}, {"1500", 2, 15, true},
		{"100.0000", -3, 100_000, true}, {"7", 0, 7, true},
		{"0.0001", -3, 0, false}, {"-1", -3, 0, false}, {"+1", -3, 0, false}, {"", -3, 0, false}, {".5", -3, 0, false}, {"1.2.3", -3, 0, false},
		{"150", 2, 0, false}, {"9223372036854775808", 0, 0, false}, {"9223372036854776", -3, 0, false}, {"1e3", -3, 0, false},
	} {
		got, err := wholeOf(c.text, c.scale)
		if got != c.want || (err == nil) != c.good {
			t.Errorf("%q at scale %d: %d, %v; want %d", c.text, c.scale, got, err, c.want)
		}
	}
}

// The example tables are about a value of the speed module, say that their
// source is secondary, and give the source's own example.
func TestExampleTablesFitTheSpeedModule(t *testing.T) {
	files, err := filepath.Glob(exampleTables + "/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		table, err := readTable(file)
		if err != nil {
			t.Fatal(err)
		}
		value := speed.Schema().Values[speed.ValueSpeed]
		if table.GetValue() != value.Name || table.GetUnit() != value.Unit || int(table.GetScale()) != value.Scale {
			t.Errorf("%s is about %s in %s times 10^%d, the module gives %+v", file, table.GetValue(), table.GetUnit(), table.GetScale(), value)
		}
		if table.GetSourceStatus().String() != "SOURCE_STATUS_SECONDARY" || !strings.Contains(table.GetSource(), "not verified against") {
			t.Errorf("%s claims %v: %s", file, table.GetSourceStatus(), table.GetSource())
		}
		if table.GetTableId()+".json" != filepath.Base(file) {
			t.Errorf("%s holds table %s", file, table.GetTableId())
		}
	}
	br, err := readTable(exampleTables + "/br.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := forensic.Consider(br, 150_000)
	if err != nil || receipt.Decimal(c.Value, -3) != "139.500" {
		t.Errorf("150 km/h is considered as %d, %v", c.Value, err)
	}
}

func TestReadTableRefusesWhatIsTheDrafts(t *testing.T) {
	good, err := os.ReadFile(exampleTables + "/br.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a version":        strings.Replace(string(good), `"tableId"`, `"version": 1, "tableId"`, 1),
		"a beginning":      strings.Replace(string(good), `"tableId"`, `"validFromUnixNano": "1", "tableId"`, 1),
		"a header":         strings.Replace(string(good), `"tableId"`, `"header": {}, "tableId"`, 1),
		"an unknown field": strings.Replace(string(good), `"tableId"`, `"unknown": 1, "tableId"`, 1),
		"no bands":         strings.Replace(string(good), `"upTo": "100000", "absolute": "7000"`, ``, 1),
		"no JSON":          "{",
	} {
		path := filepath.Join(t.TempDir(), "table.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTable(path); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
