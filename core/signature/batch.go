package signature

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lacre-metrology/lacre/core/digest"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Check is one signature to verify. The slices are only read, until the batch
// returns.
type Check struct {
	Kind      Kind
	Key       Key
	Message   []byte
	Signature []byte
}

// maxChunk bounds how many ZIP-215 checks share one equation: larger gains
// little (17.5 us for each of 128, 14.7 of 256, 12.3 of 512), and a chunk with one
// bad signature is verified again one by one.
const maxChunk = 512

// splitChunk is below what checks are not divided among cores: half as many in
// each of two equations cost a quarter more CPU.
const splitChunk = 128

// minChunk is where one equation starts to win over single checks.
const minChunk = 4

// VerifyBatch answers every check, in order, each answer exactly what Verify
// gives. It uses every core: ZIP-215 checks share an equation, the others run
// side by side.
func VerifyBatch(checks []Check) []bool { return VerifyBatchOn(runtime.GOMAXPROCS(0), checks) }

// VerifyBatchOn is VerifyBatch on at most so many cores, or on one. Who has several
// batches at a time gives each its share: fewer and larger equations cost less CPU.
func VerifyBatchOn(cores int, checks []Check) []bool {
	answers := make([]bool, len(checks))
	all := make([]int, len(checks))
	for i := range all {
		all[i] = i
	}
	verifyAll(checks, all, answers, max(1, cores))
	return answers
}

// VerifyBatch is the package's VerifyBatch through the cache: known answers
// cost a digest, and new positive ones are kept for Verify to find.
func (c *Cache) VerifyBatch(checks []Check) []bool {
	answers := make([]bool, len(checks))
	ids := make([]digest.Digest, len(checks))
	unknown := make([]int, 0, len(checks))
	for i := range checks {
		k := &checks[i]
		if len(k.Signature) != Size || k.Key.Kind() != k.Kind {
			continue
		}
		ids[i] = checkID(k.Key, k.Message, k.Signature)
		if c.has(ids[i]) {
			answers[i] = true
			continue
		}
		unknown = append(unknown, i)
	}
	verifyAll(checks, unknown, answers, runtime.GOMAXPROCS(0))
	for _, i := range unknown {
		if answers[i] {
			c.add(ids[i])
		}
	}
	return answers
}

// verifyAll fills answers[i] for each i of pick, with so many workers. Jobs write
// disjoint elements.
func verifyAll(checks []Check, pick []int, answers []bool, workers int) {
	var shared, single []int
	for _, i := range pick {
		k := &checks[i]
		switch {
		case len(k.Signature) != Size || k.Key.Kind() != k.Kind:
		case k.Kind == Ed25519ZIP215:
			shared = append(shared, i)
		default:
			single = append(single, i)
		}
	}
	size := min(maxChunk, max(splitChunk, (len(shared)+workers-1)/workers))
	if len(shared) < minChunk {
		single, shared = append(single, shared...), nil
	}
	var chunks [][]int
	for len(shared) > 0 {
		n := min(size, len(shared))
		chunks, shared = append(chunks, shared[:n]), shared[n:]
	}

	run := func(job int) {
		if job < len(chunks) {
			verifyChunk(checks, chunks[job], answers)
			return
		}
		i := single[job-len(chunks)]
		k := &checks[i]
		answers[i] = Verify(k.Kind, k.Key, k.Message, k.Signature)
	}
	parallel(len(chunks)+len(single), workers, run)
}

// equations keeps the room of equations that were checked, some 0.6 KiB for each
// signature.
var equations = sync.Pool{New: func() any { return voi.NewBatchVerifierWithCapacity(splitChunk) }}

// verifyChunk checks one equation over a chunk; voi draws the random
// coefficients from crypto/rand, which an attacker must not foresee, and says
// which signature failed if one does.
func verifyChunk(checks []Check, chunk []int, answers []bool) {
	batch, _ := equations.Get().(*voi.BatchVerifier) // nothing else is put there
	defer func() { equations.Put(batch.Reset()) }()
	added := make([]int, 0, len(chunk))
	for _, i := range chunk {
		k := &checks[i]
		if point, ok := expansions.of(k.Key); ok {
			batch.AddExpandedWithOptions(point, k.Message, k.Signature, zip215)
			added = append(added, i)
		}
	}
	_, each := batch.Verify(nil)
	for n, i := range added {
		answers[i] = each[n]
	}
}

// parallel calls run(0..jobs-1), each once, on at most workers goroutines, and
// returns when all are done.
func parallel(jobs, workers int, run func(job int)) {
	if jobs <= 1 || workers <= 1 {
		for job := range jobs {
			run(job)
		}
		return
	}
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(jobs, workers) {
		done.Go(func() {
			for {
				job := int(next.Add(1)) - 1
				if job >= jobs {
					return
				}
				run(job)
			}
		})
	}
	done.Wait()
}
