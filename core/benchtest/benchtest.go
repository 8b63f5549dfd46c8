// Package benchtest is what the benchmarks of all modules share: how they count
// CPU, and under which name they report it.
//
// Source: golang.org/design/14313-benchmark-format. Benchmarks are named after
// the stage, with settings as key=value, so that benchstat can tell them apart;
// cpu-ns/measurement is the stage's cost of one measurement.
package benchtest

import (
	"testing"
	"time"
)

// Unit is the metric of a stage's CPU for one measurement, in nanoseconds.
const Unit = "cpu-ns/measurement"

// Loop calls work until the benchmark has run long enough, and reports the CPU of
// the process for each of the measurements that one call serves. Unlike the
// elapsed time that says the same on a machine that does other work too.
func Loop(b *testing.B, measurements int, work func()) {
	b.Helper()
	b.ReportAllocs()
	before := CPU(b)
	for b.Loop() {
		work()
	}
	Report(b, CPU(b)-before, measurements)
}

// Report reports CPU that was spent on b.N times so many measurements.
func Report(b *testing.B, spent time.Duration, measurements int) {
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/float64(measurements), Unit)
}
