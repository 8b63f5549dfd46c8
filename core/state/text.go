package state

import (
	"encoding/hex"
	"strconv"

	"github.com/lacre-metrology/lacre/core/digest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// orZero is a stored digest, or the zero one where there is none.
func orZero(stored []byte) []byte {
	if len(stored) == 0 {
		return digest.Zero[:]
	}
	return stored
}

// shortOf shows the start of a stored digest.
func shortOf(stored []byte) string {
	if len(stored) < 4 {
		return "none"
	}
	return hex.EncodeToString(stored[:4]) + ".."
}
