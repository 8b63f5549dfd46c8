// Command robustness founds a network as separate processes of the real programs,
// with a proxy of ours on every connection between two nodes, and lets faults
// happen that follow from a seed, while meters measure and readers read. Then it
// heals everything, waits until all is answered, stops the network, and compares
// what clients were told with what lies on the disks.
//
// Source: architecture, "Layout" (cli/tests); the shape (model, traffic, faults,
// validation) is that of etcd's robustness tests.
//
// Invariants, each checked after every seed:
//   - No measurement with a receipt is missing or another; no counter is a leaf
//     twice; every receipt verifies, also at the end.
//   - The replicas' blocks are the same, byte for byte, and no two certificates
//     of one size have different roots.
//   - What clients saw is linearizable.
//   - After the last fault everything that was sent is answered, and all agree.
//   - No process ends that nobody ended.
//   - The schedule is a pure function of seed and duration.
//
// Everything that it starts ends with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "first seed; each further one is the one after")
	flag.IntVar(&o.seeds, "seeds", 0, "how many seeds; 0 means as many as fit into -duration")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long all of it may take, if -seeds is 0")
	flag.DurationVar(&o.each, "each", 12*time.Second, "how long the faults of one seed go on")
	flag.StringVar(&o.bin, "bin", "", "directory of the programs")
	flag.StringVar(&o.dir, "dir", "", "directory of the runs; a temporary one by default")
	flag.StringVar(&o.report, "report", "", "file to which a line of JSON is added for each seed")
	flag.StringVar(&o.scenario, "scenario", "", "one fault at the leader instead of a schedule: "+scenarios)
	flag.BoolVar(&o.plan, "plan", false, "print the schedule of the seed and do nothing")
	flag.BoolVar(&o.verbose, "v", false, "tell each fault")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "robustness:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	seed             uint64
	seeds            int
	duration, each   time.Duration
	bin, dir, report string
	scenario         string
	plan, verbose    bool
}

var errViolations = errors.New("invariants were violated")

// setupTimeout bounds the founding.
const setupTimeout = 2 * time.Minute

func (o options) run(ctx context.Context) (err error) {
	if o.plan {
		// The ids of the development network, which each run founds anew.
		of := nodes{replicas: []string{"replica-authority", "replica-institute", "replica-operator", "replica-university"},
			others: []string{"approval", "endorser-institute", "endorser-operator", "gateway"}}
		for _, f := range schedule(o.seed, o.each, of) {
			fmt.Println(f)
		}
		return nil
	}
	if o.bin == "" {
		return errors.New("-bin is missing: make robustness builds the programs and names them")
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "lacre-robustness-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.tidy(err)) }()
	} else if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	started := time.Now()
	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	n, err := found(setup, o.bin, o.dir)
	cancel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	fmt.Printf("founded in %.1f s\n", time.Since(started).Seconds())
	var all []*result
	bad := 0
	for i := 0; o.seeds > 0 && i < o.seeds || o.seeds == 0 && (i == 0 || time.Since(started) < o.duration-o.each); i++ {
		seed := o.seed + uint64(i)
		faults := schedule(seed, o.each, n.nodes())
		if o.scenario != "" {
			if faults, err = scenario(o.scenario, o.each); err != nil {
				return err
			}
		}
		r, err := n.one(ctx, seed, faults, o.each, func(format string, args ...any) {
			if o.verbose {
				fmt.Printf("  "+format+"\n", args...)
			}
		})
		if err != nil {
			return errors.Join(fmt.Errorf("seed %d: %w", seed, err), n.keep(seed))
		}
		all = append(all, r)
		if len(r.Violations) > 0 {
			bad++
			if err := n.keep(seed); err != nil {
				return err
			}
		}
		r.print()
		if err := o.note(r); err != nil {
			return err
		}
	}
	summarise(all, time.Since(started))
	if bad > 0 {
		return fmt.Errorf("%w in %d of %d seeds; what they left is in %s", errViolations, bad, len(all), o.dir)
	}
	return nil
}

// keep moves what a seed left aside.
func (n *network) keep(seed uint64) error {
	return copyTree(n.live(), filepath.Join(n.dir, fmt.Sprintf("seed-%d", seed)))
}

// tidy removes a temporary directory unless there is something to look at.
func (o options) tidy(err error) error {
	if err != nil {
		return nil //nolint:nilerr // it is kept for whoever looks into it.
	}
	return os.RemoveAll(o.dir)
}

// note adds a result to the report's file.
func (o options) note(r *result) error {
	if o.report == "" {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(o.report, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a report is there to be read.
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
