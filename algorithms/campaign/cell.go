package campaign

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/algorithms/sim"
)

// Cell is the conditions that its passes share.
type Cell struct {
	Grid     string    `json:"grid"`
	Channels int       `json:"channels"`
	RateHz   float64   `json:"rate_hz"`
	SpacingM float64   `json:"spacing_m"`
	SpeedKmh float64   `json:"speed_kmh"`
	Fault    sim.Fault `json:"fault"`
	Severity float64   `json:"severity"`

	accelerations []float64
}

// OneSample returns the one-sample error v/(D*fs) of the cell's nominal speed, a
// fraction.
func (c Cell) OneSample() float64 { return c.SpeedKmh / 3.6 / (c.SpacingM * c.RateHz) }

// Bounded tells whether the bounds apply in the cell.
func (c Cell) Bounded() bool { return c.OneSample() < BoundedBelow }

// Name names the cell: grid, fault and severity if any, rate, spacing, speed.
func (c Cell) Name() string {
	short := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	name := c.Grid + "/"
	if c.Fault != sim.NoFault {
		name += dashed(c.Fault) + "/" + short(c.Severity) + "/"
	}
	return name + short(c.RateHz) + "Hz/" + short(c.SpacingM) + "m/" + short(c.SpeedKmh) + "kmh"
}

func dashed(f sim.Fault) string { return strings.ReplaceAll(f.String(), " ", "-") }

// cells lists a grid's cells, in the order of its lists.
func (g Grid) cells() []Cell {
	faults, severities := g.Faults, g.Severities
	if len(faults) == 0 {
		faults, severities = []sim.Fault{sim.NoFault}, []float64{0}
	}
	var all []Cell
	for _, fault := range faults {
		for _, severity := range severities {
			for _, rate := range g.RatesHz {
				for _, spacing := range g.SpacingsM {
					for _, speed := range g.SpeedsKmh {
						all = append(all, Cell{g.Name, g.Channels, rate, spacing, speed, fault, severity, g.AccelerationsMss})
					}
				}
			}
		}
	}
	return all
}

// passName names a pass of the cell.
func (c Cell) passName(i int) string { return c.Name() + "/" + strconv.Itoa(i) }

// number is the first eight bytes of the name's SHA-256: the second word of a
// generator's seed, and what decides by lot.
func number(name string) uint64 {
	h := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(h[:])
}

// draw returns the conditions of a pass and its generator, ready for sim.Pass.
func (c Cell) draw(seed uint64, families []sim.Family, name string) (sim.Config, *rand.Rand) {
	rng := sim.NewRand(seed, number(name))
	var conditions sim.Config
	if len(c.accelerations) > 0 {
		conditions = sim.Accelerating(c.SpeedKmh, c.RateHz, c.SpacingM, c.accelerations[rng.IntN(len(c.accelerations))], families, rng)
	} else {
		conditions = sim.Good(c.SpeedKmh, c.RateHz, c.SpacingM, families, rng)
	}
	conditions.Channels, conditions.Fault, conditions.Severity = c.Channels, c.Fault, c.Severity
	return conditions, rng
}

// parsePass finds the cell of a pass by its name. The pass need not lie on the
// configuration's lists, but its grid must be there.
func (c Config) parsePass(name string) (Cell, error) {
	wrong := func(why string, args ...any) (Cell, error) {
		return Cell{}, fmt.Errorf("pass %q: %s; a name is like free-2ch/1000Hz/2m/80kmh/17 or faults-2ch/two-vehicles/0.5/1000Hz/2m/80kmh/1", name, fmt.Sprintf(why, args...))
	}
	parts := strings.Split(name, "/")
	for _, g := range c.Grids {
		if g.Name != parts[0] {
			continue
		}
		cell := Cell{Grid: g.Name, Channels: g.Channels, accelerations: g.AccelerationsMss}
		rest := parts[1:]
		if len(g.Faults) > 0 {
			if len(rest) != 6 {
				return wrong("%d parts, want 7", len(parts))
			}
			for _, f := range sim.Faults {
				if dashed(f) == rest[0] {
					cell.Fault = f
				}
			}
			var err error
			if cell.Severity, err = strconv.ParseFloat(rest[1], 64); err != nil || cell.Fault == sim.NoFault || !(cell.Severity >= 0 && cell.Severity <= 1) {
				return wrong("%s %s is no fault and severity", rest[0], rest[1])
			}
			rest = rest[2:]
		}
		if len(rest) != 4 {
			return wrong("%d parts for a grid of %s passes", len(parts), g.Kind())
		}
		for i, field := range []struct {
			unit  string
			limit float64
			to    *float64
		}{{"Hz", 100_000, &cell.RateHz}, {"m", 20, &cell.SpacingM}, {"kmh", 700, &cell.SpeedKmh}} {
			digits, found := strings.CutSuffix(rest[i], field.unit)
			x, err := strconv.ParseFloat(digits, 64)
			if !found || err != nil || !(x > 0 && x <= field.limit) {
				return wrong("%s is not a number of %s up to %g", rest[i], field.unit, field.limit)
			}
			*field.to = x
		}
		if index, err := strconv.ParseUint(rest[3], 10, 31); err != nil || cell.passName(int(index)) != name {
			return wrong("it is written otherwise")
		}
		return cell, nil
	}
	return wrong("there is no grid %q", parts[0])
}
