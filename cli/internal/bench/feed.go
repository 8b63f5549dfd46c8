package bench

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// FeedOptions are the settings of feeding one replica.
type FeedOptions struct {
	Options
	Measurements int `json:"measurements"`
	Batch        int `json:"batch"`     // measurements in a submission
	InFlight     int `json:"in_flight"` // submissions on their way
}

// FeedDefaults are a million measurements of 1,024 meters with small raw vectors.
func FeedDefaults() FeedOptions {
	o := FeedOptions{Options: Defaults(), Measurements: 1_000_000, Batch: 512, InFlight: 4}
	o.Network = devnet.Shape{Replicas: 1, Endorsers: 1}
	o.Clients, o.Endorsements, o.Samples = 1024, 1, 192 // the fewest in which simulated vehicles pass
	return o
}

// Check names every wrong setting.
func (o FeedOptions) Check() error {
	var faults []error
	if o.Measurements < feedIntervals {
		faults = append(faults, fmt.Errorf("%d measurements, want %d or more", o.Measurements, feedIntervals))
	}
	if o.Batch < 1 || o.Batch > record.MaxClaims {
		faults = append(faults, fmt.Errorf("submissions of %d measurements, want 1 to %d", o.Batch, record.MaxClaims))
	}
	if o.InFlight < 1 {
		faults = append(faults, fmt.Errorf("%d submissions in flight, want 1 or more", o.InFlight))
	}
	return errors.Join(append(faults, o.Options.Check())...)
}

// feedIntervals is how many parts of a feed are measured.
const feedIntervals = 10

// feed hands one replica measurements that need nobody else any more.
type feed struct {
	run      *run
	options  FeedOptions
	replica  devnet.Node
	ledger   ledgerv1.LedgerServiceClient
	endorser string        // node id of the endorser that signs
	signer   crypto.Signer // its key
	known    meter.KnownBlock
	results  []claim.Claim // by vector: what the endorser's sandbox gave on it
	meters   []claim.Claim // by sender: under which registration
	approval digest.Digest
	config   digest.Digest

	taken   atomic.Int64 // measurements that somebody prepares, or has prepared
	mu      sync.Mutex   // guards the rest
	fed     int64        // with a receipt
	reading []reading    // at the beginning, and after each interval
}

// reading is where the feed was at a moment.
type reading struct {
	at    time.Time
	fed   int64
	usage usage
}

// Feed gives a network's only replica so many measurements, as fast as it takes
// them, and then starts it again. The replica does all that it does in a larger
// network: it rehearses, orders, checks every signature, validates, writes and
// cosigns. The other nodes have ended by then: what they would have said was
// asked before, so that preparing a measurement costs little beside it. What the
// endorser's module gives on each raw vector was computed by the endorser.
func Feed(ctx context.Context, o FeedOptions) (report *FeedReport, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	err = within(ctx, o.Options, func(ctx context.Context, r *run) error {
		f := &feed{run: r, options: o}
		connection, err := f.prepare(ctx)
		if err != nil {
			return err
		}
		defer connection.Close() //nolint:errcheck // everything was answered.
		if err := f.feed(ctx); err != nil {
			return err
		}
		if report, err = f.report(); err != nil {
			return err
		}
		report.Restarts, err = f.restarts(ctx)
		return err
	})
	return report, err
}

// prepare asks everybody what a measurement needs, and ends them but for the
// replica.
func (f *feed) prepare(ctx context.Context) (*grpc.ClientConn, error) {
	network := f.run.network
	f.replica = network.ByRole(recordv1.Role_ROLE_REPLICA)[0]
	f.endorser = network.ByRole(recordv1.Role_ROLE_ENDORSER)[0].ID
	f.known = f.run.head.newest()
	var err error
	if f.signer, err = identity.ReadKey(filepath.Join(network.NodeDir(f.endorser), "signing.pem")); err != nil {
		return nil, err
	}
	if err := f.first(ctx); err != nil {
		return nil, fmt.Errorf("the first measurement: %w", err)
	}
	if err := f.ask(ctx); err != nil {
		return nil, err
	}
	for _, role := range []recordv1.Role{recordv1.Role_ROLE_GATEWAY, recordv1.Role_ROLE_APPROVAL, recordv1.Role_ROLE_ENDORSER} {
		if err := f.run.fleet.end(role); err != nil {
			return nil, err
		}
	}
	gateway, err := network.NodeIdentity(devnet.Gateway)
	if err != nil {
		return nil, err
	}
	connection, err := network.Dial(f.replica.ID, gateway)
	f.ledger = ledgerv1.NewLedgerServiceClient(connection)
	return connection, err
}

// first sends one measurement all the way: its receipt says under which approval
// and configuration.
func (f *feed) first(ctx context.Context) error {
	gateway, err := f.run.network.Node(devnet.Gateway)
	if err != nil {
		return err
	}
	s := f.run.senders[0]
	if err := s.connect(ctx, ctx, gateway); err != nil {
		return err
	}
	shot, err := s.sign(f.run.vectors.take(), f.known)
	if err != nil {
		return err
	}
	answer, err := s.door.submit(ctx, shot.id, shot.request)
	if err != nil {
		return err
	}
	receipt, err := f.run.verifier.Receipt(answer.GetReceipt().GetReceipt(), shot.id)
	if err != nil {
		return fmt.Errorf("answered %v: %w", answer.GetRefusal(), err)
	}
	f.approval, f.config = receipt.Approval, receipt.Config
	return s.cutOff()
}

// ask has the endorser run its module on every vector, and say under which
// registration each meter is. The samples that it takes go no further: the
// meters' chains begin again behind what the ledger has.
func (f *feed) ask(ctx context.Context) error {
	o := EndorserOptions{Options: f.options.Options, Batch: f.options.Batch, InFlight: 1}
	e := &endorsing{run: f.run, options: o, latencies: newLatencies()}
	defer e.close()
	if err := e.dial(); err != nil {
		return err
	}
	vectors, senders := f.run.vectors.vectors, f.run.senders
	f.results, f.meters = make([]claim.Claim, len(vectors)), make([]claim.Claim, len(senders))
	chain := make([]int, len(senders))
	for i, s := range senders {
		chain[i] = len(s.samples)
	}
	module := digest.Plain(speed.Module())
	client := computev1.NewComputeServiceClient(e.endorsers[0].connection)
	for from := 0; from < max(len(vectors), len(senders)); from += o.Batch {
		request := &computev1.EndorseRequest{Algorithm: module[:]}
		for i := from; i < from+o.Batch; i++ {
			shot, err := senders[i%len(senders)].sign(vectors[i%len(vectors)], f.known)
			if err != nil {
				return err
			}
			request.Samples = append(request.Samples, signedSample(shot))
		}
		response, err := client.Endorse(ctx, request)
		if err != nil {
			return fmt.Errorf("endorser %s: %w", f.endorser, err)
		}
		if _, err := e.judge(e.endorsers[0], module, o.Batch, response); err != nil {
			return fmt.Errorf("endorser %s: %w", f.endorser, err)
		}
		for i, outcome := range response.GetOutcomes() {
			c, err := claim.Parse(outcome.GetClaim())
			if err != nil {
				return err
			}
			f.results[(from+i)%len(vectors)], f.meters[(from+i)%len(senders)] = *c, *c
		}
	}
	for i, s := range senders {
		s.samples, s.fates = s.samples[:chain[i]], s.fates[:chain[i]]
	}
	return nil
}

// feed submits until all are on the ledger.
func (f *feed) feed(ctx context.Context) error {
	if err := f.read(); err != nil {
		return err
	}
	return parallel(ctx, f.options.InFlight, f.options.InFlight, func(int) error {
		for ctx.Err() == nil {
			end := f.taken.Add(int64(f.options.Batch))
			begin, end := end-int64(f.options.Batch), min(end, int64(f.options.Measurements))
			if begin >= end {
				return nil
			}
			if err := f.submit(ctx, int(begin), int(end)); err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	})
}

// submit prepares measurements, by number, and hands them in.
func (f *feed) submit(ctx context.Context, begin, end int) error {
	request, ids, err := f.batch(begin, end)
	if err != nil {
		return err
	}
	response, err := f.ledger.Submit(ctx, request)
	if err != nil {
		return fmt.Errorf("measurements %d to %d: %w", begin, end-1, err)
	}
	for i, o := range response.GetOutcomes() {
		if !o.GetAccepted() {
			return fmt.Errorf("record %d of measurements %d to %d is refused with %s: %s", i, begin, end-1, o.GetReason(), o.GetDetail())
		}
	}
	// One receipt for all: they share the certificate, and an audit reads them anyway.
	if _, err := f.run.verifier.Receipt(response.GetOutcomes()[1].GetReceipt(), ids[0]); err != nil {
		return fmt.Errorf("the receipt of measurement %d: %w", begin, err)
	}
	return f.count(int64(end - begin))
}

// batch is measurements under one endorsement set.
func (f *feed) batch(begin, end int) (*ledgerv1.SubmitRequest, []digest.Digest, error) {
	vectors, senders := f.run.vectors.vectors, f.run.senders
	module := digest.Plain(speed.Module())
	var ids, hashes []digest.Digest
	var claims [][]byte
	var shots []*shot
	for i := begin; i < end; i++ {
		shot, err := senders[i%len(senders)].sign(vectors[i%len(vectors)], f.known)
		if err != nil {
			return nil, nil, err
		}
		c := f.results[i%len(vectors)]
		c.Sample, c.Registration = shot.id, f.meters[i%len(senders)].Registration
		encoded, err := c.Encode()
		if err != nil {
			return nil, nil, err
		}
		shots, ids, claims, hashes = append(shots, shot), append(ids, shot.id), append(claims, encoded), append(hashes, claim.Hash(encoded))
	}
	signed, err := signature.Sign(f.signer, signature.Ed25519ZIP215, claim.EndorsementMessage(f.run.networkID, module, hashes))
	if err != nil {
		return nil, nil, err
	}
	set := &recordv1.EndorsementSet{NetworkId: f.run.networkID[:], Algorithm: module[:],
		Endorsements: []*recordv1.Endorsement{{NodeId: f.endorser, Signature: signed}}}
	for _, h := range hashes {
		set.Claims = append(set.Claims, h.Bytes())
	}
	setRecord, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: set}})
	if err != nil {
		return nil, nil, err
	}
	setDigest := record.Digest(setRecord)
	request := &ledgerv1.SubmitRequest{Records: [][]byte{setRecord}}
	for i, shot := range shots {
		b, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
			Header: shot.request.GetHeader(), Signature: shot.request.GetSignature(), Claim: claims[i], ClaimIndex: uint32(i),
			EndorsementSet: setDigest[:], Approval: f.approval[:], Config: f.config[:], Disposition: recordv1.Disposition_DISPOSITION_ON_TIME,
		}}})
		if err != nil {
			return nil, nil, err
		}
		request.Records, request.RawVectors = append(request.Records, b), append(request.RawVectors, shot.request.GetRawVector())
	}
	return request, ids, nil
}

// count adds what was fed, and reads the replica's usage after each interval.
func (f *feed) count(n int64) error {
	f.mu.Lock()
	f.fed += n
	due := f.fed*feedIntervals/int64(f.options.Measurements) >= int64(len(f.reading))
	f.mu.Unlock()
	if !due {
		return nil
	}
	return f.read()
}

func (f *feed) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fed*feedIntervals/int64(f.options.Measurements) < int64(len(f.reading)) {
		return nil // another one read it
	}
	for _, p := range f.run.fleet.live() {
		if p.node.ID == f.replica.ID {
			used, err := readUsage(p.pid())
			if err != nil {
				return err
			}
			f.reading = append(f.reading, reading{time.Now(), f.fed, used})
			if n := len(f.reading); n > 1 {
				i := newInterval(f.reading[n-2], f.reading[n-1])
				f.run.say("%9d fed  %6.0f/s  %5.1f us of the replica each  %4d MiB of heap", i.Until, i.RatePerSecond, i.CPUMicros, i.AnonymousBytes>>20)
			}
			return nil
		}
	}
	return fmt.Errorf("replica %s does not run", f.replica.ID)
}
