package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// sets verifies every endorsement set once: the bundle of the first measurement
// that names it, with policy, approval and the endorsers' registrations. The
// other measurements of the set are compared with its claims.
type sets struct {
	verifier    *meter.Verifier
	connections []*grpc.ClientConn // to the replicas
	turn        atomic.Uint32

	queue chan named
	open  sync.WaitGroup // sets without a verdict

	mu    sync.Mutex // guards the rest
	tally *tally
	sets  map[digest.Digest]*set
}

// set is one endorsement set. Its fields are guarded by sets.mu.
type set struct {
	verdict          error // errPending until there is one
	claims           [][]byte
	approval, config digest.Digest
	waiting          []named // compared once the set is verified
}

var errPending = errors.New("not verified yet")

// named is a measurement, as far as its set concerns it.
type named struct {
	meter                 string
	counter               uint64
	set, approval, config digest.Digest
	claim                 digest.Digest
	index                 uint32
}

// setWorkers is how many bundles are asked for at a time.
const setWorkers, setQueue = 4, 1 << 16

func newSets(r *run) (*sets, error) {
	s := &sets{verifier: r.verifier, tally: r.tally, queue: make(chan named, setQueue), sets: make(map[digest.Digest]*set)}
	for _, replica := range r.network.ByRole(recordv1.Role_ROLE_REPLICA) {
		connection, err := r.network.Dial(replica.ID, nil)
		if err != nil {
			return s, err
		}
		s.connections = append(s.connections, connection)
	}
	return s, nil
}

// begin counts in another tally from now on. Nothing must wait for a verdict.
func (s *sets) begin(t *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally = t
}

// work verifies sets until ctx ends.
func (s *sets) work(ctx context.Context) {
	for range setWorkers {
		go func() {
			for {
				select {
				case first := <-s.queue:
					claims, err := s.verify(ctx, first)
					s.settle(first, claims, err)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// note has a certified measurement's endorsement verified.
func (s *sets) note(meterID string, r *receipt.Receipt) {
	n := named{meter: meterID, counter: r.Sample.Counter, set: r.EndorsementSet, approval: r.Approval, config: r.Config,
		claim: claim.Hash(r.Message.GetClaim()), index: r.Message.GetClaimIndex()}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.sets[n.set]
	switch {
	case known == nil:
		s.sets[n.set] = &set{verdict: errPending}
		s.open.Add(1)
		select {
		case s.queue <- n:
		default: // the workers are far behind: say so rather than hold up the client
			go s.settle(n, nil, errors.New("too many endorsement sets wait to be verified"))
		}
	case errors.Is(known.verdict, errPending):
		known.waiting = append(known.waiting, n)
	default:
		s.compare(known, n)
	}
}

// compare checks that a verified set holds the claim. The caller holds mu.
func (s *sets) compare(known *set, n named) {
	err := known.verdict
	switch {
	case err != nil:
	case int(n.index) >= len(known.claims) || !bytes.Equal(known.claims[n.index], n.claim[:]):
		err = fmt.Errorf("claim %d of endorsement set %s is not the measurement's", n.index, n.set.Short())
	case n.approval != known.approval || n.config != known.config:
		err = fmt.Errorf("endorsement set %s was verified under another approval or configuration", n.set.Short())
	}
	if err != nil {
		s.tally.bad(fmt.Errorf("meter %s counter %d: %w", n.meter, n.counter, err))
	}
}

// settle gives a set its verdict.
func (s *sets) settle(first named, claims [][]byte, verdict error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.open.Done()
	known := s.sets[first.set]
	known.claims, known.approval, known.config, known.verdict = claims, first.approval, first.config, verdict
	s.compare(known, first)
	for _, n := range known.waiting {
		s.compare(known, n)
	}
	known.waiting = nil
}

const (
	bundleTries = 40
	bundleDelay = 50 * time.Millisecond
)

// verify asks one replica after the other: one may lag behind the leader that
// gave the receipt, or be down.
func (s *sets) verify(ctx context.Context, n named) (claims [][]byte, err error) {
	request := &ledgerv1.GetBundleRequest{Measurement: &ledgerv1.MeasurementKey{MeterId: n.meter, Counter: n.counter}}
	for range bundleTries {
		client := ledgerv1.NewLedgerServiceClient(s.connections[int(s.turn.Add(1))%len(s.connections)])
		call, cancel := context.WithTimeout(ctx, answerTimeout)
		response, failed := client.GetBundle(call, request)
		cancel()
		if failed == nil {
			return s.judge(response.GetBundle(), n)
		}
		err = failed
		if pause(ctx, bundleDelay) != nil {
			break
		}
	}
	return nil, fmt.Errorf("no replica gives the bundle: %w", err)
}

func (s *sets) judge(bundle []byte, n named) ([][]byte, error) {
	contents, err := s.verifier.Bundle(bundle)
	if err != nil {
		return nil, err
	}
	if contents.Receipt.EndorsementSet != n.set {
		return nil, fmt.Errorf("the bundle's endorsement set is %s, the receipt's %s", contents.Receipt.EndorsementSet.Short(), n.set.Short())
	}
	parsed, err := receipt.ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(parsed.GetEndorsementSet().GetRecord())
	if err != nil {
		return nil, err
	}
	return r.GetEndorsementSet().GetClaims(), nil
}

// await waits until every set has a verdict, and counts them.
func (s *sets) await(ctx context.Context) (int, error) {
	done := make(chan struct{})
	go func() {
		s.open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return 0, fmt.Errorf("endorsement sets are not verified: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sets), nil
}

func (s *sets) close() error {
	var failures []error
	for _, c := range s.connections {
		failures = append(failures, c.Close())
	}
	return errors.Join(failures...)
}
