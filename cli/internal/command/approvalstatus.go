package command

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// algorithmActions are the words of the command line.
var algorithmActions = map[string]recordv1.AlgorithmAction{
	"suspend":   recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND,
	"resume":    recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME,
	"withdraw":  recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW,
	"supersede": recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE,
}

// approvalStatus is the command line of `approval status`.
type approvalStatus struct {
	target
	networkID, predecessor     string
	sequence                   uint64
	at, successor, reason, out string
}

func newApprovalStatus(a *app) *cobra.Command {
	var s approvalStatus
	c := &cobra.Command{
		Use:   "status suspend|resume|withdraw|supersede MODULE",
		Short: "Draft a change of an approved module's standing",
		Long: `Writes a draft that the notified body signs ("lacre approval sign") and hands in
("lacre approval submit"). MODULE is the module's SHA-256.

suspend bars captures from --at until a resume; supersede bars them for ever, and
names the module that takes its place; both are judged at the capture. withdraw
counts for every measurement that is not certified yet, whenever it was captured.`,
		Example: `  lacre approval status suspend HEX --at 2026-03-01T00:00:00Z --reason "under examination" --out suspend.json
  lacre approval status supersede HEX --successor HEX --at 2026-06-01T00:00:00Z --out supersede.json`,
		Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error { return a.runStatus(c.Context(), &s, args[0], args[1]) },
	}
	s.flags(c)
	f := c.Flags()
	f.StringVar(&s.networkID, "network-id", "", "digest of the genesis configuration; drafts offline")
	f.Uint64Var(&s.sequence, "sequence", 2, "with --network-id: number of the statement on this module")
	f.StringVar(&s.predecessor, "predecessor", "", "with --network-id: digest of the statement before")
	f.StringVar(&s.at, "at", "", "capture time in RFC 3339 from which it counts (default: now); not for withdraw")
	f.StringVar(&s.successor, "successor", "", "SHA-256 of the approved module that takes its place, for supersede")
	f.StringVar(&s.reason, "reason", "", "for people, at most 256 bytes")
	f.StringVar(&s.out, "out", "", "file to write (default: stdout)")
	return c
}

func (a *app) runStatus(ctx context.Context, s *approvalStatus, word, module string) error {
	action, ok := algorithmActions[word]
	if !ok {
		return usage("%q is none of suspend, resume, withdraw and supersede", word)
	}
	algorithm, err := digest.Parse(module)
	if err != nil {
		return usage("MODULE: %w", err)
	}
	now := time.Now()
	m := &recordv1.AlgorithmStatus{Algorithm: algorithm.Bytes(), Action: action, Reason: s.reason}
	switch {
	case action != recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW:
		at, err := timeOr(s.at, now)
		if err != nil {
			return err
		}
		m.EffectiveAtUnixNano = at.UnixNano()
	case s.at != "":
		return usage("a withdrawal counts from its block; it takes no --at")
	}
	if s.successor != "" {
		successor, err := digest.Parse(s.successor)
		if err != nil {
			return usage("--successor: %w", err)
		}
		m.Successor = successor.Bytes()
	}
	subject := record.SubjectAlgorithm(algorithm)
	place, err := s.place(ctx, subject)
	if err != nil {
		return err
	}
	m.Header = place.Header(subject, now)
	if err := state.CheckStatement(m); err != nil {
		return err
	}
	payload, err := wire.Encode(m)
	if err != nil {
		return err
	}
	draft, err := json.Marshal(draftFile{PayloadType: record.TypeAlgorithmStatus, Payload: payload})
	if err != nil {
		return err
	}
	return a.writeFile(s.out, append(draft, '\n'))
}

func (s *approvalStatus) place(ctx context.Context, subject string) (statement.Place, error) {
	if s.networkID == "" {
		return s.placeOf(ctx, subject)
	}
	return offlinePlace(s.networkID, s.sequence, s.predecessor)
}
