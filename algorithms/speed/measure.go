// Package speed holds the legally relevant speed algorithm.
package speed

import "github.com/lacre-metrology/lacre/algorithms/abi"

// Measure is the twin of the module; a placeholder until the algorithm lands.
func Measure(input []byte) []byte {
	b, _ := abi.EncodeOutput(abi.Output{Code: MalformedInput, Values: make([]int64, ValueCount)})
	return b
}
