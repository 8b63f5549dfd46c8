package bench

import (
	"errors"
	"fmt"
	"math"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
)

// Constants are what one measurement costs: the measured part of the capacity
// model. CPU is of the machine that they were measured on.
type Constants struct {
	Source         string  `json:"source"`
	ReplicaMicros  float64 `json:"replica_us"`  // CPU of each replica
	SerialMicros   float64 `json:"serial_us"`   // of it, what one block does after the other: no core more makes it faster
	EndorserMicros float64 `json:"endorser_us"` // CPU of each endorser that is asked
	GatewayMicros  float64 `json:"gateway_us"`
	RecordBytes    float64 `json:"record_bytes"`  // at rest in each replica, all but the raw vector
	RawBytes       float64 `json:"raw_bytes"`     // raw vector
	HeaderBytes    float64 `json:"header_bytes"`  // of a sample, with the signature, on the wire
	ReceiptBytes   float64 `json:"receipt_bytes"` // on the wire
	WireBytes      float64 `json:"wire_bytes"`    // of a record in a submission or a block, without the raw vector
}

// DefaultConstants were measured on an AMD EPYC with two cores (docs/performance.md,
// "Figures", 600 clients; "What a measurement keeps on disk"). SerialMicros is
// BenchmarkApply less its signature checks, rounded up.
func DefaultConstants() Constants {
	return Constants{
		Source:        "built in: AMD EPYC, 2 cores, 600 Ed25519 clients, 2 x 512 samples",
		ReplicaMicros: 68, SerialMicros: 30, EndorserMicros: 75, GatewayMicros: 88,
		RecordBytes: 486, RawBytes: 765, HeaderBytes: 240, ReceiptBytes: 2020, WireBytes: 740,
	}
}

// ConstantsOf takes them from the report of a run. What a run is too short for
// (segments at rest) or does not tell apart (the serial part) stays as built in.
func ConstantsOf(r *Report) (Constants, error) {
	c := DefaultConstants()
	if r.Failed() || r.Measurements == 0 {
		return c, errors.New("the report is of a run that failed, or measured nothing")
	}
	replicas, replicaMicros, _ := r.byRole("lacre-ledger")
	endorsers, endorserMicros, _ := r.byRole("lacre-compute")
	_, gatewayMicros, _ := r.byRole("lacre-ingest")
	if replicas == 0 || endorsers == 0 || r.Configuration.Endorsements == 0 {
		return c, fmt.Errorf("the report has %d replicas, %d endorsers and %d endorsements", replicas, endorsers, r.Configuration.Endorsements)
	}
	c.Source = fmt.Sprintf("%s, %d cores, %s: %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Commit, r.Name())
	c.ReplicaMicros = replicaMicros / float64(replicas)
	c.SerialMicros = min(c.SerialMicros, c.ReplicaMicros)
	c.EndorserMicros = endorserMicros / float64(r.Configuration.Endorsements)
	c.GatewayMicros = gatewayMicros
	c.RawBytes = r.Bytes.RawVector
	c.HeaderBytes = max(r.Bytes.Sample-r.Bytes.RawVector, 0)
	c.ReceiptBytes = r.Bytes.Receipt
	return c, nil
}

// Demand is what is to be measured, and how it is to be kept.
type Demand struct {
	Name         string       `json:"name"`
	Meters       int          `json:"meters"`
	PerDay       float64      `json:"per_day"` // measurements of a meter in a day
	Peak         float64      `json:"peak"`    // the busiest hour over the mean
	Network      devnet.Shape `json:"network"` // of each ledger
	Endorsements int          `json:"endorsements"`
	Cores        int          `json:"cores"`          // of a replica's machine
	Disk         float64      `json:"disk_bytes"`     // of a replica\'s machine: a year of records, and the hot raw vectors
	Use          float64      `json:"use"`            // share of a core that is planned with
	RawBytes     float64      `json:"raw_bytes"`      // of a raw vector; 0: the constants'
	HotDays      float64      `json:"raw_hot_days"`   // of raw vectors on the replica's disk
	ColdDays     float64      `json:"raw_cold_days"`  // after that, in cold storage; then they expire
	KeepsForever bool         `json:"raw_never_ends"` // raw vectors stay in cold storage
}

// Scenarios are three demands for orientation. Lanes, vehicles and readings are
// round assumptions, no statistics.
func Scenarios() []Demand {
	base := Demand{Network: devnet.DefaultShape(), Endorsements: 2, Cores: 16, Disk: 32e12, Use: 0.6, HotDays: 90, ColdDays: 640}
	city, country, grid := base, base, base
	city.Name, city.Meters, city.PerDay, city.Peak = "city", 500, 10_000, 3
	country.Name, country.Meters, country.PerDay, country.Peak = "country", 20_000, 8_000, 3
	grid.Name, grid.Meters, grid.PerDay, grid.Peak, grid.RawBytes = "smart grid", 10_000_000, 96, 1.2, 120
	return []Demand{city, country, grid}
}

// Check names every wrong setting.
func (d Demand) Check() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(d.Meters < 1, "%d meters, want one or more", d.Meters)
	fault(!(d.PerDay > 0) || math.IsInf(d.PerDay, 0), "%g measurements of a meter in a day, want more than 0", d.PerDay)
	fault(!(d.Peak >= 1), "a peak of %g times the mean, want 1 or more", d.Peak)
	fault(d.Endorsements < 1 || d.Endorsements > d.Network.Endorsers, "%d endorsements, want 1 to %d, for so many endorsers there are", d.Endorsements, d.Network.Endorsers)
	fault(d.Cores < 1, "%d cores, want one or more", d.Cores)
	fault(!(d.Disk > 0), "a disk of %g bytes, want more than 0", d.Disk)
	fault(!(d.Use > 0 && d.Use <= 1), "a use of %g, want more than 0 and at most 1", d.Use)
	fault(d.HotDays < 0 || d.ColdDays < 0 || d.RawBytes < 0, "%g hot days, %g cold days, %g bytes of raw vector: want none below 0", d.HotDays, d.ColdDays, d.RawBytes)
	faults = append(faults, d.Network.Check())
	return errors.Join(faults...)
}

// Plan is what a demand needs. Everything of an organisation is added up over all
// shards: each organisation has a node in each of them.
type Plan struct {
	Demand
	MeanPerSecond    float64   `json:"mean_per_second"`
	PeakPerSecond    float64   `json:"peak_per_second"`
	LedgerPerSecond  float64   `json:"ledger_per_second"` // what one ledger takes
	Limit            string    `json:"limit"`             // of one ledger: "cores" or "one block after the other"
	Shards           int       `json:"shards"`            // independent ledgers
	ShardsFor        string    `json:"shards_for"`        // what needs so many: "rate" or "disk"
	ReplicaCores     float64   `json:"replica_cores"`     // of each organisation with replicas, at the peak
	EndorserCores    float64   `json:"endorser_cores"`    // of each endorsing organisation
	GatewayCores     float64   `json:"gateway_cores"`     // of all gateways together
	RecordsPerYear   float64   `json:"record_bytes_per_year"`
	RawHot           float64   `json:"raw_hot_bytes"`    // standing on each organisation's replicas
	RawCold          float64   `json:"raw_cold_bytes"`   // standing in each organisation's cold storage; of a year if nothing expires
	LeaderOut        float64   `json:"leader_out_bits"`  // per second at the peak, of the organisation that leads all shards
	ReplicaIn        float64   `json:"replica_in_bits"`  // of any other with replicas
	EndorserIn       float64   `json:"endorser_in_bits"` // of an endorsing one
	GatewayIn        float64   `json:"gateway_in_bits"`  // from meters
	GatewayOut       float64   `json:"gateway_out_bits"` // to endorsers, ledger and meters
	MeasuredConstant Constants `json:"constants"`
}

const (
	secondsPerDay = 86_400
	daysPerYear   = 365
)

// Make computes the plan. It is a model of means: queues, disks' latency and
// distance are not in it.
func (d Demand) Make(c Constants) (*Plan, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	raw := d.RawBytes
	if raw == 0 {
		raw = c.RawBytes
	}
	p := &Plan{Demand: d, MeasuredConstant: c}
	p.MeanPerSecond = float64(d.Meters) * d.PerDay / secondsPerDay
	p.PeakPerSecond = d.Peak * p.MeanPerSecond
	byCores, inTurn := float64(d.Cores)*d.Use*1e6/c.ReplicaMicros, d.Use*1e6/c.SerialMicros
	p.LedgerPerSecond, p.Limit = byCores, "cores"
	if inTurn < byCores {
		p.LedgerPerSecond, p.Limit = inTurn, "one block after the other"
	}
	cores := func(micros float64) float64 { return p.PeakPerSecond * micros / 1e6 / d.Use }
	asked := float64(d.Endorsements) / float64(d.Network.Endorsers) // share of the samples that an endorser sees
	p.ReplicaCores, p.EndorserCores, p.GatewayCores = cores(c.ReplicaMicros), cores(asked*c.EndorserMicros), cores(c.GatewayMicros)
	perDay := p.MeanPerSecond * secondsPerDay
	p.RecordsPerYear = perDay * daysPerYear * c.RecordBytes
	p.RawHot, p.RawCold = perDay*d.HotDays*raw, perDay*d.ColdDays*raw
	if d.KeepsForever {
		p.RawCold = perDay * daysPerYear * raw
	}
	byRate, byDisk := math.Ceil(p.PeakPerSecond/p.LedgerPerSecond), math.Ceil((p.RecordsPerYear+p.RawHot)/d.Disk)
	p.Shards, p.ShardsFor = int(max(byRate, byDisk)), "rate"
	if byDisk > byRate {
		p.ShardsFor = "disk"
	}
	bits := func(bytes float64) float64 { return p.PeakPerSecond * bytes * 8 }
	block, sample := c.WireBytes+raw, c.HeaderBytes+raw
	p.ReplicaIn = bits(block)
	p.LeaderOut = bits(block * float64(d.Network.Replicas-1))
	p.EndorserIn = bits(asked * sample)
	p.GatewayIn = bits(sample)
	p.GatewayOut = bits(float64(d.Endorsements)*sample + block + c.ReceiptBytes)
	return p, nil
}
