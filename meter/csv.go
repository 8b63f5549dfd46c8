package meter

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/sample"
)

// ImportOptions say how the numbers of a file become 16-bit samples. The zero
// value reads any file: see Scale.
type ImportOptions struct {
	// Scale is samples per unit of the file: each value becomes
	// round((value - Offset) * Scale), halves to even, and must fit 16 bits. With 0
	// the file decides: the first row is the zero of each channel, and one scale
	// for all channels puts the largest deviation at 24,000, so that nothing looks
	// saturated and the channels keep their proportions.
	Scale  float64
	Offset float64 // in units of the file; only with Scale

	Comma        rune // between columns; default ','
	DecimalComma bool // "0,25" instead of "0.25"; then Comma defaults to ';'
}

// autoPeak is where the automatic scale puts the largest deviation.
const autoPeak = 24_000

// LineError says which line of a file cannot be read, and why.
type LineError struct {
	Line   int // 1-based
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// ImportCSV reads a recording: one column for each channel (2 to
// sample.MaxChannels), one row for each instant, numbers in any unit. A first
// line without any number is a header; lines that begin with # are comments;
// empty lines count for nothing. The result has one slice for each channel,
// ready for Capture.Channels.
//
// The sampling rate is not in the file: it is the meter's (Config), and the
// rows must have been taken at that rate. Nothing is resampled. Errors are
// *LineError, or the reader's. testdata/example.csv is an example.
func ImportCSV(r io.Reader, options ImportOptions) ([][]int16, error) {
	if options.Scale != 0 && (math.IsNaN(options.Scale) || math.IsInf(options.Scale, 0)) || math.IsNaN(options.Offset) || math.IsInf(options.Offset, 0) {
		return nil, fmt.Errorf("scale %v and offset %v are not finite", options.Scale, options.Offset)
	}
	rows, err := readRows(r, options)
	if err != nil {
		return nil, err
	}
	scale := options.Scale
	offsets := make([]float64, len(rows[0].values))
	for c := range offsets {
		offsets[c] = options.Offset
	}
	if scale == 0 {
		copy(offsets, rows[0].values)
		scale = automaticScale(rows, offsets)
	}
	samples := make([][]int16, len(offsets))
	for c := range samples {
		samples[c] = make([]int16, len(rows))
		for i, row := range rows {
			x := math.RoundToEven((row.values[c] - offsets[c]) * scale)
			if !(x >= math.MinInt16 && x <= math.MaxInt16) { // also when it is not a number
				return nil, &LineError{row.line, fmt.Sprintf("column %d: %v gives sample %v, outside -32768 to 32767", c+1, row.values[c], x)}
			}
			samples[c][i] = int16(x)
		}
	}
	return samples, nil
}

// row is one instant.
type row struct {
	line   int
	values []float64
}

// automaticScale is 1 for a file without any deviation.
func automaticScale(rows []row, offsets []float64) float64 {
	largest := 0.0
	for _, row := range rows {
		for c, v := range row.values {
			largest = max(largest, math.Abs(v-offsets[c]))
		}
	}
	if largest == 0 {
		return 1
	}
	return autoPeak / largest
}

func readRows(r io.Reader, options ImportOptions) ([]row, error) {
	comma := options.Comma
	switch {
	case comma == 0 && options.DecimalComma:
		comma = ';'
	case comma == 0:
		comma = ','
	}
	if options.DecimalComma && comma == ',' {
		return nil, errors.New("a comma cannot separate columns and decimals at once")
	}
	in := csv.NewReader(bufio.NewReader(r))
	in.Comma, in.Comment, in.FieldsPerRecord = comma, '#', -1
	in.TrimLeadingSpace, in.ReuseRecord = true, true
	var rows []row
	for first := true; ; first = false {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var parse *csv.ParseError
			if errors.As(err, &parse) {
				return nil, &LineError{parse.Line, parse.Err.Error()}
			}
			return nil, err
		}
		line, _ := in.FieldPos(0)
		values, err := parseRow(fields, options.DecimalComma)
		if err != nil {
			if first && noNumbers(fields, options.DecimalComma) {
				continue
			}
			return nil, &LineError{line, err.Error()}
		}
		switch {
		case len(values) < 2 || len(values) > sample.MaxChannels:
			return nil, &LineError{line, fmt.Sprintf("%d columns, want 2 to %d, one for each channel", len(values), sample.MaxChannels)}
		case len(rows) > 0 && len(values) != len(rows[0].values):
			return nil, &LineError{line, fmt.Sprintf("%d columns, line %d has %d", len(values), rows[0].line, len(rows[0].values))}
		case len(rows) == sample.MaxSamplesPerChannel:
			return nil, &LineError{line, fmt.Sprintf("more than %d rows", sample.MaxSamplesPerChannel)}
		}
		rows = append(rows, row{line: line, values: values})
	}
	if len(rows) == 0 {
		return nil, errors.New("the file has no row of numbers")
	}
	return rows, nil
}

func parseRow(fields []string, decimalComma bool) ([]float64, error) {
	values := make([]float64, len(fields))
	for c, field := range fields {
		v, ok := parseNumber(field, decimalComma)
		if !ok {
			return nil, fmt.Errorf("column %d: %.40q is not a finite decimal number", c+1, field)
		}
		values[c] = v
	}
	return values, nil
}

// parseNumber takes decimal notation only: no hexadecimal, no underscores, no
// words for what is not finite.
func parseNumber(field string, decimalComma bool) (float64, bool) {
	field = strings.TrimSpace(field)
	if decimalComma {
		if strings.Contains(field, ".") {
			return 0, false
		}
		field = strings.Replace(field, ",", ".", 1)
	}
	if strings.Trim(field, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(field, 64)
	return v, err == nil
}

func noNumbers(fields []string, decimalComma bool) bool {
	for _, field := range fields {
		if _, ok := parseNumber(field, decimalComma); ok {
			return false
		}
	}
	return true
}
