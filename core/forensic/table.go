package forensic

import (
	"github.com/lacre-metrology/lacre/core/reason"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The bounds of a table, from which it follows that nothing in Consider
// overflows.
const (
	MaxBands  = 16
	MaxNumber = 1_000_000_000_000 // of a limit, an error, a step and a measured value
	MaxPPM    = 1_000_000         // a relative error of the whole value
)

// CheckTable says whether a table has a considered value for every measured
// one: 1 to MaxBands bands, ascending, the last one and only it without an end,
// each with one error; a rounding and a step. Errors are *reason.Error,
// InvalidStatement.
func CheckTable(t *recordv1.NationalTable) error {
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	bands := t.GetBands()
	if n := len(bands); n == 0 || n > MaxBands {
		return invalid("%d bands, want 1 to %d", n, MaxBands)
	}
	below := int64(0)
	for i, b := range bands {
		last := i == len(bands)-1
		switch {
		case last && b.GetUpTo() != 0:
			return invalid("the last band ends at %d, want 0: it has no end", b.GetUpTo())
		case !last && (b.GetUpTo() <= below || b.GetUpTo() > MaxNumber):
			return invalid("band %d ends at %d after %d, want an ascending limit up to %d", i, b.GetUpTo(), below, int64(MaxNumber))
		case (b.GetAbsolute() == 0) == (b.GetRelativePpm() == 0):
			return invalid("band %d has the errors %d and %d ppm, want exactly one of them", i, b.GetAbsolute(), b.GetRelativePpm())
		case b.GetAbsolute() < 0 || b.GetAbsolute() > MaxNumber || b.GetRelativePpm() > MaxPPM:
			return invalid("band %d has the errors %d and %d ppm, want at most %d or %d ppm", i, b.GetAbsolute(), b.GetRelativePpm(), int64(MaxNumber), MaxPPM)
		}
		below = b.GetUpTo()
	}
	switch {
	case t.GetRounding() == recordv1.Rounding_ROUNDING_UNSPECIFIED:
		return invalid("no rounding is given")
	case t.GetStep() < 1 || t.GetStep() > MaxNumber:
		return invalid("step %d, want 1 to %d", t.GetStep(), int64(MaxNumber))
	}
	return nil
}

// Considered is a measured value under a table. Numbers are in the table's unit
// and scale.
type Considered struct {
	Measured int64
	// ErrorMillionths is the maximum permissible error, exactly: whole millionths
	// of the table's unit times 10^scale.
	ErrorMillionths int64
	Value           int64 // the considered value
}

const million = 1_000_000

// Consider is measured minus the maximum permissible error, rounded to the
// table's step. Where that were negative it is 0; where rounding would lift it
// above the measured value, it is rounded down. Errors are *reason.Error,
// InvalidStatement: the table is none, or the value is not of 0 to MaxNumber.
func Consider(t *recordv1.NationalTable, measured int64) (Considered, error) {
	if err := CheckTable(t); err != nil {
		return Considered{}, err
	}
	if measured < 0 || measured > MaxNumber {
		return Considered{}, reason.New(reason.InvalidStatement, "measured value %d, a table holds for 0 to %d", measured, int64(MaxNumber))
	}
	c := Considered{Measured: measured, ErrorMillionths: permissible(t, measured)}
	// All of these are at most 10^18, and the sums below at most 2 * 10^18, far
	// from 2^63: measured, absolute and step are at most 10^12, ppm 10^6.
	exact, step := max(0, measured*million-c.ErrorMillionths), t.GetStep()*million
	switch t.GetRounding() {
	case recordv1.Rounding_ROUNDING_HALF_UP:
		exact += step / 2
	case recordv1.Rounding_ROUNDING_UP:
		exact += step - 1
	}
	c.Value = exact / step * t.GetStep()
	if c.Value > measured {
		c.Value -= t.GetStep()
	}
	return c, nil
}

// permissible is the error of the band that a value lies in, in millionths.
func permissible(t *recordv1.NationalTable, measured int64) int64 {
	bands := t.GetBands()
	band := bands[len(bands)-1]
	for _, b := range bands[:len(bands)-1] {
		if measured <= b.GetUpTo() {
			band = b
			break
		}
	}
	if band.GetAbsolute() > 0 {
		return band.GetAbsolute() * million
	}
	return measured * int64(band.GetRelativePpm())
}
