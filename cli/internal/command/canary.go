package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/cli/internal/canary"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/runner"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
)

func newCanary(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "canary",
		Short: "Test the endorsers with vectors whose results only the notified body knows",
		Long: `A notified body prepares vectors and their results, commits to them on the ledger,
and lets a meter send them that nobody can tell from any other. Later it reveals
what it expected, with a verdict on each vector; every replica judges again.

  prepare, then "approval sign" and "approval submit" the commitment,
  send, then reveal, and sign and submit that.`,
	}, newCanaryPrepare(a), newCanarySend(a), newCanaryReveal(a))
}

func newCanaryPrepare(a *app) *cobra.Command {
	var m meterFlags
	var id, body, module, out, draft string
	var vectors int
	var seed uint64
	c := a.reading(&cobra.Command{
		Use:   "prepare METER",
		Short: "Make the secret vectors and draft the commitment",
		Long: `Simulates vehicles over the meter's loops, runs the approved module on each, and
writes both to a secret file; the draft of the commitment names its digest only.
The vectors get the meter's next counters, so the meter sends nothing else before.`,
		Example: `  lacre canary prepare my-meter --id test-7 --vectors 20 --out secret.json --draft commitment.json
  lacre approval sign commitment.json --key notified-body.pem --out commitment.dsse
  lacre approval submit commitment.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if id == "" || out == "" || draft == "" {
				return usage("--id ID, --out FILE (the secret) and --draft FILE are needed")
			}
			if vectors < 1 {
				return usage("--vectors is %d, want at least 1", vectors)
			}
			if seed == 0 {
				seed = rand.Uint64() //nolint:gosec // a simulator's seed; the salt keeps the expectation secret.
			}
			t, err := a.prepareCanary(c.Context(), &m, args[0], id, body, module, vectors, seed)
			if err != nil {
				return err
			}
			expectation, err := t.Expectation()
			if err != nil {
				return err
			}
			commitment := state.CanaryCommitment(expectation)
			message := &recordv1.CanaryCommitment{CanaryId: id, NotifiedBody: body, Commitment: commitment[:]}
			if message.Header, err = m.header(c.Context(), record.SubjectCanary(id)); err != nil {
				return err
			}
			if message.GetHeader().GetSequence() != 1 {
				return fmt.Errorf("canary %s is on the ledger already; choose another id", id)
			}
			if err := t.Write(out); err != nil {
				return err
			}
			if err := a.writeDraft(draft, record.TypeCanaryCommitment, message); err != nil {
				return err
			}
			first, last := t.Vectors[0].Counter, t.Vectors[len(t.Vectors)-1].Counter
			return a.print(struct {
				Canary     string        `json:"canary"`
				Meter      string        `json:"meter"`
				First      uint64        `json:"first_counter"`
				Last       uint64        `json:"last_counter"`
				Commitment digest.Digest `json:"commitment"`
			}{id, t.Meter, first, last, commitment},
				fmt.Sprintf("%d vectors for counters %d to %d of meter %s in %s; keep it secret until the reveal\ncommitment %s, to be signed, is drafted in %s\n",
					len(t.Vectors), first, last, t.Meter, out, commitment, draft))
		},
	})
	m.flags(c)
	m.trust.flags(c)
	f := c.Flags()
	f.StringVar(&id, "id", "", "name of the test")
	f.StringVar(&body, "notified-body", devnet.NotifiedBody, "id of the notified body")
	f.StringVar(&module, "module", builtIn, "file of the approved module, or \"speed\" for the built-in one")
	f.IntVar(&vectors, "vectors", 10, "number of vectors, at most 256")
	f.Uint64Var(&seed, "seed", 0, "seed of the simulated passes (default: a random one)")
	f.StringVar(&out, "out", "", "secret file to write")
	f.StringVar(&draft, "draft", "", "file of the commitment to write, to be signed")
	return c
}

func (a *app) prepareCanary(ctx context.Context, m *meterFlags, meterID, id, body, module string, vectors int, seed uint64) (*canary.Test, error) {
	next, s, err := m.nextCounter(ctx, meterID)
	if err != nil {
		return nil, err
	}
	conditions := canary.Conditions{FirstCounter: next}
	if conditions.Module, err = readModule(module); err != nil {
		return nil, err
	}
	err = m.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		client := approvalv1.NewApprovalServiceClient(c)
		if conditions.Meter, err = registrationOf(ctx, client, meterID); err != nil {
			return err
		}
		conditions.FuelLimit, err = fuelLimitOf(ctx, client, digest.Plain(conditions.Module))
		return err
	})
	if err != nil {
		return nil, err
	}
	recordings := make([][][]int16, vectors)
	for i := range recordings {
		rng := sim.NewRand(seed, uint64(i))
		pass := sim.Good(20+10*float64(rng.IntN(14)), float64(s.SampleRateMillihertz)/1000, float64(s.SpacingMillimetres)/1000, sim.Families, rng)
		pass.Channels = int(s.Channels)
		recordings[i] = sim.Pass(pass, rng).Samples
	}
	engine, err := runner.New(ctx)
	if err != nil {
		return nil, err
	}
	defer engine.Close() //nolint:errcheck // its results are out.
	return canary.New(id, body, conditions, recordings, engine)
}

// nextCounter is the counter of the meter's next sample.
func (m *meterFlags) nextCounter(ctx context.Context, id string) (uint64, *standing, error) {
	opened, s, err := m.open(ctx, id, meter.Config{})
	if err != nil {
		return 0, nil, err
	}
	next := opened.Stats().NextCounter
	return next, s, opened.Close()
}

// header is where the next statement on a subject attaches.
func (t *target) header(ctx context.Context, subject string) (h *recordv1.StatementHeader, err error) {
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		place, err := statement.PlaceOf(ctx, approvalv1.NewApprovalServiceClient(c), subject)
		h = place.Header(subject, time.Now())
		return err
	})
	return h, err
}

// registrationOf finds a meter's registration.
func registrationOf(ctx context.Context, client approvalv1.ApprovalServiceClient, id string) (*recordv1.MeterRegistration, error) {
	for token := ""; ; {
		page, err := client.ListMeters(ctx, &approvalv1.ListMetersRequest{PageToken: token, PageSize: 1000})
		if err != nil {
			return nil, err
		}
		for _, listed := range page.GetMeters() {
			if listed.GetMeterId() == id {
				r := new(recordv1.MeterRegistration)
				return r, record.Decode(listed.GetRegistration(), record.MaxBytes, r)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil, fmt.Errorf("meter %s is not registered", id)
		}
	}
}

// fuelLimitOf is the approved bound on one run of a module.
func fuelLimitOf(ctx context.Context, client approvalv1.ApprovalServiceClient, module digest.Digest) (uint64, error) {
	for token := ""; ; {
		page, err := client.ListApprovals(ctx, &approvalv1.ListApprovalsRequest{PageToken: token, PageSize: 1000})
		if err != nil {
			return 0, err
		}
		for _, listed := range page.GetApprovals() {
			if bytes.Equal(listed.GetAlgorithm(), module[:]) {
				p, err := approval.Parse(listed.GetPayload())
				if err != nil {
					return 0, err
				}
				return p.FuelLimit, nil
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return 0, fmt.Errorf("module %s is not approved", module)
		}
	}
}

func newCanarySend(a *app) *cobra.Command {
	var m meterFlags
	var secret string
	var timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:     "send METER",
		Short:   "Let the meter send the secret vectors, as it sends any others",
		Example: `  lacre canary send my-meter --secret secret.json`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := canary.Read(secret)
			if err != nil {
				return err
			}
			next, _, err := m.nextCounter(c.Context(), args[0])
			if err != nil {
				return err
			}
			if t.Meter != args[0] || next != t.Vectors[0].Counter {
				return fmt.Errorf("%s begins with counter %d of meter %s; the next of meter %s is %d: prepare a new test",
					secret, t.Vectors[0].Counter, t.Meter, args[0], next)
			}
			return a.send(c.Context(), &m, args[0], timeout, len(t.Vectors), func(_ *standing, i int) (sentSample, [][]int16, error) {
				return sentSample{}, t.Vectors[i].Channels, nil
			})
		},
	})
	m.flags(c)
	m.trust.flags(c)
	c.Flags().StringVar(&secret, "secret", "", "secret file of \"canary prepare\"")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the receipts")
	return c
}

// canaryVerdict is one line of `canary reveal`.
type canaryVerdict struct {
	Counter uint64 `json:"counter"`
	Verdict string `json:"verdict"` // match, mismatch or missing
	Detail  string `json:"detail,omitempty"`
}

func newCanaryReveal(a *app) *cobra.Command {
	var t target
	var trusted trustFlags
	var secret, draft string
	c := a.reading(&cobra.Command{
		Use:   "reveal",
		Short: "Compare the ledger with the secret results and draft the reveal",
		Long: `Gets the receipt of each vector's measurement, verifies it, compares raw vector
and result, and drafts the statement that reveals the expectation with a verdict on
each vector. Nothing is published before it is signed and submitted; the ledger
refuses a reveal whose verdicts it does not find itself.

Exit code: 0 all match, 1 some do not.`,
		Example: `  lacre canary reveal --secret secret.json --draft reveal.json --trust trust
  lacre approval sign reveal.json --key notified-body.pem --out reveal.dsse
  lacre approval submit reveal.dsse`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			test, err := canary.Read(secret)
			if err != nil {
				return err
			}
			if draft == "" {
				return usage("--draft FILE is needed")
			}
			network, err := t.network()
			if err != nil {
				return err
			}
			bundle, err := trusted.read(network)
			if err == nil && bundle == nil {
				err = usage("--trust FILE is needed: a receipt that nobody certifies proves nothing")
			}
			if err != nil {
				return err
			}
			return a.revealCanary(c.Context(), &t, test, bundle, draft)
		},
	})
	t.flags(c)
	trusted.flags(c)
	c.Flags().StringVar(&secret, "secret", "", "secret file of \"canary prepare\"")
	c.Flags().StringVar(&draft, "draft", "", "file of the reveal to write, to be signed")
	return c
}

func (a *app) revealCanary(ctx context.Context, t *target, test *canary.Test, bundle *trust.Bundle, draft string) error {
	message := &recordv1.CanaryReveal{CanaryId: test.ID, NotifiedBody: test.NotifiedBody}
	var err error
	if message.Expectation, err = test.Expectation(); err != nil {
		return err
	}
	e, err := state.ParseCanaryExpectation(message.GetExpectation())
	if err != nil {
		return err
	}
	verifier := receipt.Verifier{Trust: bundle}
	lines := make([]canaryVerdict, 0, len(e.GetVectors()))
	var text strings.Builder
	bad := 0
	err = t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client := ledgerv1.NewLedgerServiceClient(c)
		for _, v := range e.GetVectors() {
			r, err := verifiedReceipt(ctx, client, &verifier, v)
			if err != nil {
				return err
			}
			verdict := canary.Compare(v, r)
			message.Verdicts = append(message.Verdicts, verdict)
			line := canaryVerdict{Counter: v.GetCounter(), Verdict: strings.ToLower(strings.TrimPrefix(verdict.String(), "CANARY_VERDICT_"))}
			if verdict != recordv1.CanaryVerdict_CANARY_VERDICT_MATCH {
				bad++
			}
			if r != nil && verdict == recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH {
				line.Detail = fmt.Sprintf("result %x, expected %x; raw vector %s, expected %x", r.Claim.Result, v.GetResult(), r.Sample.RawDigest, v.GetRawDigest())
			}
			lines = append(lines, line)
			fmt.Fprintf(&text, "%6d  %-8s  %s\n", line.Counter, line.Verdict, line.Detail)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if message.Header, err = t.header(ctx, record.SubjectCanary(test.ID)); err != nil {
		return err
	}
	if sequence := message.GetHeader().GetSequence(); sequence != 2 {
		return fmt.Errorf("the next statement on canary %s is number %d, a reveal is number 2: it is committed to once, and revealed once", test.ID, sequence)
	}
	if err := a.writeDraft(draft, record.TypeCanaryReveal, message); err != nil {
		return err
	}
	fmt.Fprintf(&text, "%d of %d match; the reveal, to be signed, is drafted in %s\n", len(lines)-bad, len(lines), draft)
	if err := a.print(lines, text.String()); err != nil || bad == 0 {
		return err
	}
	return exit(ExitRefuted)
}

// verifiedReceipt is the receipt of a vector's measurement; nil when the ledger
// has none. One that does not verify is an error: the replica is not to be
// believed.
func verifiedReceipt(ctx context.Context, client ledgerv1.LedgerServiceClient, verifier *receipt.Verifier, v *recordv1.CanaryVector) (*receipt.Receipt, error) {
	response, err := client.GetReceipt(ctx, &ledgerv1.GetReceiptRequest{
		Measurement: &ledgerv1.MeasurementKey{MeterId: v.GetMeterId(), Counter: v.GetCounter()},
	})
	if reason.Of(err) == reason.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, report := verifier.Receipt(response.GetReceipt())
	if report.Verdict != receipt.Verified || r.Sample.MeterID != v.GetMeterId() || r.Sample.Counter != v.GetCounter() {
		return nil, fmt.Errorf("the receipt of counter %d of meter %s is %v", v.GetCounter(), v.GetMeterId(), report.Verdict)
	}
	return r, nil
}

// writeDraft writes a protobuf statement that is to be signed.
func (a *app) writeDraft(path, payloadType string, message proto.Message) error {
	payload, err := wire.Encode(message)
	if err != nil {
		return err
	}
	b, err := json.Marshal(draftFile{payloadType, payload})
	if err != nil {
		return err
	}
	return a.writeFile(path, append(b, '\n'))
}
