package receipt

import (
	"math"
	"testing"
)

func TestDecimalIsExact(t *testing.T) {
	for _, c := range []struct {
		number int64
		scale  int
		want   string
	}{
		{87_402, -3, "87.402"}, {-5, -3, "-0.005"}, {0, -2, "0.00"}, {7, 0, "7"}, {7, 3, "7000"}, {0, 3, "0"},
		{-229068000, -7, "-22.9068000"}, {math.MinInt64, -18, "-9.223372036854775808"}, {math.MinInt64, 0, "-9223372036854775808"},
	} {
		if got := decimal(c.number, c.scale); got != c.want {
			t.Errorf("%d times 10^%d is %s, want %s", c.number, c.scale, got, c.want)
		}
	}
}
