package bench

import (
	"fmt"
	"strings"
)

// Name is a run in a few words, for tables.
func (r *Report) Name() string {
	c := r.Configuration
	words := []string{fmt.Sprintf("%d clients", c.Clients)}
	if c.Rate > 0 {
		words = []string{fmt.Sprintf("open, %g/s", c.Rate)}
	}
	d := Defaults()
	for _, w := range []struct {
		differs bool
		word    string
	}{
		{c.Meters != d.Meters, c.Meters},
		{c.Endorsements != d.Endorsements, fmt.Sprintf("%d endorsing", c.Endorsements)},
		{c.Encoding != d.Encoding, c.Encoding},
		{c.Call != d.Call, c.Call},
		{c.Channels != d.Channels || c.Samples != d.Samples, fmt.Sprintf("%d x %d", c.Channels, c.Samples)},
		{c.Network.Replicas != 0 && c.Network.Replicas != d.Network.Replicas, fmt.Sprintf("%d replicas", c.Network.Replicas)},
		{c.Network.Endorsers != 0 && c.Network.Endorsers != d.Network.Endorsers, fmt.Sprintf("%d endorsers", c.Network.Endorsers)},
		{c.Backlog > 0, fmt.Sprintf("%.0f %% backlog", 100*c.Backlog)},
		{r.Killed != "", "leader killed"},
	} {
		if w.differs {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// Table is several runs side by side as Markdown: what came of them, CPU by kind
// of process, CPU by stage.
func Table(reports []*Report) string {
	var b strings.Builder
	b.WriteString("| run | rate/s | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | corrected p99 ms | shed | lost | load before |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range reports {
		l := r.Latency
		shed := int64(0)
		for _, n := range r.Shed {
			shed += n
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %d | %d | %.2f |\n", r.Name(), r.RatePerSecond,
			l.P50Ms, l.P90Ms, l.P99Ms, l.P999Ms, l.MaxMs, r.LatencyCorrected.P99Ms, shed, r.Lost, r.Machine.LoadBefore)
	}
	b.WriteString("\n| run | replicas us | endorsers us | gateway us | load generator us | all us | written B | loopback B | kept B, segments + index | peak MiB: replica, endorser, gateway |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range reports {
		micros := func(program string) float64 {
			_, m, _ := r.byRole(program)
			return m
		}
		peak := func(program string) float64 {
			highest := uint64(0)
			for _, p := range r.Processes {
				if p.Program == program {
					highest = max(highest, p.PeakBytes)
				}
			}
			return float64(highest) / (1 << 20)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f + %.0f | %.0f, %.0f, %.0f |\n", r.Name(),
			micros("lacre-ledger"), micros("lacre-compute"), micros("lacre-ingest"), micros("lacre"), r.CPUMicros,
			r.Bytes.Written, r.Bytes.Loopback, r.Bytes.KeptSegments, r.Bytes.KeptIndex,
			peak("lacre-ledger"), peak("lacre-compute"), peak("lacre-ingest"))
	}
	stageRows(&b, reports)
	return b.String()
}

// stageRows shows CPU by stage, all processes added up, for the runs that have it.
func stageRows(b *strings.Builder, reports []*Report) {
	var names []string
	var columns []map[Stage]float64
	for _, r := range reports {
		total := make(map[Stage]float64)
		for _, p := range r.Processes {
			for s, v := range p.Stages {
				total[s] += v
			}
		}
		if len(total) > 0 {
			names, columns = append(names, r.Name()), append(columns, total)
		}
	}
	if len(columns) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| us for each measurement, all processes | %s |\n|---%s|\n", strings.Join(names, " | "), strings.Repeat("|---", len(names)))
	for _, s := range Stages {
		seen := false
		for _, c := range columns {
			seen = seen || c[s] >= 0.05
		}
		if !seen {
			continue
		}
		fmt.Fprintf(b, "| %s", s)
		for _, c := range columns {
			fmt.Fprintf(b, " | %.0f", c[s])
		}
		b.WriteString(" |\n")
	}
}
