package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/trust"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// run is a network under load, and what became of it.
type run struct {
	Options
	network   *devnet.Network
	networkID digest.Digest
	fleet     *fleet
	verifier  *meter.Verifier
	head      *head
	sets      *sets
	vectors   *pool
	senders   []*sender
	tally     *tally // of the load that goes on
	backlog   backlog
	killed    atomic.Pointer[string]

	machine      Machine
	setupSeconds float64
	earlier      earlier
}

// earlier is what loads before this one left on the ledger.
type earlier struct {
	onLedger int64
	sets     int
}

const (
	startTimeout  = time.Minute
	setupTimeout  = 5 * time.Minute
	settleTimeout = 2 * time.Minute
)

// Run founds a network, loads it and reports. An error means that there is no
// report; a report that Failed is no error here.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	err = within(ctx, o, func(ctx context.Context, r *run) error {
		if err := r.connect(ctx); err != nil {
			return err
		}
		report, err = r.measure(ctx)
		return err
	})
	return report, err
}

// within calls f with a network of its own that runs, whose meters are registered
// and known to every node; and takes it down again.
func within(ctx context.Context, o Options, f func(context.Context, *run) error) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as the services do: the generator's CPU is taken from theirs
	}
	if err := o.directories(); err != nil {
		return err
	}
	r := &run{Options: o, tally: new(tally)}
	defer func() {
		if o.Keep {
			r.say("kept %s", r.Dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(r.Dir))
	}()
	started := time.Now()
	if r.machine, err = describeMachine(r.Dir); err != nil {
		return fmt.Errorf("describe this machine: %w", err)
	}
	if r.network, err = devnet.Create(r.Dir, o.Network, started); err != nil {
		return err
	}
	r.fleet, err = startFleet(r.network)
	defer func() { err = errors.Join(err, r.fleet.stop()) }()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.fleet.watch(ctx, cancel)
	if err := r.prepare(ctx, started); err != nil {
		return because(ctx, err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.setupSeconds = time.Since(started).Seconds()
	if err := f(ctx, r); err != nil {
		return because(ctx, err)
	}
	return nil
}

// directories makes those that the options name, or a temporary one.
func (o *Options) directories() (err error) {
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "lacre-bench-"); err != nil {
			return err
		}
	} else if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a run founds its own network", o.Dir)
	}
	if o.ProfileDir != "" {
		if err := os.MkdirAll(o.ProfileDir, 0o755); err != nil { //nolint:gosec // profiles are there to be read.
			return err
		}
	}
	return os.MkdirAll(o.Dir, 0o700)
}

// because prefers why ctx ended: a node that ended says more than a call that
// failed for it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, format+"\n", args...) //nolint:errcheck // progress that nobody reads changes nothing.
}

// prepare does all that must not be measured.
func (r *run) prepare(ctx context.Context, started time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if r.networkID, err = digest.Parse(r.network.NetworkID); err != nil {
		return err
	}
	text, err := os.ReadFile(r.network.TrustPath())
	if err != nil {
		return err
	}
	bundle, err := trust.Parse(text)
	if err != nil {
		return err
	}
	r.verifier = meter.NewVerifier(bundle)
	if r.vectors, err = newPool(ctx, r.Options); err != nil {
		return err
	}
	starting, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	if err := r.network.WaitReady(starting); err != nil {
		return err
	}
	r.say("%d processes are ready, %d raw vectors prepared after %.1f s", len(r.fleet.processes), len(r.vectors.vectors), time.Since(started).Seconds())
	if r.head, err = newHead(r.network, r.verifier); err != nil {
		return err
	}
	connection, err := r.network.Dial(devnet.Approval, nil)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	client := approvalv1.NewApprovalServiceClient(connection)
	if err := r.approve(ctx, client); err != nil {
		return err
	}
	if err := r.register(ctx, client); err != nil {
		return err
	}
	r.say("%d meters are registered after %.1f s", len(r.senders), time.Since(started).Seconds())
	r.sets, err = newSets(r)
	return err
}

// close ends the connections of the generator.
func (r *run) close() error {
	failures := []error{r.head.close(), r.sets.close()}
	for _, s := range r.senders {
		if s.connection != nil {
			failures = append(failures, s.connection.Close())
		}
	}
	return errors.Join(failures...)
}

// connecting is how many clients shake hands at a time.
const connecting = 32

// connect connects every client, for as long as ctx lasts, and has endorsement
// sets verified from now on.
func (r *run) connect(ctx context.Context) error {
	gateway, err := r.network.Node(devnet.Gateway)
	if err != nil {
		return err
	}
	calling, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	err = parallel(calling, connecting, len(r.senders), func(i int) error { return r.senders[i].connect(calling, ctx, gateway) })
	if err != nil {
		return err
	}
	r.sets.work(ctx)
	go r.head.follow(ctx, r.say)
	return nil
}

// measure loads the network once and reports.
func (r *run) measure(ctx context.Context) (*Report, error) {
	report := &Report{Configuration: r.Options, Machine: r.machine, SetupSeconds: r.setupSeconds}
	r.tally, r.backlog = new(tally), backlog{latencies: newLatencies()}
	r.sets.begin(r.tally)
	meter := &gauge{run: r}
	l := &load{run: r, latencies: newLatencies(), recent: newLatencies(), measure: func(ctx context.Context, client int) error { return r.senders[client].measure(ctx) }}
	var err error
	if meter.spaceBefore, err = measureSpace(r.network); err != nil {
		return nil, err
	}
	if err := l.drive(ctx, r.Options, func() error { return meter.begin(ctx) }, meter.end); err != nil {
		return nil, err
	}
	report.RatePerSecond, report.Latency, report.LatencyCorrected = l.results(r.Options)
	report.Measurements = l.counted.Load()
	return report, r.conclude(ctx, report, meter)
}

// conclude waits for the verdicts, compares with the ledger and adds everything up.
func (r *run) conclude(ctx context.Context, report *Report, g *gauge) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	sets, err := r.sets.await(ctx)
	if err != nil {
		return err
	}
	replica, height, err := r.caughtUp(ctx)
	if err != nil {
		return err
	}
	report.Blocks = height
	losses, leaves, err := compare(ctx, replica, r.senders, r.tally)
	if err != nil {
		return err
	}
	report.Losses, report.OnLedger, report.EndorsementSets = losses, leaves-r.earlier.onLedger, sets-r.earlier.sets
	r.earlier = earlier{onLedger: leaves, sets: sets}
	if err := g.fill(report); err != nil {
		return err
	}
	t := r.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	report.Losses.NotVerified, report.Losses.Unsent = t.badness, t.unsent.Load()
	report.Lost = report.Losses.Unanswered + report.Losses.NotOnLedger
	report.Shed, report.Refusals, report.Examples, report.LastBreak = t.sheds, t.refusals, t.examples, t.broken
	report.Begun, report.Verified, report.WithMeasuredValue = t.begun.Load(), t.verified.Load(), t.valid.Load()
	report.Reconnects, report.Vectors = t.reconnects.Load(), len(r.vectors.vectors)
	report.Backlog = r.backlog.report(r.Options)
	if killed := r.killed.Load(); killed != nil {
		report.Killed = *killed
	}
	report.Machine.LoadAfter, err = loadAverage()
	report.Warnings = append(report.Warnings, report.Machine.warnings()...)
	return err
}

// caughtUp finds a replica that runs and has certified what any of them has.
func (r *run) caughtUp(ctx context.Context) (ledgerReader, uint64, error) {
	for {
		var clients []ledgerv1.LedgerServiceClient
		var heights []uint64
		highest := uint64(0)
		for i, node := range r.network.ByRole(recordv1.Role_ROLE_REPLICA) {
			if !r.fleet.runs(node.ID) {
				continue
			}
			client := ledgerv1.NewLedgerServiceClient(r.sets.connections[i])
			status, err := client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
			if err != nil {
				continue
			}
			clients, heights = append(clients, client), append(heights, status.GetCertifiedHeight())
			highest = max(highest, status.GetCertifiedHeight(), status.GetAppliedHeight())
		}
		for i, h := range heights {
			if h == highest {
				return clients[i], h, nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, 0, errors.Join(errBehind, err)
		}
	}
}

// killLeader ends the leader's process with SIGKILL.
func (r *run) killLeader(ctx context.Context) error {
	for _, c := range r.sets.connections {
		status, err := ledgerv1.NewLedgerServiceClient(c).GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err != nil || status.GetLeader() == "" {
			continue
		}
		leader := status.GetLeader()
		r.killed.Store(&leader)
		r.say("killing the leader, %s", leader)
		return r.fleet.kill(leader)
	}
	return errors.New("no replica knows a leader to kill")
}
