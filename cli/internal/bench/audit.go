package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	archives "github.com/lacre-metrology/lacre/services/ledger"
)

// crossChecks are what an audit may repeat on the interpreter.
var crossChecks = map[string]sandbox.CrossCheck{
	"always": sandbox.CrossCheckAlways, "budgeted": sandbox.CrossCheckBudgeted, "never": sandbox.CrossCheckNever,
}

// AuditOptions are the settings of a measured audit.
type AuditOptions struct {
	Dir        string    `json:"-"`           // of a stopped network; its first replica is audited
	CrossCheck string    `json:"cross_check"` // what is repeated on the interpreter: always, as `lacre audit` does, budgeted or never
	Sample     int       `json:"sample_permille"`
	Profile    string    `json:"-"` // file for the CPU profile; "" keeps none
	Progress   io.Writer `json:"-"`
}

// AuditDefaults audit as `lacre audit` does.
func AuditDefaults() AuditOptions { return AuditOptions{CrossCheck: "always", Sample: 1000} }

// Check names every wrong setting.
func (o AuditOptions) Check() error {
	var faults []error
	if _, known := crossChecks[o.CrossCheck]; !known {
		faults = append(faults, fmt.Errorf("cross-check %q, want always, budgeted or never", o.CrossCheck))
	}
	if o.Sample < 1 || o.Sample > 1000 {
		faults = append(faults, fmt.Errorf("a sample of %d per mille, want 1 to 1000", o.Sample))
	}
	return errors.Join(faults...)
}

// AuditReport is what an audit from disk cost.
type AuditReport struct {
	Verdict       string            `json:"verdict"`
	Blocks        uint64            `json:"blocks"`
	Records       uint64            `json:"records"`
	Measurements  uint64            `json:"measurements"`
	ReExecuted    uint64            `json:"re_executed"`
	Rehash        AuditPart         `json:"rehash"` // of every stored byte
	Audit         AuditPart         `json:"audit"`  // replay, certificates, re-execution
	Stages        map[Stage]float64 `json:"stages_us_per_measurement"`
	PeakBytes     uint64            `json:"peak_memory_bytes"`
	Machine       Machine           `json:"machine"`
	Configuration AuditOptions      `json:"configuration"`
}

// AuditPart is one of its parts.
type AuditPart struct {
	Seconds       float64 `json:"seconds"`
	RatePerSecond float64 `json:"rate_per_second"` // measurements
	CPUMicros     float64 `json:"cpu_us_per_measurement"`
}

// Failed says whether the ledger did not hold, or holds no measurement.
func (r *AuditReport) Failed() bool {
	return r.Verdict != receipt.Verified.String() || r.Measurements == 0
}

// Audit audits a stopped replica from its disk, as `lacre audit --from DIR` does,
// and measures it.
func Audit(ctx context.Context, o AuditOptions) (_ *AuditReport, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	network, err := devnet.Load(o.Dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(network.TrustPath())
	if err != nil {
		return nil, err
	}
	bundle, err := trust.Parse(text)
	if err != nil {
		return nil, err
	}
	r := &AuditReport{Configuration: o}
	if r.Machine, err = describeMachine(os.TempDir()); err != nil {
		return nil, err
	}
	archive, err := archives.OpenArchive(filepath.Join(network.NodeDir(network.ByRole(recordv1.Role_ROLE_REPLICA)[0].ID), "data"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	var stored *archives.ArchiveReport
	rehash, err := timed(func() (err error) {
		stored, err = archive.Verify(ctx, func(uint64, uint64) {})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(stored.Problems) > 0 {
		return nil, fmt.Errorf("%s holds damaged bytes, and no figure is worth anything: %v", o.Dir, stored.Problems[0])
	}
	fmt.Fprintf(o.Progress, "%d blocks are re-hashed after %.1f s\n", stored.Blocks, rehash.Seconds) //nolint:errcheck // progress that nobody reads changes nothing.
	r.Audit, err = r.audit(ctx, source.Directory(archive), bundle, o)
	if err != nil {
		return nil, err
	}
	r.Rehash = rehash
	for _, part := range []*AuditPart{&r.Rehash, &r.Audit} {
		n := float64(max(r.Measurements, 1))
		part.RatePerSecond, part.CPUMicros = n/max(part.Seconds, 1e-9), part.CPUMicros/n
	}
	used, err := readUsage(os.Getpid())
	if err != nil {
		return nil, err
	}
	r.PeakBytes = used.peakBytes
	r.Machine.LoadAfter, err = loadAverage()
	return r, err
}

// audit runs the audit under a CPU profile.
func (r *AuditReport) audit(ctx context.Context, s audit.Source, bundle *trust.Bundle, o AuditOptions) (AuditPart, error) {
	module := speed.Module()
	options := audit.Options{
		Trust: bundle, SamplePermille: o.Sample, Engine: sandbox.Config{CrossCheck: crossChecks[o.CrossCheck]},
		Modules: func(d digest.Digest) ([]byte, bool) { return module, d == digest.Plain(module) },
	}
	next := time.Now()
	options.Progress = func(p audit.Progress) {
		if now := time.Now(); now.After(next) {
			next = now.Add(time.Second)
			fmt.Fprintf(o.Progress, "block %d, %d measurements\n", p.Height, p.Measurements) //nolint:errcheck // as above.
		}
	}
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return AuditPart{}, err
	}
	var found *audit.Report
	part, err := timed(func() (err error) {
		found, err = audit.Run(ctx, s, options)
		return err
	})
	pprof.StopCPUProfile()
	if err != nil {
		return part, err
	}
	r.Verdict, r.Blocks, r.Records, r.Measurements, r.ReExecuted = found.Verdict.String(), found.Height+1, found.Records, found.Measurements, found.ReExecuted
	if o.Profile != "" {
		if err := os.WriteFile(o.Profile, raw.Bytes(), 0o600); err != nil {
			return part, err
		}
	}
	parsed, err := profile.ParseData(raw.Bytes())
	if err != nil {
		return part, err
	}
	r.Stages = make(map[Stage]float64)
	for stage, nanos := range attribute(parsed) {
		r.Stages[stage] = float64(nanos) / 1000 / float64(max(r.Measurements, 1))
	}
	return part, nil
}

// timed gives a part whose CPU is not divided yet.
func timed(f func() error) (AuditPart, error) {
	before, err := readUsage(os.Getpid())
	if err != nil {
		return AuditPart{}, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return AuditPart{}, err
	}
	took := time.Since(began)
	after, err := readUsage(os.Getpid())
	return AuditPart{Seconds: took.Seconds(), CPUMicros: float64((after.cpu() - before.cpu()).Microseconds())}, err
}

// Text is the report for people.
func (r *AuditReport) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d blocks, %d records, %d measurements, %d of them executed again (interpreter: %s)\n",
		r.Verdict, r.Blocks, r.Records, r.Measurements, r.ReExecuted, r.Configuration.CrossCheck)
	fmt.Fprintf(&b, "%s\n\n", r.Machine.text())
	for _, part := range []struct {
		name string
		AuditPart
	}{{"re-hash", r.Rehash}, {"audit", r.Audit}} {
		fmt.Fprintf(&b, "%-10s  %.0f measurements/s: %.1f s, %.1f us of CPU each\n", part.name, part.RatePerSecond, part.Seconds, part.CPUMicros)
	}
	fmt.Fprintf(&b, "memory      %.1f MiB at most\n\n", float64(r.PeakBytes)/(1<<20))
	fmt.Fprintf(&b, "%-36s %12s\n", "us of the audit, each", "")
	for _, s := range Stages {
		if r.Stages[s] >= 0.05 {
			fmt.Fprintf(&b, "%-36s %12.1f\n", s, r.Stages[s])
		}
	}
	for _, w := range r.Machine.warnings() {
		fmt.Fprintf(&b, "warning     %s\n", w)
	}
	return b.String()
}
