package forensic_test

import (
	"cmp"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// inService is ±7 km/h up to 100 km/h and ±7 % above, in thousandths of a km/h.
func inService() *recordv1.NationalTable {
	return &recordv1.NationalTable{
		Bands:    []*recordv1.ErrorBand{{UpTo: 100_000, Absolute: 7_000}, {RelativePpm: 70_000}},
		Rounding: recordv1.Rounding_ROUNDING_DOWN, Step: 1,
	}
}

// rounded is that table with another rounding.
func rounded(r recordv1.Rounding, step int64) *recordv1.NationalTable {
	t := inService()
	t.Rounding, t.Step = r, step
	return t
}

func TestConsiderIsMeasuredMinusPermissibleError(t *testing.T) {
	down, half, up := recordv1.Rounding_ROUNDING_DOWN, recordv1.Rounding_ROUNDING_HALF_UP, recordv1.Rounding_ROUNDING_UP
	for _, c := range []struct {
		name              string
		table             *recordv1.NationalTable
		measured          int64
		millionths, value int64
	}{
		{"150 km/h is 139.5", inService(), 150_000, 10_500_000_000, 139_500},
		{"the end of the first band", inService(), 100_000, 7_000_000_000, 93_000},
		{"the beginning of the second", inService(), 100_001, 7_000_070_000, 93_000}, // 93.00093 exactly
		{"nothing is left", inService(), 6_999, 7_000_000_000, 0},
		{"just nothing is left", inService(), 7_000, 7_000_000_000, 0},
		{"the first that is left", inService(), 7_001, 7_000_000_000, 1},
		{"0", inService(), 0, 7_000_000_000, 0},
		{"down to whole km/h", rounded(down, 1000), 150_000, 10_500_000_000, 139_000},
		{"a half upwards", rounded(half, 1000), 150_000, 10_500_000_000, 140_000},
		{"below a half", rounded(half, 1000), 149_999, 10_499_930_000, 139_000},
		{"up to whole km/h", rounded(up, 1000), 149_999, 10_499_930_000, 140_000},
		{"up, when it is whole", rounded(up, 1000), 80_000, 7_000_000_000, 73_000},
		{"never above the measured value", rounded(up, 1_000_000), 150_000, 10_500_000_000, 0},
		{"the largest", inService(), forensic.MaxNumber, 70_000_000_000_000_000, 930_000_000_000},
		{"the largest, rounded by the largest step", rounded(up, forensic.MaxNumber), forensic.MaxNumber, 70_000_000_000_000_000, forensic.MaxNumber},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := forensic.Consider(c.table, c.measured)
			if want := (forensic.Considered{Measured: c.measured, ErrorMillionths: c.millionths, Value: c.value}); err != nil || got != want {
				t.Fatalf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}

// An oracle with numbers of any length says the same, also at the bounds.
func TestConsiderAgreesWithExactFractions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	number := func() int64 { // every magnitude, and the bounds themselves
		switch n := int64(1) << random.IntN(41); random.IntN(8) {
		case 0:
			return forensic.MaxNumber
		default:
			return min(1+random.Int64N(n), forensic.MaxNumber)
		}
	}
	for range 50_000 {
		table := &recordv1.NationalTable{Rounding: recordv1.Rounding(1 + random.IntN(3)), Step: number()}
		band := &recordv1.ErrorBand{Absolute: number()}
		if random.IntN(2) == 0 {
			band = &recordv1.ErrorBand{RelativePpm: uint32(min(number(), forensic.MaxPPM))}
		}
		table.Bands = []*recordv1.ErrorBand{band}
		measured := number()
		got, err := forensic.Consider(table, measured)
		if err != nil {
			t.Fatal(err)
		}
		if want := oracle(table, measured); got.Value != want {
			t.Fatalf("%v of %d gives %d, exactly it is %d", table, measured, got.Value, want)
		}
	}
}

func oracle(t *recordv1.NationalTable, measured int64) int64 {
	exact := new(big.Rat).SetInt64(measured)
	permissible := new(big.Rat).SetInt64(t.Bands[0].Absolute)
	if t.Bands[0].Absolute == 0 {
		permissible = new(big.Rat).Mul(exact, big.NewRat(int64(t.Bands[0].RelativePpm), 1_000_000))
	}
	exact.Sub(exact, permissible)
	if exact.Sign() < 0 {
		return 0
	}
	steps := exact.Quo(exact, new(big.Rat).SetInt64(t.Step))
	switch t.Rounding {
	case recordv1.Rounding_ROUNDING_HALF_UP:
		steps.Add(steps, big.NewRat(1, 2))
	case recordv1.Rounding_ROUNDING_UP:
		steps.Add(steps, new(big.Rat).Sub(big.NewRat(1, 1), new(big.Rat).SetFrac(big.NewInt(1), steps.Denom())))
	}
	whole := new(big.Int).Div(steps.Num(), steps.Denom()).Int64() * t.Step
	if whole > measured {
		whole -= t.Step
	}
	return whole
}

func TestConsiderRefusesWhatATableIsNotFor(t *testing.T) {
	for _, measured := range []int64{-1, forensic.MaxNumber + 1} {
		if got, err := forensic.Consider(inService(), measured); reason.Of(err) != reason.InvalidStatement {
			t.Errorf("%d: %+v, %v", measured, got, err)
		}
	}
	if got, err := forensic.Consider(&recordv1.NationalTable{}, 1); reason.Of(err) != reason.InvalidStatement {
		t.Errorf("a table without bands: %+v, %v", got, err)
	}
}

func TestCheckTable(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*recordv1.NationalTable)
		good   bool
	}{
		"as it is":                {func(*recordv1.NationalTable) {}, true},
		"no band":                 {func(t *recordv1.NationalTable) { t.Bands = nil }, false},
		"16 bands":                {func(t *recordv1.NationalTable) { t.Bands = bands(16) }, true},
		"17 bands":                {func(t *recordv1.NationalTable) { t.Bands = bands(17) }, false},
		"one band":                {func(t *recordv1.NationalTable) { t.Bands = t.Bands[1:] }, true},
		"the last has an end":     {func(t *recordv1.NationalTable) { t.Bands[1].UpTo = 200_000 }, false},
		"the first has none":      {func(t *recordv1.NationalTable) { t.Bands[0].UpTo = 0 }, false},
		"bands do not ascend":     {func(t *recordv1.NationalTable) { t.Bands = append(t.Bands[:1], t.Bands...) }, false},
		"an end beyond the bound": {func(t *recordv1.NationalTable) { t.Bands[0].UpTo = forensic.MaxNumber + 1 }, false},
		"an end at the bound":     {func(t *recordv1.NationalTable) { t.Bands[0].UpTo = forensic.MaxNumber }, true},
		"a negative end":          {func(t *recordv1.NationalTable) { t.Bands[0].UpTo = -1 }, false},
		"two errors":              {func(t *recordv1.NationalTable) { t.Bands[0].RelativePpm = 1 }, false},
		"no error":                {func(t *recordv1.NationalTable) { t.Bands[1].RelativePpm = 0 }, false},
		"a negative error":        {func(t *recordv1.NationalTable) { t.Bands[0].Absolute = -1 }, false},
		"an error beyond":         {func(t *recordv1.NationalTable) { t.Bands[0].Absolute = forensic.MaxNumber + 1 }, false},
		"the whole value":         {func(t *recordv1.NationalTable) { t.Bands[1].RelativePpm = forensic.MaxPPM }, true},
		"more than the value":     {func(t *recordv1.NationalTable) { t.Bands[1].RelativePpm = forensic.MaxPPM + 1 }, false},
		"no rounding":             {func(t *recordv1.NationalTable) { t.Rounding = 0 }, false},
		"no step":                 {func(t *recordv1.NationalTable) { t.Step = 0 }, false},
		"a step beyond the bound": {func(t *recordv1.NationalTable) { t.Step = forensic.MaxNumber + 1 }, false},
		"the largest step of all": {func(t *recordv1.NationalTable) { t.Step = forensic.MaxNumber }, true},
	} {
		t.Run(name, func(t *testing.T) {
			table := proto.CloneOf(inService())
			c.change(table)
			if err := forensic.CheckTable(table); (err == nil) != c.good || err != nil && reason.Of(err) != reason.InvalidStatement {
				t.Fatalf("%v, want good %v", err, c.good)
			}
		})
	}
}

func bands(n int) []*recordv1.ErrorBand {
	list := make([]*recordv1.ErrorBand, n)
	for i := range list {
		list[i] = &recordv1.ErrorBand{UpTo: int64(i+1) * 1000, Absolute: 1}
	}
	list[n-1].UpTo = 0
	return list
}

// What another implementation must give, for each rounding and around each
// bound.
func TestConsideredVectors(t *testing.T) {
	type vector struct {
		Bands           []*recordv1.ErrorBand `json:"bands"`
		Rounding        string                `json:"rounding"`
		Step            int64                 `json:"step"`
		Measured        int64                 `json:"measured"`
		ErrorMillionths int64                 `json:"errorMillionths"`
		Considered      int64                 `json:"considered"`
	}
	var list []vector
	oiml := inService()
	oiml.Bands = []*recordv1.ErrorBand{{UpTo: 100_000, Absolute: 3_000}, {RelativePpm: 30_000}}
	tables := []*recordv1.NationalTable{inService(), oiml}
	for rounding := range recordv1.Rounding_name {
		if rounding != 0 {
			tables = append(tables, rounded(recordv1.Rounding(rounding), 1000), rounded(recordv1.Rounding(rounding), 1_000_000))
		}
	}
	slices.SortFunc(tables[2:], func(a, b *recordv1.NationalTable) int {
		return cmp.Or(cmp.Compare(a.GetRounding(), b.GetRounding()), cmp.Compare(a.GetStep(), b.GetStep()))
	})
	for _, table := range tables {
		for _, measured := range []int64{0, 6_999, 7_500, 99_999, 100_000, 100_001, 149_999, 150_000, forensic.MaxNumber} {
			c, err := forensic.Consider(table, measured)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, vector{table.GetBands(), table.GetRounding().String(), table.GetStep(), measured, c.ErrorMillionths, c.Value})
		}
	}
	golden.JSON(t, "considered.json", list)
}
