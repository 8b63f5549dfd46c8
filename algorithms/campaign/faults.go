package campaign

import (
	"fmt"

	"github.com/lacre-metrology/lacre/algorithms/sim"
)

// FaultConfig describes a fault campaign: every fault, at every severity and
// speed, Passes times, at a sample rate drawn from RatesHz.
type FaultConfig struct {
	Seed       uint64       `json:"seed"`
	RatesHz    []float64    `json:"rates_hz"`
	SpeedsKmh  []float64    `json:"speeds_kmh"`
	SpacingM   float64      `json:"spacing_m"`
	Channels   int          `json:"channels"`
	Passes     int          `json:"passes_per_fault_severity_and_speed"`
	Families   []sim.Family `json:"families"`
	Faults     []sim.Fault  `json:"faults"`
	Severities []float64    `json:"severities"`
}

// DefaultFaults is the fault campaign of a type approval: all faults, eleven
// severities from 0 to 1, eight speeds.
func DefaultFaults() FaultConfig {
	c := FaultConfig{
		Seed: TestSeed, RatesHz: []float64{1000, 2000}, SpacingM: 2, Channels: 2, Passes: 4,
		SpeedsKmh: []float64{10, 20, 40, 60, 80, 100, 120, 150}, Families: sim.Families, Faults: sim.Faults,
	}
	for i := range 11 {
		c.Severities = append(c.Severities, float64(i)/10)
	}
	return c
}

// FaultRow is the figures of one fault at one severity.
type FaultRow struct {
	Fault    string  `json:"fault"`
	Severity float64 `json:"severity"`
	Figures
}

// FaultReport is the outcome of Faults.
type FaultReport struct {
	Config FaultConfig `json:"config"`
	// AcceptedAboveMPE counts faulty passes accepted with an error above the
	// MPE; it must be 0.
	AcceptedAboveMPE int        `json:"accepted_above_mpe"`
	Total            Figures    `json:"total"`
	Rows             []FaultRow `json:"by_fault_and_severity"`
}

// Faults runs faulty passes; errors are as in Accuracy.
func Faults(c FaultConfig, measure Measure) (FaultReport, error) {
	r := FaultReport{Config: c}
	pass := uint64(1) << 32 // apart from Accuracy's passes under the same seed
	for _, fault := range c.Faults {
		for _, severity := range c.Severities {
			row := FaultRow{Fault: fault.String(), Severity: severity}
			for _, v := range c.SpeedsKmh {
				for range c.Passes {
					pass++
					rng := sim.NewRand(c.Seed, pass)
					conditions := sim.Good(v, c.RatesHz[rng.IntN(len(c.RatesHz))], c.SpacingM, c.Families, rng)
					conditions.Channels, conditions.Fault, conditions.Severity = c.Channels, fault, severity
					recording := sim.Pass(conditions, rng)
					out, err := run(recording, c.SpacingM, measure)
					if err != nil {
						return FaultReport{}, fmt.Errorf("pass %d of seed %d: %w", pass, c.Seed, err)
					}
					what := fmt.Sprintf("seed %d pass %d: %v %.2f, %v, %v, %g km/h, %g Hz", c.Seed, pass, fault, severity, conditions.Vehicle, conditions.Family, v, conditions.RateHz)
					row.add(recording.Truth, out, what)
					r.Total.add(recording.Truth, out, what)
				}
			}
			row.finish()
			r.Rows = append(r.Rows, row)
		}
	}
	r.Total.finish()
	r.AcceptedAboveMPE = r.Total.Accepted - r.Total.WithinMPE
	return r, nil
}
