package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/canary"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
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
  send, then reveal, and sign and submit that.

Anybody lists all canaries of a ledger, and what was never revealed.`,
	}, newCanaryPrepare(a), newCanarySend(a), newCanaryReveal(a), newCanaryList(a))
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

func newCanarySend(a *app) *cobra.Command {
	var m meterFlags
	var secret string
	var beside attached
	var every, timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:   "send METER",
		Short: "Let the meter send the secret vectors, as it sends any others",
		Long: `Sends the vectors with the meter's next counters. Vehicles do not pass one after
the other within a millisecond, and a real meter sends pictures: without --every
and --evidence endorsers and gateways may guess what they are asked.

--every is the mean of random times between two vectors.`,
		Example: `  lacre canary send my-meter --secret secret.json
  lacre canary send my-meter --secret secret.json --every 20s --evidence plate.jpg --evidence-key HEX --timeout 1h`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := canary.Read(secret)
			if err != nil {
				return err
			}
			next, s, err := m.nextCounter(c.Context(), args[0])
			if err != nil {
				return err
			}
			if t.Meter != args[0] || next != t.Vectors[0].Counter {
				return fmt.Errorf("%s begins with counter %d of meter %s; the next of meter %s is %d: prepare a new test",
					secret, t.Vectors[0].Counter, t.Meter, args[0], next)
			}
			life, err := m.meterLife(c.Context(), s.NetworkID.String(), args[0])
			if err != nil {
				return err
			}
			if err := ready(life, t, secret); err != nil {
				return err
			}
			if err := m.learn(c.Context(), args[0], life.snapshot.Head().Height, timeout); err != nil {
				return err
			}
			return a.sendBeside(c.Context(), &m, &beside, args[0], timeout, len(t.Vectors), func(_ *standing, i int) (sentSample, [][]int16, error) {
				if i > 0 && every > 0 {
					select {
					case <-time.After(time.Duration(rand.ExpFloat64() * float64(every))): //nolint:gosec // when a vehicle passes is no secret.
					case <-c.Context().Done():
						return sentSample{}, nil, c.Context().Err()
					}
				}
				return sentSample{}, t.Vectors[i].Channels, nil
			})
		},
	})
	m.flags(c)
	m.trust.flags(c)
	beside.flags(c)
	c.Flags().StringVar(&secret, "secret", "", "secret file of \"canary prepare\"")
	c.Flags().DurationVar(&every, "every", 0, "mean time between two vectors (default: none)")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to send, and to wait for the receipts")
	return c
}

// ready reports why a test cannot be sent: what is sent before the commitment
// proves nothing, and under other parameters the results are others.
func ready(life *meterLife, t *canary.Test, secret string) error {
	now, err := state.ParametersAt(life.meter, time.Now().UnixNano())
	if err != nil {
		return err
	}
	if now.Statement != t.Parameters {
		return fmt.Errorf("the parameters of meter %s are those of statement %s, %s was made under %s: prepare a new test", t.Meter, now.Statement.Short(), secret, t.Parameters.Short())
	}
	expectation, err := t.Expectation()
	if err != nil {
		return err
	}
	committed, err := state.GetCanary(life.snapshot, t.ID)
	if err != nil {
		return err
	}
	if committed == nil {
		return fmt.Errorf("canary %s is not committed to up to block %d: sign and submit the commitment first, or the test proves nothing", t.ID, life.snapshot.Head().Height)
	}
	if d := state.CanaryCommitment(expectation); !bytes.Equal(committed.GetCommitment(), d[:]) {
		return fmt.Errorf("canary %s is committed to as %x, %s has %s: it is another test", t.ID, committed.GetCommitment(), secret, d)
	}
	return nil
}

// learn waits until the meter knows a block as new as this: then its samples show
// that they were signed after the commitment.
func (m *meterFlags) learn(ctx context.Context, id string, height uint64, timeout time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	opened, _, err := m.open(ctx, id, meter.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	for opened.Stats().Known.Height < height {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("meter %s knows block %d, the commitment is certified by block %d: %w", id, opened.Stats().Known.Height, height, ctx.Err())
		}
	}
	return nil
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
			line := canaryVerdict{Counter: v.GetCounter(), Verdict: canary.Name(verdict)}
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
