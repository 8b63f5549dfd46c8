package bench

import (
	"math"
	"strings"
	"testing"
)

// TestPlanOfRoundNumbers: a demand whose needs can be worked out by hand.
func TestPlanOfRoundNumbers(t *testing.T) {
	c := Constants{ReplicaMicros: 100, SerialMicros: 20, EndorserMicros: 60, GatewayMicros: 50,
		RecordBytes: 500, RawBytes: 1000, HeaderBytes: 250, ReceiptBytes: 2000, WireBytes: 750}
	d := Scenarios()[0]
	// 1,000/s in the mean, 2,000/s in the busiest hour.
	d.Meters, d.PerDay, d.Peak, d.Cores, d.Disk, d.Use, d.HotDays, d.ColdDays = 1000, 86_400, 2, 4, 1e15, 0.5, 10, 100
	p, err := d.Make(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		name      string
		got, want float64
	}{
		{"mean", p.MeanPerSecond, 1000}, {"peak", p.PeakPerSecond, 2000},
		{"one ledger: 4 cores, half used, 100 us", p.LedgerPerSecond, 20_000},
		{"shards", float64(p.Shards), 1},
		{"replica cores", p.ReplicaCores, 0.4},
		{"endorser cores: 2 of 3 asked", p.EndorserCores, 0.16},
		{"gateway cores", p.GatewayCores, 0.2},
		{"records of a year", p.RecordsPerYear, 1000 * 86_400 * 365 * 500},
		{"raw, hot", p.RawHot, 1000 * 86_400 * 10 * 1000}, {"raw, cold", p.RawCold, 1000 * 86_400 * 100 * 1000},
		{"leader out, to three", p.LeaderOut, 2000 * 1750 * 3 * 8}, {"replica in", p.ReplicaIn, 2000 * 1750 * 8},
		{"gateways in", p.GatewayIn, 2000 * 1250 * 8}, {"gateways out", p.GatewayOut, 2000 * (2*1250 + 1750 + 2000) * 8},
	} {
		if math.Abs(w.got-w.want) > 1e-9*math.Abs(w.want) {
			t.Errorf("%s: %g, want %g", w.name, w.got, w.want)
		}
	}
	if p.Limit != "cores" {
		t.Errorf("one ledger is limited by %q, want cores", p.Limit)
	}
	// With many cores one block after the other is what limits: 0.5 / 20 us.
	d.Cores, d.Peak = 64, 100
	if p, err = d.Make(c); err != nil || p.Shards != 4 || p.LedgerPerSecond != 25_000 || p.Limit == "cores" {
		t.Errorf("100,000/s on 64 cores: %v, %d shards of %g/s, limited by %q; want 4 of 25,000", err, p.Shards, p.LedgerPerSecond, p.Limit)
	}
	// A year of records is 15,768 GB, ten hot days of raw vectors are 864: on disks of 2 TB, 9.
	d.Peak, d.Disk = 1, 2e12
	if p, err = d.Make(c); err != nil || p.Shards != 9 || p.ShardsFor != "disk" {
		t.Errorf("%v, %d shards for the %s, want 9 for the disk", err, p.Shards, p.ShardsFor)
	}
	d.RawBytes, d.KeepsForever = 10, true
	if p, err = d.Make(c); err != nil || p.RawCold != 1000*86_400*365*10 {
		t.Errorf("a year of cold raw vectors is %g, %v", p.RawCold, err)
	}
}

func TestPlanRefusesWhatCannotBe(t *testing.T) {
	for want, change := range map[string]func(*Demand){
		"0 meters":                    func(d *Demand) { d.Meters = 0 },
		"NaN measurements":            func(d *Demand) { d.PerDay = math.NaN() },
		"+Inf measurements":           func(d *Demand) { d.PerDay = math.Inf(1) },
		"a peak of 0.5":               func(d *Demand) { d.Peak = 0.5 },
		"4 endorsements, want 1 to 3": func(d *Demand) { d.Endorsements = 4 },
		"a use of 1.5":                func(d *Demand) { d.Use = 1.5 },
		"a disk of 0 bytes":           func(d *Demand) { d.Disk = 0 },
		"0 cores":                     func(d *Demand) { d.Cores = 0 },
		"-1 hot days":                 func(d *Demand) { d.HotDays = -1 },
		"9 replicas, want":            func(d *Demand) { d.Network.Replicas = 9 },
	} {
		d := Scenarios()[1]
		change(&d)
		if _, err := d.Make(DefaultConstants()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestConstantsOfAReport: replicas and endorsers share what the report adds up,
// and a run that failed gives none.
func TestConstantsOfAReport(t *testing.T) {
	r := &Report{Verified: 10, Measurements: 10, Configuration: Defaults(), Bytes: Bytes{RawVector: 700, Sample: 1000, Receipt: 1900}}
	for name, p := range map[string]Process{"r1": {Program: "lacre-ledger", CPUMicros: 60}, "r2": {Program: "lacre-ledger", CPUMicros: 40},
		"e1": {Program: "lacre-compute", CPUMicros: 70}, "e2": {Program: "lacre-compute", CPUMicros: 90}, "g": {Program: "lacre-ingest", CPUMicros: 30}} {
		p.Name = name
		r.Processes = append(r.Processes, p)
	}
	c, err := ConstantsOf(r)
	if err != nil || c.ReplicaMicros != 50 || c.EndorserMicros != 80 || c.GatewayMicros != 30 || c.HeaderBytes != 300 || c.RawBytes != 700 || c.ReceiptBytes != 1900 {
		t.Errorf("%+v, %v", c, err)
	}
	if c.RecordBytes != DefaultConstants().RecordBytes {
		t.Errorf("a record at rest is %g B, want what is built in: a run is too short for it", c.RecordBytes)
	}
	r.Losses.Gaps = 1
	if _, err := ConstantsOf(r); err == nil {
		t.Error("a run that failed gave constants")
	}
	if _, err := ConstantsOf(&Report{Verified: 1, Measurements: 1, Configuration: Defaults()}); err == nil {
		t.Error("a report without processes gave constants")
	}
}
