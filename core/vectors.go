// Package core is the domain without network or storage; its packages are
// below. It holds the golden vectors that other implementations are judged by.
//
// Source: docs/formats.md.
package core

import _ "embed"

//go:embed testdata/meter.json
var meterVectors []byte

// MeterVectors is testdata/meter.json: what a meter is given, and the exact
// bytes that it makes of it (docs/formats.md, "Samples"). The caller does not
// change it.
func MeterVectors() []byte { return meterVectors }
