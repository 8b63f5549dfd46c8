package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

var maliciousModule = Scenario{
	Name: "malicious-module", Attacker: "an endorser's operator installs a module that differs from the approved one in one byte",
	Answer: string(reason.UnknownAlgorithm), Record: "SecurityEvent REFUSED_INSTALLATION, reported by the endorser",
	run: func(ctx context.Context, s *stage) (string, error) {
		module := bytes.Clone(speed.Module())
		module[len(module)-1] ^= 1
		seen, err := wantRefusal(s.install(ctx, s.endorsers()[0].ID, module), reason.UnknownAlgorithm)
		if err != nil {
			return "", err
		}
		event, err := s.await(ctx, "the refused installation", func(r *recordv1.EventReport) bool {
			return r.GetKind() == recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION && r.GetSubject() == record.SubjectAlgorithm(digest.Plain(module))
		})
		if err != nil {
			return "", err
		}
		return seen + "; recorded by " + event.GetReporter(), nil
	},
}

var oneColludes = Scenario{
	Name: "one-colludes", Attacker: "one organisation's endorser and a gateway agree on twice the speed, and the endorser signs it",
	Answer: string(reason.PolicyNotMet), Record: "none: nothing was taken",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "one-colludes")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		claimed, err := s.falseClaim(ctx, request)
		if err != nil {
			return "", err
		}
		submission, err := s.collude(ctx, request, claimed, s.endorsers()[0])
		if err != nil {
			return "", err
		}
		outcomes, err := s.submit(ctx, submission)
		if err != nil {
			return "", err
		}
		return wantRefusal(outcomes[1], reason.PolicyNotMet)
	},
}

var manyCollude = Scenario{
	Name: "many-collude", Attacker: "as many endorsers as the policy asks for, two of three, sign twice the speed",
	Answer: "the ledger takes it; `lacre audit` re-executes the signal, refutes the result and names the endorsers", Record: "the false measurement, with the signatures that convict them",
	run: func(ctx context.Context, s *stage) (string, error) {
		m, err := s.sensor(ctx, "many-collude")
		if err != nil {
			return "", err
		}
		request, _, err := m.capture(ctx, m.key)
		if err != nil {
			return "", err
		}
		claimed, err := s.falseClaim(ctx, request)
		if err != nil {
			return "", err
		}
		liars := s.endorsers()[:2]
		submission, err := s.collude(ctx, request, claimed, liars...)
		if err != nil {
			return "", err
		}
		outcomes, err := s.submit(ctx, submission)
		if err := errors.Join(append(outcomes, err)...); err != nil {
			return "", fmt.Errorf("the policy's own number of endorsers was refused: %w", err)
		}
		report, err := s.audit(ctx)
		if err != nil {
			return "", err
		}
		return exposed(report, m.id, liars)
	},
}

// exposed wants one finding: that the measurement is refuted and by whom it was signed.
func exposed(report *audit.Report, meter string, liars []devnet.Node) (string, error) {
	if len(report.Findings) != 1 {
		return "", succeeded("the audit of %d measurements has %d findings, want the one false measurement: %v", report.Measurements, len(report.Findings), report.Findings)
	}
	f := report.Findings[0]
	named := make([]string, len(f.Endorsers))
	for i, e := range f.Endorsers {
		named[i] = e.Node
	}
	want := make([]string, len(liars))
	for i, liar := range liars {
		want[i] = liar.ID
	}
	if f.Meter != meter || f.Verdict != receipt.Refuted || !slices.Equal(named, want) {
		return "", succeeded("the audit names %v, those who lied on %s are %v: %s", named, meter, want, f)
	}
	return "accepted, and exposed: " + strings.TrimSpace(f.String()), nil
}

// audit replays the whole ledger and runs every measurement again.
func (s *stage) audit(ctx context.Context) (*audit.Report, error) {
	client, err := s.ledger("")
	if err != nil {
		return nil, err
	}
	module := speed.Module()
	return audit.Run(ctx, source.Replica(client), audit.Options{
		Trust: s.trust, Modules: func(id digest.Digest) ([]byte, bool) { return module, id == digest.Plain(module) },
	})
}
