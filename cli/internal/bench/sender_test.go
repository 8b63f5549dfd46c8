package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/trust"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// fakeDoor gives its answers in turn.
type fakeDoor struct {
	answers []func(id digest.Digest) (*ingestv1.SubmitResponse, error)
	asked   []digest.Digest
}

func (d *fakeDoor) submit(_ context.Context, id digest.Digest, _ *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	d.asked = append(d.asked, id)
	answer := d.answers[0]
	d.answers = d.answers[1:]
	return answer(id)
}

func refusal(reason string, permanent bool) func(digest.Digest) (*ingestv1.SubmitResponse, error) {
	return func(id digest.Digest) (*ingestv1.SubmitResponse, error) {
		return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Refusal{
			Refusal: &ingestv1.Refusal{Reason: reason, Permanent: permanent, RetryAfterMillis: 100},
		}}, nil
	}
}

func pending(id digest.Digest) (*ingestv1.SubmitResponse, error) {
	return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Pending{Pending: &ingestv1.Pending{}}}, nil
}

func broken(digest.Digest) (*ingestv1.SubmitResponse, error) { return nil, io.ErrUnexpectedEOF }

// somebodysReceipt verifies under its trust bundle, and certifies another sample.
func somebodysReceipt(t *testing.T) (*meter.Verifier, []byte) {
	t.Helper()
	const dir = "../../../core/testdata/receipts/"
	text, err := os.ReadFile(dir + "trust.bundle")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := trust.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := os.ReadFile(dir + "measurement.receipt")
	if err != nil {
		t.Fatal(err)
	}
	return meter.NewVerifier(bundle), receipt
}

// TestMeasureSendsTheSameSampleUntilItIsAnswered: what is transient is repeated,
// and counted; what is wrong fails the run.
func TestMeasureSendsTheSameSampleUntilItIsAnswered(t *testing.T) {
	verifier, foreign := somebodysReceipt(t)
	synctest.Test(t, func(t *testing.T) {
		s, _ := signing(t, "meter", 1)
		s.run.vectors, s.run.verifier = &pool{vectors: [][]byte{[]byte("raw")}}, verifier
		door := &fakeDoor{answers: []func(digest.Digest) (*ingestv1.SubmitResponse, error){
			broken, refusal("OVERLOADED", false), pending, refusal("OVERLOADED", false), refusal("BAD_SIGNATURE", true),
		}}
		s.door = door
		if err := s.measure(t.Context()); !errors.Is(err, errRefused) {
			t.Errorf("measure gave %v, want %v", err, errRefused)
		}
		for _, id := range door.asked {
			if id != s.samples[1] {
				t.Errorf("sent sample %s, the meter signed %s", id.Short(), s.samples[1].Short())
			}
		}
		c := s.run.tally
		if len(door.asked) != 5 || c.sheds["OVERLOADED"] != 2 || c.sheds["PENDING"] != 1 || c.reconnects.Load() != 1 || c.refusals["BAD_SIGNATURE"] != 1 {
			t.Errorf("sent %d times, counted %v shed, %v refused, %d broken", len(door.asked), c.sheds, c.refusals, c.reconnects.Load())
		}
		if s.fates[1] != refused {
			t.Errorf("the sample's fate is %v, want refused", s.fates[1])
		}

		door.answers = append(door.answers, func(id digest.Digest) (*ingestv1.SubmitResponse, error) {
			return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Receipt{Receipt: &ingestv1.Receipt{Receipt: foreign}}}, nil
		})
		if err := s.measure(t.Context()); err == nil || c.badness != 1 || c.verified.Load() != 0 || s.fates[2] != unanswered {
			t.Errorf("a receipt of another sample: %v, %d bad, %d verified, fate %v", err, c.badness, c.verified.Load(), s.fates[2])
		}
	})
}
