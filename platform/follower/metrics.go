package follower

import "github.com/lacre-metrology/lacre/platform/admin"

// Gauges tell where the follower is, and where it began. They may be read before
// Run.
func (f *Follower) Gauges() *admin.Gauges {
	g := new(admin.Gauges)
	one := func(name, help string, read func() uint64) {
		g.Gauge(name, help, nil, func(emit func(float64, ...string)) { emit(float64(read())) })
	}
	// A height plus 1 is the number of blocks up to it: 0 has a meaning of its own.
	one("lacre_follower_blocks", "Certified blocks that are followed.", func() uint64 {
		if s := f.snapshot.Load(); s != nil {
			return s.head.Height + 1
		}
		return 0
	})
	one("lacre_follower_started_from_blocks", "Blocks that the kept state had when this process started; 0: it read the ledger from its genesis block.", f.keeper.started.Load)
	one("lacre_follower_kept_blocks", "Blocks of the state that is kept for the next start.", f.keeper.height.Load)
	return g
}
