// Package endorse turns a batch of signed samples into claims and one
// endorsement: the heart of an endorser.
//
// Source: architecture, "The path of one measurement" step 3; the paper,
// section VI-C (endorsers) and VI-E.
//
// Invariants:
//   - Parameters are those in force at the capture by the meter's certified
//     registration and what followed it, never the sample's; the module is the one that the approval names, by digest.
//   - Counters and times are the ledger's business; nothing here remembers a
//     sample.
//   - A claim is made only of a result that the sandbox produced; when the
//     sandbox cannot produce one, the endorser abstains.
package endorse

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/sandbox"
)

// Programs finds a loaded module; nil when this endorser does not hold it.
type Programs interface {
	Program(module digest.Digest) *sandbox.Program
}

// Endorser computes and signs for one node. It is safe for concurrent use.
type Endorser struct {
	NetworkID digest.Digest
	NodeID    string
	Signer    crypto.Signer // the key of the node's registration
	Programs  Programs
	Log       *slog.Logger
	Ran       func(Run)       // told of every result, from any goroutine; may be nil
	Traces    *tracing.Traces // may be nil

	batches atomic.Int32             // that are computed now
	latest  atomic.Pointer[accepted] // what the batch before was under
}

// accepted is an approval of the certified state, read once for the batches that
// follow one another under it.
type accepted struct {
	payload []byte
	terms   *approval.Approval // read only
}

// Run is one run of a module that gave a result within its schema.
type Run struct {
	Code     uint32
	FuelUsed uint64
}

// job is one sample on its way to a claim.
type job struct {
	sample     *sample.Sample
	parameters *claim.Parameters // in force at the capture
	key        signature.Key
	raw        []byte
	claim      []byte
	err        error
}

// Endorse computes one batch against a snapshot of certified state. Outcomes
// are in the order of the samples. The error is a *reason.Error that concerns
// the whole batch, the end of ctx, or a failure of this node.
func (e *Endorser) Endorse(ctx context.Context, view state.View, algorithm digest.Digest, samples []*computev1.SignedSample) (*computev1.EndorseResponse, error) {
	terms, err := e.terms(view, algorithm)
	if err != nil {
		return nil, err
	}
	program := e.Programs.Program(algorithm)
	if program == nil {
		return nil, reason.New(reason.NotInstalled, "algorithm %s is approved, and endorser %s does not hold it", algorithm.Short(), e.NodeID)
	}
	if runs := digest.Digest(program.Module().Digest); runs != algorithm {
		return nil, reason.New(reason.DataLoss, "the program held as %s is %s", algorithm.Short(), runs.Short())
	}
	cores := runtime.GOMAXPROCS(0) / int(e.batches.Add(1)) // the other batches use theirs
	defer e.batches.Add(-1)
	count := attribute.Int("lacre.samples", len(samples))
	_, span := e.Traces.Below(ctx, "endorse.admit", count)
	jobs := e.admitAll(view, algorithm, samples, cores)
	span.End(nil)
	_, span = e.Traces.Below(ctx, "endorse.sandbox", count)
	each(ctx, jobs, func(j *job) { j.err = e.compute(ctx, program, terms, j) })
	span.End(ctx.Err())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	response := &computev1.EndorseResponse{NodeId: e.NodeID, Outcomes: make([]*computev1.SampleOutcome, len(jobs))}
	var hashes []digest.Digest
	for i := range jobs {
		j := &jobs[i]
		if j.err == nil {
			response.Outcomes[i] = &computev1.SampleOutcome{Claim: j.claim}
			hashes = append(hashes, claim.Hash(j.claim))
			continue
		}
		var refused *reason.Error
		if !errors.As(j.err, &refused) {
			return nil, j.err // the node failed, not the sample
		}
		response.Outcomes[i] = &computev1.SampleOutcome{Reason: string(refused.Reason), Detail: refused.Detail}
	}
	if len(hashes) == 0 {
		return response, nil
	}
	kind, err := sample.KindOf(e.Signer.Public())
	if err != nil {
		return nil, err
	}
	_, span = e.Traces.Below(ctx, "endorse.sign", attribute.Int("lacre.claims", len(hashes)))
	response.Signature, err = signature.Sign(e.Signer, kind, claim.EndorsementMessage(e.NetworkID, algorithm, hashes))
	span.End(err)
	if err != nil {
		return nil, fmt.Errorf("sign endorsement: %w", err)
	}
	return response, nil
}

// admitAll parses the samples and verifies the meters' signatures in one batch, on
// so many cores or on one.
func (e *Endorser) admitAll(view state.View, algorithm digest.Digest, samples []*computev1.SignedSample, cores int) []job {
	jobs := make([]job, len(samples))
	checks := make([]signature.Check, 0, len(samples))
	checked := make([]*job, 0, len(samples))
	for i, s := range samples {
		j := &jobs[i]
		if j.err = e.admit(view, algorithm, s, j); j.err == nil {
			checks = append(checks, signature.Check{Kind: j.key.Kind(), Key: j.key, Message: j.sample.Signed(), Signature: s.GetSignature()})
			checked = append(checked, j)
		}
	}
	for i, valid := range signature.VerifyBatchOn(cores, checks) {
		if j := checked[i]; !valid {
			j.err = reason.New(reason.BadSignature, "counter %d of meter %s does not verify under its %v", j.sample.Counter, j.sample.MeterID, j.key)
		}
	}
	return jobs
}

// terms are the approval's, as long as it is not withdrawn. Suspension and
// validity are judged at capture time, by the ledger (rule S2).
func (e *Endorser) terms(view state.View, algorithm digest.Digest) (*approval.Approval, error) {
	entry, err := state.GetAlgorithm(view, algorithm)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, reason.New(reason.UnknownAlgorithm, "no approval on the certified ledger names algorithm %s", algorithm.Short())
	}
	if entry.GetWithdrawn() {
		return nil, reason.New(reason.AlgorithmNotInForce, "the approval of algorithm %s is withdrawn", algorithm.Short())
	}
	payload := entry.GetApprovalPayload()
	if latest := e.latest.Load(); latest != nil && bytes.Equal(latest.payload, payload) {
		return latest.terms, nil
	}
	terms, err := approval.ParseAccepted(payload)
	if err != nil {
		return nil, err
	}
	e.latest.Store(&accepted{payload: payload, terms: terms})
	return terms, nil
}

// admit parses a sample and finds its meter; the signature is still to be checked.
func (e *Endorser) admit(view state.View, algorithm digest.Digest, s *computev1.SignedSample, j *job) error {
	if len(s.GetRawVector()) > record.MaxRawVectorBytes {
		return reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", len(s.GetRawVector()), record.MaxRawVectorBytes)
	}
	parsed, err := sample.Parse(s.GetHeader())
	if err != nil {
		return err
	}
	if err := sample.CheckSignatureForm(s.GetSignature()); err != nil {
		return err
	}
	if parsed.NetworkID != e.NetworkID {
		return reason.New(reason.WrongNetwork, "sample is for network %s, this is %s", parsed.NetworkID.Short(), e.NetworkID.Short())
	}
	meter, err := state.GetMeter(view, parsed.MeterID)
	if err != nil {
		return err
	}
	if meter == nil {
		return reason.New(reason.UnknownMeter, "meter %q is not registered", parsed.MeterID)
	}
	parameters, err := state.GetParameters(view, meter, parsed.CapturedAtUnixNano)
	if err != nil {
		return err
	}
	if parameters.Algorithm != algorithm {
		return reason.New(reason.WrongAlgorithm, "meter %s was under algorithm %s at the capture, the batch is for %s", parsed.MeterID, parameters.Algorithm.Short(), algorithm.Short())
	}
	key, ok := state.MeterKeyAt(meter, parsed.Counter)
	if !ok {
		return reason.New(reason.CounterOutOfRange, "counter %d of meter %s is below its first", parsed.Counter, parsed.MeterID)
	}
	j.sample, j.parameters, j.key, j.raw = parsed, parameters, key, s.GetRawVector()
	return nil
}

// compute runs the module on one sample. The claim names the module that ran.
func (e *Endorser) compute(ctx context.Context, program *sandbox.Program, terms *approval.Approval, j *job) error {
	if j.err != nil {
		return j.err
	}
	input, err := claim.Input(j.parameters, j.sample, j.raw)
	if err != nil {
		return err
	}
	algorithm := digest.Digest(program.Module().Digest)
	result, err := program.Run(input, terms.FuelLimit)
	if err != nil {
		e.Log.ErrorContext(ctx, "abstained: the sandbox gave no result", "algorithm", algorithm, "sample", j.sample.Digest, "error", err)
		return reason.New(reason.NotReady, "endorser %s abstains from sample %s: its sandbox gave no result", e.NodeID, j.sample.Digest.Short())
	}
	output, err := claim.ParseResult(result.Output)
	if err == nil {
		err = terms.Schema.CheckResult(output)
	}
	if err != nil {
		// The ledger would refuse such a claim: the module is not what its approval describes.
		e.Log.ErrorContext(ctx, "the module gives a result that its approval does not define", "algorithm", algorithm, "sample", j.sample.Digest, "error", err)
		return reason.New(reason.BadEndorsement, "module %s gives a result that its approval does not define: %v", algorithm.Short(), err)
	}
	if e.Ran != nil {
		e.Ran(Run{Code: output.Code, FuelUsed: result.FuelUsed})
	}
	j.claim, err = (&claim.Claim{
		NetworkID: e.NetworkID, Sample: j.sample.Digest, Algorithm: algorithm, Registration: j.parameters.Statement,
		ProfileVersion: claim.ProfileVersion, FuelLimit: terms.FuelLimit, FuelUsed: result.FuelUsed,
		Input: claim.InputDigest(input), Result: result.Output,
	}).Encode()
	return err
}

// each runs work over the jobs on every core until ctx ends; each job belongs to
// one goroutine.
func each(ctx context.Context, jobs []job, work func(*job)) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(jobs) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				work(&jobs[i])
			}
		})
	}
	running.Wait()
}
