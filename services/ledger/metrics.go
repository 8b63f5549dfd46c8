package ledger

import (
	"io/fs"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// meters are the replica's metrics that something happening adds to; the rest is
// read when somebody gathers.
type meters struct {
	commit  prometheus.Histogram
	order   prometheus.Histogram
	certify prometheus.Histogram
	block   prometheus.Histogram
	records map[protowire.Number]prometheus.Counter // by the kind of record
}

func newMeters(registry *prometheus.Registry) *meters {
	m := &meters{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lacre_ledger_commit_duration_seconds", Help: "Time to make a batch of blocks durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		order: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lacre_ledger_order_duration_seconds", Help: "Time from taking a submission in as the leader until its block is durable here.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		certify: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lacre_ledger_certify_duration_seconds", Help: "Time from there until the block is certified by a quorum.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		block: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lacre_ledger_block_records", Help: "Records of a block, its header included.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		records: make(map[protowire.Number]prometheus.Counter),
	}
	kinds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lacre_ledger_records_total", Help: "Records applied since the start, by kind.",
	}, []string{"kind"})
	fields := (&recordv1.Record{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		m.records[f.Number()] = kinds.WithLabelValues(string(f.Name()))
	}
	registry.MustRegister(m.commit, m.order, m.certify, m.block, kinds)
	return m
}

// committed counts a batch that is durable. A record's first field says its kind.
func (m *meters) committed(blocks []storage.Block, took time.Duration) {
	m.commit.Observe(took.Seconds())
	for i := range blocks {
		m.block.Observe(float64(len(blocks[i].Leaves)))
		for _, leaf := range blocks[i].Leaves {
			if number, _, n := protowire.ConsumeTag(leaf); n > 0 && m.records[number] != nil {
				m.records[number].Inc()
			}
		}
	}
}

// gauges are read from what the replica holds anyway.
func (s *Service) gauges() *admin.Gauges {
	g := new(admin.Gauges)
	one := func(read func() float64) func(func(float64, ...string)) {
		return func(emit func(float64, ...string)) { emit(read()) }
	}
	g.Gauge("lacre_ledger_applied_height_blocks", "Height of the newest applied block.", nil, one(func() float64 { return float64(s.machine.Head().Block.Height) }))
	g.Gauge("lacre_ledger_fetching_to_height_blocks", "Height up to which blocks are being fetched from other replicas; 0 when none are.", nil, one(func() float64 { return float64(s.machine.Goal()) }))
	g.Gauge("lacre_ledger_certified_height_blocks", "Height of the newest certified block.", nil, one(func() float64 { return float64(s.collector.Newest().Block.Height) }))
	g.Gauge("lacre_ledger_uncertified_blocks", "Applied blocks without a certificate.", nil, one(func() float64 {
		certified := s.collector.Newest().Block.Height // first: the head only grows
		return float64(s.machine.Head().Block.Height - certified)
	}))
	g.Gauge("lacre_ledger_tree_records", "Records of the log, applied here.", nil, one(func() float64 { return float64(s.machine.Head().Block.Size) }))
	g.Gauge("lacre_ledger_certified_time_seconds", "Newest certified time: the cosigners' clocks, in seconds since the epoch.", nil, one(func() float64 {
		return float64(certifiedUnixNano(s.collector.Fresh())) / 1e9
	}))
	g.Gauge("lacre_ledger_clock_offset_seconds", "This replica's clock less those of the other cosigners of the newest certificate, their median; as it came last.", nil,
		one(func() float64 { return time.Duration(s.clocks.offset.Load()).Seconds() }))
	g.Gauge("lacre_ledger_raft_leader", "1 on the replica that leads, otherwise 0.", nil, one(func() float64 { return truth(s.order.IsLeader()) }))
	g.Gauge("lacre_ledger_raft_leader_known", "1 if this replica knows a leader, otherwise 0.", nil, one(func() float64 {
		_, known := s.order.Leader()
		return truth(known)
	}))
	g.Gauge("lacre_ledger_raft_applied_index", "Index of the newest applied entry.", nil, one(func() float64 { return float64(s.machine.AppliedIndex()) }))
	g.Counter("lacre_ledger_bad_proposals_total", "Proposals that applied as an empty block.", nil, one(func() float64 { return float64(s.machine.BadProposals()) }))
	g.Gauge("lacre_ledger_cosigner_height_blocks", "Newest block for which a replica's cosignature was seen here.", []string{"replica"}, s.cosigners(func(c *ledgerv1.Cosigner) float64 { return float64(c.GetHeight()) }))
	g.Gauge("lacre_ledger_cosigner_time_seconds", "Newest time stamp of a replica's cosignatures seen here, in seconds since the epoch; 0 for none.", []string{"replica"}, s.cosigners(func(c *ledgerv1.Cosigner) float64 { return float64(c.GetTimestampUnix()) }))
	g.Gauge("lacre_ledger_queued_submissions", "Submissions that wait for a proposal.", nil, one(func() float64 {
		submissions, _ := s.cutter.Queued()
		return float64(submissions)
	}))
	g.Gauge("lacre_ledger_queued_bytes", "Bytes of submissions that wait or are on their way to a block.", nil, one(func() float64 {
		_, bytes := s.cutter.Queued()
		return float64(bytes)
	}))
	space := func(of func(free, total uint64) uint64) func(func(float64, ...string)) {
		return func(emit func(float64, ...string)) {
			if free, total, err := durable.Space(s.config.DataDir); err == nil { // a metric that cannot be read is absent
				emit(float64(of(free, total)))
			}
		}
	}
	g.Gauge("lacre_ledger_disk_free_bytes", "Bytes that the data directory's file system has left.", nil, space(func(free, _ uint64) uint64 { return free }))
	g.Gauge("lacre_ledger_disk_size_bytes", "Bytes that the data directory's file system has in all.", nil, space(func(_, total uint64) uint64 { return total }))
	g.Gauge("lacre_ledger_disk_bytes", "Bytes of files: records (of segments that are not packed also raw vectors), raw vectors, index and state, ordering log.", []string{"part"}, func(emit func(float64, ...string)) {
		for part, bytes := range s.diskBytes() {
			emit(bytes, part)
		}
	})
	g.Gauge("lacre_ledger_packed_segments", "Full segments of records and raw vectors that are packed.", nil, one(func() float64 { return float64(s.store.Packed()) }))
	g.Gauge("lacre_ledger_cold_segments", "Packed segments whose raw vectors are in cold storage.", nil, one(func() float64 { return float64(s.store.ColdSegments()) }))
	g.Gauge("lacre_ledger_cold_bytes", "Bytes of raw vectors in cold storage.", nil, one(func() float64 { return float64(s.store.ColdBytes()) }))
	g.Gauge("lacre_ledger_expired_segments", "Packed segments whose raw vectors expired and were dropped.", nil, one(func() float64 { return float64(s.store.DroppedSegments()) }))
	g.Gauge("lacre_ledger_disk_refuses_writes", refusesWritesHelp, nil, one(func() float64 { return 0 }))
	return g
}

const refusesWritesHelp = "1 while the replica serves nothing and waits for a disk that takes writes, otherwise 0."

// cosigners reads one value of every replica of the configuration.
func (s *Service) cosigners(value func(*ledgerv1.Cosigner) float64) func(func(float64, ...string)) {
	return func(emit func(float64, ...string)) {
		list, err := s.api.Cosigners()
		if err != nil {
			s.log.Error("the configuration cannot be read", "error", err)
			return
		}
		for _, c := range list {
			emit(value(c), c.GetNodeId())
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// diskBytes adds up the files; one that vanishes meanwhile counts nothing.
func (s *Service) diskBytes() map[string]float64 {
	sum := func(dir string, count func(name string) bool) (bytes float64) {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error { // what cannot be read counts nothing
			if err != nil || entry.IsDir() || !count(entry.Name()) {
				return nil //nolint:nilerr // what cannot be read counts nothing.
			}
			if info, err := entry.Info(); err == nil {
				bytes += float64(info.Size())
			}
			return nil
		})
		return bytes
	}
	parts := map[string]string{".seg": "records", ".rec": "records", ".raw": "raw_vectors"}
	of := func(part string) func(name string) bool {
		return func(name string) bool {
			if p, ok := parts[filepath.Ext(name)]; ok {
				return p == part
			}
			return part == "index"
		}
	}
	return map[string]float64{
		"records":     sum(s.config.storeDir(), of("records")),
		"raw_vectors": sum(s.config.storeDir(), of("raw_vectors")),
		"index":       sum(s.config.storeDir(), of("index")),
		"raft":        sum(s.config.raftDir(), func(string) bool { return true }),
	}
}
