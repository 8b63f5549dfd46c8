package attack

import (
	"bytes"
	"context"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

var tamperedSample = Scenario{
	Name: "tampered-sample", Attacker: "somebody between sensor and gateway flips a bit of the signal",
	Answer: string(reason.DigestMismatch), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "tampered")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		request.RawVector[len(request.GetRawVector())/2] ^= 1
		return m.attempt(ctx, request, reason.DigestMismatch)
	},
}

var forgedSample = Scenario{
	Name: "forged-sample", Attacker: "whoever holds the meter's connection, and not the key in its sealed unit, signs a sample",
	Answer: string(reason.BadSignature), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "forged")
		if err != nil {
			return "", err
		}
		other, err := s.unregistered("forger")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, other.key)
		if err != nil {
			return "", err
		}
		return m.attempt(ctx, request, reason.BadSignature)
	},
}

var alteredHeader = Scenario{
	Name: "altered-header", Attacker: "a gateway moves the capture time of a sample that a meter signed",
	Answer: string(reason.BadSignature), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "altered")
		if err != nil {
			return "", err
		}
		request, signed, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		moved := signed.Header
		moved.CapturedAtUnixNano++
		if request.Header, err = moved.Encode(); err != nil {
			return "", err
		}
		return m.attempt(ctx, request, reason.BadSignature)
	},
}

var replayedSample = Scenario{
	Name: "replayed-sample", Attacker: "a gateway submits a certified measurement once more",
	Answer: string(reason.Duplicate), Record: "the measurement, once",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "replayed")
		if err != nil {
			return "", err
		}
		bundle, measurement, err := s.bundle(ctx, m.id, 1)
		if err != nil {
			return "", err
		}
		outcomes, err := s.submit(ctx, &ledgerv1.SubmitRequest{
			Records: [][]byte{bundle.GetEndorsementSet().GetRecord(), measurement}, RawVectors: [][]byte{bundle.GetRawVector()},
		})
		if err != nil {
			return "", err
		}
		return wantRefusal(outcomes[1], reason.Duplicate)
	},
}

var backDated = Scenario{
	Name: "back-dated", Attacker: "a meter's owner sets its clock back before the block that the sample names",
	Answer: string(reason.BackDated), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		return s.dated(ctx, "back", -30*time.Minute, reason.BackDated)
	},
}

var futureDated = Scenario{
	Name: "future-dated", Attacker: "a meter's owner sets its clock ahead",
	Answer: string(reason.FutureDated), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		return s.dated(ctx, "future", time.Hour, reason.FutureDated)
	},
}

func (s *stage) dated(ctx context.Context, meter string, by time.Duration, want reason.Reason) (string, error) {
	m, err := s.sensor(ctx, meter)
	if err != nil {
		return "", err
	}
	request, _, err := m.capture(ctx, m.key, func(h *sample.Header) { h.CapturedAtUnixNano += int64(by) })
	if err != nil {
		return "", err
	}
	return m.attempt(ctx, request, want)
}

var unknownMeter = Scenario{
	Name: "unknown-meter", Attacker: "a meter that no notified body registered sends through another's connection",
	Answer: string(reason.UnknownMeter), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "relay")
		if err != nil {
			return "", err
		}
		stranger, err := s.unregistered("stranger")
		if err != nil {
			return "", err
		}
		request, _, err := stranger.capture(ctx, stranger.key)
		if err != nil {
			return "", err
		}
		return m.attempt(ctx, request, reason.UnknownMeter)
	},
}

var equivocation = Scenario{
	Name: "equivocation", Attacker: "a meter's owner, who got its key, signs a second sample under a counter already used",
	Answer: string(reason.Equivocation), Record: "SecurityEvent METER_EQUIVOCATION with both signed headers",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "two-faced")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key, func(h *sample.Header) { h.Counter, h.Previous, h.StatusFlags = 1, digest.Zero, 1 })
		if err != nil {
			return "", err
		}
		seen, err := m.attempt(ctx, request, reason.Equivocation)
		if err != nil {
			return "", err
		}
		event, err := s.await(ctx, "the equivocation", func(r *recordv1.EventReport) bool {
			return r.GetKind() == recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION && r.GetSubject() == record.SubjectMeter(m.id)
		})
		if err != nil {
			return "", err
		}
		for _, header := range [][]byte{m.first.GetHeader(), request.GetHeader()} {
			if !holds(event.GetEvidence(), header) {
				return "", succeeded("the event does not hold both headers")
			}
		}
		return seen + "; recorded by " + event.GetReporter(), nil
	},
}

// holds reports whether one of the pieces contains bytes.
func holds(pieces [][]byte, content []byte) bool {
	for _, p := range pieces {
		if bytes.Contains(p, content) {
			return true
		}
	}
	return false
}
