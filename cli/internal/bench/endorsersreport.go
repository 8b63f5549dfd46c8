package bench

import (
	"fmt"
	"strings"
)

// EndorsersReport is what endorsers do without a ledger behind them.
type EndorsersReport struct {
	RatePerSecond float64         `json:"rate_per_second"` // claims in answers that verified, of all endorsers
	Claims        int64           `json:"claims"`          // within the window
	Latency       Percentiles     `json:"latency"`         // of a batch
	Endorsers     []Endorsing     `json:"endorsers"`
	Generator     Process         `json:"generator"` // signs the samples, and verifies the answers
	Failures      int64           `json:"failures"`  // calls and samples that were refused, answers that did not verify
	Examples      []string        `json:"examples,omitempty"`
	Warnings      []string        `json:"warnings,omitempty"`
	Machine       Machine         `json:"machine"`
	Configuration EndorserOptions `json:"configuration"`
}

// Endorsing is one endorser within the window. CPU is for each of its own claims.
type Endorsing struct {
	Process
	Claims      int64   `json:"claims"`
	RatePerCore float64 `json:"rate_per_core"` // what one core of this machine does: 1e6 / CPU us
}

// Failed says whether anything was refused or wrong, or nothing was endorsed.
func (r *EndorsersReport) Failed() bool { return r.Failures > 0 || r.Claims == 0 }

// report divides what each process used by the claims that it was used for.
func (e *endorsing) report(g *gauge) (*EndorsersReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &EndorsersReport{Failures: e.failures, Examples: e.examples, Machine: e.run.machine, Configuration: e.options, Latency: percentiles(e.latencies.take())}
	r.Warnings = r.Machine.warnings()
	stages, err := g.stages()
	if err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	each := func(name, program string, claims int64) Process {
		alone := &Report{Measurements: claims}
		alone.account(g.before, g.after, map[string]string{name: program}, []string{name}, stages)
		return alone.Processes[0]
	}
	for _, one := range e.endorsers {
		claims := one.claims.Load()
		p := each(one.node.ID, "lacre-compute", claims)
		r.Endorsers = append(r.Endorsers, Endorsing{Process: p, Claims: claims, RatePerCore: 1e6 / max(p.CPUMicros, 0.001)})
		r.Claims += claims
	}
	r.RatePerSecond = float64(r.Claims) / e.options.Duration.Seconds()
	r.Generator = each(generatorName, "lacre", r.Claims)
	r.Machine.LoadAfter, err = loadAverage()
	return r, err
}

// Text is the report for people.
func (r *EndorsersReport) Text() string {
	var b strings.Builder
	c := r.Configuration
	fmt.Fprintf(&b, "endorsers alone, %s meters, %d x %d samples (%s), batches of %d, %d in flight to each, %s\n",
		c.Meters, c.Channels, c.Samples, c.Encoding, c.Batch, c.InFlight, c.Duration)
	fmt.Fprintf(&b, "%s\n\n", r.Machine.text())
	fmt.Fprintf(&b, "rate        %.0f/s: %d claims in answers that verified; %d cores for endorsers and load generator\n", r.RatePerSecond, r.Claims, r.Machine.Cores)
	fmt.Fprintf(&b, "batch       p50 %.1f  p99 %.1f  max %.1f ms\n\n", r.Latency.P50Ms, r.Latency.P99Ms, r.Latency.MaxMs)
	fmt.Fprintf(&b, "%-22s %14s %14s %12s\n", "process", "CPU us each", "rate per core", "peak MiB")
	for _, e := range r.Endorsers {
		fmt.Fprintf(&b, "%-22s %14.1f %14.0f %12.1f\n", e.Name, e.CPUMicros, e.RatePerCore, float64(e.PeakBytes)/(1<<20))
	}
	fmt.Fprintf(&b, "%-22s %14.1f %14s %12.1f\n\n", r.Generator.Name, r.Generator.CPUMicros, "", float64(r.Generator.PeakBytes)/(1<<20))
	table := &Report{Processes: []Process{r.Generator}}
	for _, e := range r.Endorsers {
		e.Program = "lacre-compute"
		table.Processes = append(table.Processes, e.Process)
	}
	if len(r.Endorsers) == 1 { // of several, each us is of its own claims, and adding them up says nothing
		table.stageTable(&b)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning     %s\n", w)
	}
	if r.Failed() {
		fmt.Fprintf(&b, "FAILED      %d failures, %d claims\n", r.Failures, r.Claims)
		for _, e := range r.Examples {
			fmt.Fprintf(&b, "            %s\n", e)
		}
	}
	return b.String()
}
