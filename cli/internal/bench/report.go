package bench

import (
	"fmt"
	"strings"
	"time"
)

// generatorName is the load generator among the processes.
const generatorName = "load generator"

// Report is what came of a run.
type Report struct {
	RatePerSecond     float64          `json:"rate_per_second"` // verified receipts within the window
	Measurements      int64            `json:"measurements"`    // of the window
	Latency           Percentiles      `json:"latency"`         // of measurements begun, or due, within the window
	LatencyCorrected  Percentiles      `json:"latency_corrected"`
	CPUMicros         float64          `json:"cpu_us_per_measurement"` // of all processes, the load generator too
	Processes         []Process        `json:"processes"`
	Bytes             Bytes            `json:"bytes_per_measurement"`
	Losses            Losses           `json:"losses"`
	Lost              int64            `json:"lost"` // unanswered, or acknowledged and not on the ledger
	Shed              map[string]int64 `json:"shed,omitempty"`
	Refusals          map[string]int64 `json:"refusals,omitempty"`
	Reconnects        int64            `json:"reconnects"`
	LastBreak         string           `json:"last_break,omitempty"`
	Examples          []string         `json:"examples,omitempty"` // of what went wrong
	Begun             int64            `json:"begun"`              // with warm-up and drain, as are the next four
	Verified          int64            `json:"verified"`
	OnLedger          int64            `json:"on_ledger"`
	WithMeasuredValue int64            `json:"with_measured_value"` // the others were refused by the algorithm, which is a result
	EndorsementSets   int              `json:"endorsement_sets"`
	Blocks            uint64           `json:"blocks"` // of the whole run
	Killed            string           `json:"killed,omitempty"`
	Backlog           *Backlog         `json:"backlog,omitempty"`
	Vectors           int              `json:"vectors"` // distinct raw vectors
	SetupSeconds      float64          `json:"setup_seconds"`
	Warnings          []string         `json:"warnings,omitempty"`
	Machine           Machine          `json:"machine"`
	Configuration     Options          `json:"configuration"`
}

// Failed says whether anything was lost, refused or wrong, or nothing was
// measured at all.
func (r *Report) Failed() bool { return r.Losses.Any() || r.Verified == 0 }

// Process is one process within the window.
type Process struct {
	Name         string            `json:"name"`
	Program      string            `json:"program"`
	UserMicros   float64           `json:"user_us_per_measurement"`
	SystemMicros float64           `json:"system_us_per_measurement"`
	CPUMicros    float64           `json:"cpu_us_per_measurement"`
	WrittenBytes float64           `json:"written_bytes_per_measurement"`
	PeakBytes    uint64            `json:"peak_memory_bytes"` // of its whole life
	Stages       map[Stage]float64 `json:"stages_us_per_measurement,omitempty"`
}

// Bytes are for each measurement. Replicas are added up, not averaged.
type Bytes struct {
	RawVector     float64 `json:"raw_vector"`     // as encoded
	RawUnencoded  int     `json:"raw_unencoded"`  // as 16-bit integers
	Sample        float64 `json:"sample"`         // header, signature and vector, from meter to gateway
	Receipt       float64 `json:"receipt"`        // from gateway to meter
	Loopback      float64 `json:"loopback"`       // carried between all processes; also other programs', if any
	Written       float64 `json:"written"`        // to disk, by all processes (proc(5); see parseWritten)
	KeptSegments  float64 `json:"kept_segments"`  // records and raw vectors, all replicas
	KeptIndex     float64 `json:"kept_index"`     // state, tree, certificates, all replicas
	OrderLogTotal uint64  `json:"order_log_kept"` // bytes in all, all replicas: bounded
}

// account fills in the processes out of two readings.
func (r *Report) account(before, after map[string]usage, programs map[string]string, order []string, stages map[string]map[Stage]int64) {
	n := max(float64(r.Measurements), 1)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / n }
	for _, name := range order {
		b, a := before[name], after[name]
		p := Process{
			Name: name, Program: programs[name], UserMicros: micros(a.user - b.user), SystemMicros: micros(a.system - b.system),
			CPUMicros: micros(a.cpu() - b.cpu()), WrittenBytes: float64(a.writtenBytes-b.writtenBytes) / n, PeakBytes: a.peakBytes,
		}
		if own := stages[name]; own != nil {
			p.Stages = make(map[Stage]float64)
			profiled := 0.0
			for stage, nanos := range own {
				p.Stages[stage] = micros(time.Duration(nanos))
				profiled += p.Stages[stage]
			}
			if rest := p.CPUMicros - profiled; rest > 0 {
				p.Stages[stageUnprofiled] = rest
			}
		}
		r.CPUMicros += p.CPUMicros
		r.Bytes.Written += p.WrittenBytes
		r.Processes = append(r.Processes, p)
	}
}

// roles are the groups of the table of stages, by program.
var roles = []struct{ program, title string }{
	{"lacre-ledger", "replicas"}, {"lacre-compute", "endorsers"}, {"lacre-ingest", "gateway"}, {"lacre-approval", "approval"}, {"lacre", "load"},
}

// byRole adds up the processes of a program: how many, CPU and stages.
func (r *Report) byRole(program string) (n int, micros float64, stages map[Stage]float64) {
	stages = make(map[Stage]float64)
	for _, p := range r.Processes {
		if p.Program != program {
			continue
		}
		n++
		micros += p.CPUMicros
		for s, v := range p.Stages {
			stages[s] += v
		}
	}
	return n, micros, stages
}

// Text is the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	c := r.Configuration
	loop := fmt.Sprintf("closed loop, %d clients", c.Clients)
	if c.Rate > 0 {
		loop = fmt.Sprintf("open loop, %g/s from %d clients", c.Rate, c.Clients)
	}
	fmt.Fprintf(&b, "%s, %s meters, %d x %d samples (%s), %d endorsements, %s\n", loop, c.Meters, c.Channels, c.Samples, c.Encoding, c.Endorsements, c.Duration)
	fmt.Fprintf(&b, "%s\n\n", r.Machine.text())
	fmt.Fprintf(&b, "rate        %.1f/s: %d measurements with a verified receipt in the window\n", r.RatePerSecond, r.Measurements)
	latency := func(name string, p Percentiles) {
		fmt.Fprintf(&b, "%s  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f ms\n", name, p.P50Ms, p.P90Ms, p.P99Ms, p.P999Ms, p.MaxMs)
	}
	latency("latency   ", r.Latency)
	if c.Rate == 0 {
		latency("corrected ", r.LatencyCorrected)
	}
	if c := r.Backlog; c != nil {
		fmt.Fprintf(&b, "backlog     %d clients came back %d times from %s each, with %d measurements\n", c.Clients, c.Outages, r.Configuration.Outage, c.Measurements)
		latency("catching up", c.CatchUp)
	}
	fmt.Fprintf(&b, "bytes       %.0f of raw vector (%d unencoded), sample %.0f, receipt %.0f, loopback %.0f, written to disk %.0f\n",
		r.Bytes.RawVector, r.Bytes.RawUnencoded, r.Bytes.Sample, r.Bytes.Receipt, r.Bytes.Loopback, r.Bytes.Written)
	fmt.Fprintf(&b, "kept        %.0f in segments and %.0f in the index, for each measurement by all replicas; ordering logs %.1f MiB in all\n",
		r.Bytes.KeptSegments, r.Bytes.KeptIndex, float64(r.Bytes.OrderLogTotal)/(1<<20))
	fmt.Fprintf(&b, "batches     %d endorsement sets, %d blocks, %d measurements in all, %d of them with a measured value\n\n",
		r.EndorsementSets, r.Blocks, r.Verified, r.WithMeasuredValue)
	r.processTable(&b)
	r.stageTable(&b)
	r.outcome(&b)
	return b.String()
}

func (r *Report) processTable(b *strings.Builder) {
	fmt.Fprintf(b, "%-22s %12s %10s %10s %14s %12s\n", "process", "CPU us each", "user", "system", "written B each", "peak MiB")
	for _, p := range r.Processes {
		fmt.Fprintf(b, "%-22s %12.1f %10.1f %10.1f %14.0f %12.1f\n", p.Name, p.CPUMicros, p.UserMicros, p.SystemMicros, p.WrittenBytes, float64(p.PeakBytes)/(1<<20))
	}
	fmt.Fprintf(b, "%-22s %12.1f %10s %10s %14.0f\n\n", "all", r.CPUMicros, "", "", r.Bytes.Written)
}

// stageTable shows CPU for each measurement by stage and kind of process.
func (r *Report) stageTable(b *strings.Builder) {
	type column struct {
		title  string
		micros float64
		stages map[Stage]float64
	}
	var columns []column
	total := column{title: "all", stages: make(map[Stage]float64)}
	for _, role := range roles {
		n, micros, stages := r.byRole(role.program)
		if len(stages) == 0 {
			continue
		}
		title := role.title
		if n > 1 {
			title = fmt.Sprintf("%d %s", n, role.title)
		}
		columns = append(columns, column{title, micros, stages})
		total.micros += micros
		for s, v := range stages {
			total.stages[s] += v
		}
	}
	if len(columns) == 0 {
		return
	}
	columns = append(columns, total)
	fmt.Fprintf(b, "%-36s", "us for each measurement")
	for _, c := range columns {
		fmt.Fprintf(b, " %12s", c.title)
	}
	b.WriteByte('\n')
	for _, s := range Stages {
		if total.stages[s] < 0.05 {
			continue
		}
		fmt.Fprintf(b, "%-36s", s)
		for _, c := range columns {
			fmt.Fprintf(b, " %12.1f", c.stages[s])
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "%-36s", "all")
	for _, c := range columns {
		fmt.Fprintf(b, " %12.1f", c.micros)
	}
	b.WriteString("\n\n")
}

func (r *Report) outcome(b *strings.Builder) {
	if r.Killed != "" {
		fmt.Fprintf(b, "killed      %s, as was asked for\n", r.Killed)
	}
	for reason, n := range r.Shed {
		fmt.Fprintf(b, "shed        %d times %s; sent again\n", n, reason)
	}
	if r.Reconnects > 0 {
		fmt.Fprintf(b, "broken      %d calls or streams; sent again; the last: %s\n", r.Reconnects, r.LastBreak)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(b, "warning     %s\n", w)
	}
	l := r.Losses
	if r.Verified == 0 {
		fmt.Fprintf(b, "FAILED      not one measurement was verified, of %d begun\n", r.Begun)
	}
	if !r.Failed() {
		fmt.Fprintf(b, "lost        nothing: %d begun, %d verified, %d on the ledger, counters without gaps\n", r.Begun, r.Verified, r.OnLedger)
		return
	}
	fmt.Fprintf(b, "LOST        %d unanswered, %d acknowledged and not on the ledger, %d gaps, %d differing, %d not verified, %d refused, %d unsent\n",
		l.Unanswered, l.NotOnLedger, l.Gaps, l.Differing, l.NotVerified, l.Refused, l.Unsent)
	for _, e := range r.Examples {
		fmt.Fprintf(b, "            %s\n", e)
	}
}
