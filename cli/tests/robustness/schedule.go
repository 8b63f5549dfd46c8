package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// kind says what a fault does.
type kind string

const (
	kill      kind = "kill"      // SIGKILL, started again after the fault's length
	pause     kind = "pause"     // SIGSTOP, SIGCONT after the fault's length
	partition kind = "partition" // connections are cut, in one of the shapes
	slow      kind = "slow"      // every byte between the chosen nodes comes later
	point     kind = "point"     // SIGKILL before or after a step of a replica's work, started again like kill
	torn      kind = "torn"      // a write to a file ends in its middle, with the process
	stall     kind = "stall"     // a step of the disk's takes longer
	clock     kind = "clock"     // a replica's clock jumps, and jumps back
	disk      kind = "disk"      // writes fail: no space, read-only, an error of the device
	echo      kind = "echo"      // messages of the ordering engine come again, later
	lie       kind = "lie"       // a replica is Byzantine, always the same one of a seed
	alter     kind = "alter"     // a bit of what a replica has stored flips, always the same replica's of a seed
	member    kind = "member"    // the network's membership changes, as its operators change it
	silence   kind = "silence"   // pause, of the leader, for which it is as good as dead
	conflict  kind = "conflict"  // honest replicas lock headers that exclude each other; root keys continue the ledger
)

// shape says which replicas a partition keeps from which.
type shape string

const (
	isolated   shape = "isolated"   // the target and nobody else
	halves     shape = "halves"     // two and two
	deaf       shape = "deaf"       // nothing reaches the target, what it sends arrives
	mute       shape = "mute"       // nothing that the target sends arrives, it hears all
	through    shape = "through"    // everybody reaches the target and nobody else
	noClients  shape = "no-clients" // the gateway and the endorsers reach the target no more
	gatewayCut shape = "gateway"    // the gateway reaches no replica
)

var shapes = []shape{isolated, isolated, halves, deaf, mute, through, noClients, gatewayCut}

// targets of faults that are not of the schedule but of the moment.
const (
	leader   = "leader"
	liar     = "liar"     // the replica that led at the seed's first lie
	damaged  = "damaged"  // the replica that the first alteration struck
	follower = "follower" // one that does not lead
)

// fault is one entry of a schedule.
type fault struct {
	Kind   kind          `json:"kind"`
	At     time.Duration `json:"at_ns"`     // since the load began
	Length time.Duration `json:"length_ns"` // until it is healed
	Target string        `json:"target"`    // a node's id, or leader or follower of that moment
	Shape  shape         `json:"shape,omitempty"`
	Reset  bool          `json:"reset,omitempty"` // cut connections are closed; otherwise their bytes wait
	Delay  time.Duration `json:"delay_ns,omitempty"`
	Step   string        `json:"step,omitempty"` // of point, torn, stall and disk: "before commit"
	Errno  string        `json:"errno,omitempty"`
	Lie    string        `json:"lie,omitempty"`
	File   string        `json:"file,omitempty"`   // of alter
	Change string        `json:"change,omitempty"` // of member
	// Stopped says that the process is killed before an alteration, or while it joins.
	Stopped bool   `json:"stopped,omitempty"`
	Choice  uint64 `json:"choice"` // settles what else is to be chosen when it strikes
}

func (f fault) String() string {
	s := fmt.Sprintf("%.1fs %s %s for %.1fs", f.At.Seconds(), f.Kind, f.Target, f.Length.Seconds())
	switch {
	case f.Lie+f.Change != "":
		s += " " + f.Lie + f.Change
	case f.File != "":
		s += " in " + f.File
		if f.Stopped {
			s += " while it is stopped"
		}
	case f.Step != "":
		s += " " + f.Step
		if f.Errno != "" {
			s += " with " + f.Errno
		}
		if f.Delay > 0 {
			s += " by " + f.Delay.String()
		}
	case f.Shape != "":
		s += fmt.Sprintf(" %s", f.Shape)
		if f.Reset {
			s += " reset"
		}
	case f.Delay != 0:
		s += " by " + f.Delay.String()
	}
	return s
}

// nodes are what a schedule chooses from.
type nodes struct {
	replicas, others []string
}

// lineup says which kinds of faults a seed has.
type lineup int

const (
	crashes    lineup = iota // processes, disks, networks and clocks fail
	liars                    // a replica lies, and no other fails
	mixed                    // a replica lies while others crash and are cut off: liveness may be lost, safety never
	alterings                // stored bytes of one replica change while others crash
	membership               // replicas come and go while others crash
)

// lineups by the seed's remainder.
var lineups = []lineup{liars, crashes, membership, mixed, alterings, membership}

func lineupOf(seed uint64) lineup { return lineups[seed%uint64(len(lineups))] }

// byzantine seeds have a replica that lies.
func byzantine(seed uint64) bool { return lineupOf(seed) == liars || lineupOf(seed) == mixed }

// schedule is the faults of a seed: a pure function of its arguments. Who leads
// when a fault strikes is not, so a run is repeated in what is done, not in what
// comes of it.
func schedule(seed uint64, duration time.Duration, n nodes) []fault {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible, not secret.
	// Two lies a seed: one that costs the liar its lead would spoil those of a leader.
	told := []string{lies[random.IntN(len(lies))], lies[random.IntN(len(lies))]}
	var faults []fault
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(high-low)))
	}
	if lineupOf(seed) == membership {
		f := fault{Kind: member, At: between(300*time.Millisecond, 2*time.Second).Round(time.Millisecond), Choice: random.Uint64(), Change: changes[random.IntN(len(changes))]}
		f.Length, f.Target = duration-f.At, replicaTarget(random, n) // who leaves
		faults = append(faults, f)
		n.replicas = append(slices.Clone(n.replicas), spare)
	}
	for at := between(300*time.Millisecond, time.Second); at < duration-time.Second; at += between(200*time.Millisecond, 2500*time.Millisecond) {
		f := fault{At: at.Round(time.Millisecond), Choice: random.Uint64()}
		f.Length = min(between(100*time.Millisecond, 4*time.Second), duration-at).Round(time.Millisecond)
		f.Target = target(random, n)
		if f.Kind = weighted(random, weightsOf[lineupOf(seed)]); f.Kind != kill && f.Kind != pause {
			f.Target = replicaTarget(random, n)
		}
		switch f.Kind {
		case kill, pause, member:
		case partition:
			f.Shape = shapes[random.IntN(len(shapes))]
			f.Reset = random.IntN(2) == 0
		case slow:
			f.Delay = between(5*time.Millisecond, 250*time.Millisecond).Round(time.Millisecond)
		case point:
			f.Step = []string{"before ", "after "}[random.IntN(2)] + steps[random.IntN(len(steps))]
		case torn:
			f.Step = "before " + []string{"write", "logwrite"}[random.IntN(2)]
		case stall:
			f.Step = "before " + []string{"sync", "commit", "logsync"}[random.IntN(3)]
			f.Delay = between(10*time.Millisecond, 2*time.Second).Round(time.Millisecond)
		case clock:
			f.Delay = []time.Duration{-time.Hour, -30 * time.Second, -3 * time.Second, 3 * time.Second, 30 * time.Second, 24 * time.Hour}[random.IntN(6)]
		case echo:
			f.Lie = "duplicate"
		case lie:
			f.Target, f.Lie = liar, told[random.IntN(len(told))]
		case disk:
			f.Step = "before " + []string{"write", "sync", "commit", "logwrite", "logsync", "certify"}[random.IntN(6)]
			f.Errno = []string{"ENOSPC", "EROFS", "EIO"}[random.IntN(3)]
		case alter:
			f.Target, f.File, f.Stopped = damaged, fileOf(seed), random.IntN(2) == 0
		}
		faults = append(faults, f)
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

const scenarios = "stalled-disk, stalled-store, full-disk, full-log, read-only-disk, leader-death, leader-silence, killed-join, conflicting-locks"

// scenario is a schedule of one fault, once or again and again, for what is to be
// measured by itself.
func scenario(name string, duration time.Duration) ([]fault, error) {
	f := fault{At: 2 * time.Second, Length: duration - 3*time.Second, Target: leader}
	switch name {
	case "stalled-disk": // the leader's log hangs: rule R3 ends it after 10 s
		f.Kind, f.Step, f.Delay = stall, "before logsync", time.Hour
	case "stalled-store": // only the ledger's files hang, the log's do not
		f.Kind, f.Step, f.Delay = stall, "before sync", time.Hour
	case "full-disk":
		f.Kind, f.Step, f.Errno = disk, "before write", "ENOSPC"
	case "full-log":
		f.Kind, f.Step, f.Errno = disk, "before logwrite", "ENOSPC"
	case "read-only-disk":
		f.Kind, f.Step, f.Errno = disk, "before term", "EROFS"
	case "leader-death": // its connections end with it
		f.Kind, f.Length = kill, 2*time.Second
		return repeated(f, 5*time.Second, duration), nil
	case "leader-silence": // as when a machine is gone: its connections stay, and nothing comes
		f.Kind, f.Length = silence, 5*time.Second
		return repeated(f, 8*time.Second, duration), nil
	case "killed-join": // there are some hundred blocks to fetch by then
		f.Kind, f.Change, f.Stopped, f.At = member, "add", true, duration/2
		f.Length = duration - f.At
	case "conflicting-locks":
		f.Kind = conflict
	default:
		return nil, fmt.Errorf("no scenario %q: %s", name, scenarios)
	}
	return []fault{f}, nil
}

// repeated is a fault again and again.
func repeated(f fault, every, duration time.Duration) []fault {
	var faults []fault
	for ; f.At+f.Length < duration; f.At += every {
		faults = append(faults, f)
	}
	return faults
}

// steps are those of package fault in services/ledger/internal, which another
// module cannot import; a name that the replica does not know fails the run.
var steps = []string{"append", "logwrite", "logsync", "apply", "cosign", "write", "sync", "commit", "publish", "certify", "reply"}

type weight struct {
	kind   kind
	weight int
}

// weightsOf are the weights of the kinds, out of a hundred.
var weightsOf = map[lineup][]weight{
	crashes: {{kill, 20}, {point, 22}, {partition, 22}, {pause, 9}, {slow, 7}, {torn, 6}, {stall, 5}, {clock, 3}, {disk, 4}, {echo, 2}},
	// The ledger is live with F = 1 faulty replica of four, not with two.
	liars:      {{lie, 70}, {slow, 15}, {clock, 5}, {stall, 10}},
	mixed:      {{lie, 45}, {kill, 16}, {point, 12}, {partition, 15}, {pause, 5}, {slow, 5}, {stall, 2}},
	alterings:  {{alter, 25}, {kill, 22}, {point, 16}, {partition, 17}, {pause, 7}, {slow, 6}, {torn, 4}, {stall, 3}},
	membership: {{kill, 26}, {point, 20}, {partition, 24}, {pause, 12}, {slow, 8}, {stall, 5}, {torn, 5}},
}

// changes of the membership: by a replica of an organisation that joined at the
// founding, which joins the ledger first.
var changes = []string{"replace", "replace", "add", "remove", "add-remove"}

// fileOf is the kind of file that the alterations of a seed strike, always the same:
// what is found in one ends the replica, and what is packed is there only later.
func fileOf(seed uint64) string { return files[seed/uint64(len(lineups))%uint64(len(files))] }

// files of a replica that an alteration can strike.
var files = []string{"segment", "records", "raw vectors", "database", "log"}

// lies are those of package fault; duplicate is none, only a bad network.
var lies = []string{"equivocate", "higher-term", "bad-cosign", "double-sign", "withhold", "old-cosigns", "duplicate"}

func weighted(random *rand.Rand, list []weight) kind {
	roll := random.IntN(100)
	for _, w := range list {
		if roll -= w.weight; roll < 0 {
			return w.kind
		}
	}
	return kill
}

// target prefers the leader, whose loss costs most.
func target(random *rand.Rand, n nodes) string {
	if random.IntN(5) == 0 {
		return n.others[random.IntN(len(n.others))]
	}
	return replicaTarget(random, n)
}

func replicaTarget(random *rand.Rand, n nodes) string {
	switch random.IntN(3) {
	case 0:
		return leader
	case 1:
		return follower
	default:
		return n.replicas[random.IntN(len(n.replicas))]
	}
}
