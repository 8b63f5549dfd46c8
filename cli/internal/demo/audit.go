package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// audit replays the whole ledger from one replica and computes every
// measurement again.
func (d *demo) audit(ctx context.Context) error {
	connection, err := d.network.Dial(d.network.ByRole(recordv1.Role_ROLE_REPLICA)[0].ID, nil)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	module := speed.Module()
	started := time.Now()
	report, err := audit.Run(ctx, source.Replica(ledgerv1.NewLedgerServiceClient(connection)), audit.Options{
		Trust:   d.trust,
		Modules: func(id digest.Digest) ([]byte, bool) { return module, id == digest.Plain(module) },
	})
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		d.hold(false, "the audit found %s at record %d: %s", f.Kind, f.Index, f.Detail)
	}
	d.hold(report.Verdict == receipt.Verified, "the audit's verdict is %v: %s", report.Verdict, report.Conclusion)
	d.hold(report.ReExecuted == uint64(d.Passes), "the audit computed %d measurements again, %d were made", report.ReExecuted, d.Passes)
	d.say("\naudit      %d blocks, %d records, %d measurements, %d of them computed again with the same result, in %s\n           %v: %s%s",
		report.Height-report.FromHeight+1, report.Records, report.Measurements, report.ReExecuted, since(started), report.Verdict, report.Conclusion, computations(report))
	return nil
}

// computations is what each organisation computed: what it is paid by.
func computations(r *audit.Report) string {
	text := "\n           computed:"
	for _, organisation := range slices.Sorted(maps.Keys(r.Computations)) {
		text += fmt.Sprintf(" %s %d", organisation, r.Computations[organisation])
	}
	return text
}
