package bench

import (
	"context"
	"fmt"
	"os"
)

// gauge reads what the window cost.
type gauge struct {
	run           *run
	before, after map[string]usage
	loopback      [2]uint64
	spaceBefore   space // before the first measurement
	profiles      *profiles
}

// begin reads the counters at the window's beginning.
func (g *gauge) begin(ctx context.Context) (err error) {
	if g.run.Stages || g.run.ProfileDir != "" {
		g.profiles = startProfiles(ctx, g.run)
	}
	g.before, g.loopback[0], err = g.read()
	return err
}

// end reads them at its end.
func (g *gauge) end() (err error) {
	g.after, g.loopback[1], err = g.read()
	if g.profiles != nil {
		g.profiles.end()
	}
	return err
}

func (g *gauge) read() (map[string]usage, uint64, error) {
	readings := make(map[string]usage)
	var err error
	for _, p := range g.run.fleet.live() {
		used, err := readUsage(p.pid())
		if err != nil && p.asked.Load() {
			continue // it was killed this moment
		}
		if err != nil {
			return nil, 0, fmt.Errorf("node %s: %w", p.node.ID, err)
		}
		readings[p.node.ID] = used
	}
	if readings[generatorName], err = readUsage(os.Getpid()); err != nil {
		return nil, 0, err
	}
	carried, err := loopbackBytes()
	return readings, carried, err
}

// stages are what the profiles attribute, if there are any.
func (g *gauge) stages() (map[string]map[Stage]int64, error) {
	if g.profiles == nil {
		return nil, nil
	}
	return g.profiles.finish()
}

// fill puts everything into the report.
func (g *gauge) fill(report *Report) error {
	stages, err := g.stages()
	if err != nil {
		report.Warnings = append(report.Warnings, err.Error())
	}
	programs := map[string]string{generatorName: "lacre"}
	var order []string
	for _, p := range g.run.fleet.processes {
		if _, both := g.after[p.node.ID]; !both {
			continue // it was killed meanwhile
		}
		programs[p.node.ID] = p.program
		order = append(order, p.node.ID)
	}
	report.account(g.before, g.after, programs, append(order, generatorName), stages)
	after, err := measureSpace(g.run.network)
	if err != nil {
		return err
	}
	kept := after.minus(g.spaceBefore)
	t := g.run.tally
	all := max(float64(t.verified.Load()), 1)
	inWindow := max(float64(report.Measurements), 1)
	b := &report.Bytes
	b.RawVector, b.RawUnencoded = g.run.vectors.meanBytes(), g.run.rawBytes()
	b.Sample, b.Receipt = float64(t.sentBytes.Load())/max(float64(t.begun.Load()), 1), float64(t.receiptBytes.Load())/all
	b.Loopback = float64(g.loopback[1]-g.loopback[0]) / inWindow
	b.KeptSegments, b.KeptIndex, b.OrderLogTotal = float64(kept.segments)/all, float64(kept.index)/all, after.order
	return nil
}

// runs says whether a node's process runs.
func (f *fleet) runs(id string) bool {
	for _, p := range f.live() {
		if p.node.ID == id {
			return true
		}
	}
	return false
}
