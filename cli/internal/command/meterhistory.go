package command

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// meterLife is a meter on the certified ledger.
type meterLife struct {
	snapshot *follower.Snapshot
	meter    *statev1.Meter
}

// meterLife follows the ledger and finds the meter.
func (t *target) meterLife(ctx context.Context, networkID, id string) (*meterLife, error) {
	if err := record.CheckID(id); err != nil {
		return nil, usage("METER: %w", err)
	}
	snapshot, err := t.certified(ctx, networkID)
	if err != nil {
		return nil, err
	}
	meter, err := state.GetMeter(snapshot, id)
	if err != nil {
		return nil, err
	}
	if meter == nil {
		return nil, fmt.Errorf("meter %s is not registered up to block %d", id, snapshot.Head().Height)
	}
	return &meterLife{snapshot, meter}, nil
}

// shownMeter is a meter's life for people and programs.
type shownMeter struct {
	Meter           string           `json:"meter"`
	Standing        string           `json:"standing"` // of a capture at At
	At              string           `json:"at"`
	CertifiedHeight uint64           `json:"certified_height"`
	Statements      []shownStatement `json:"statements"`
}

// shownStatement is one statement on a meter.
type shownStatement struct {
	Number    uint64   `json:"number"`
	Index     uint64   `json:"index"`
	BlockTime string   `json:"block_time,omitempty"` // RFC 3339; of recent blocks only
	IssuedAt  string   `json:"issued_at"`            // the signer's clock
	Signers   []string `json:"signers"`              // organisation, or the key's id
	Effect    string   `json:"effect"`
	Statement string   `json:"statement"` // digest
}

func newMeterHistory(a *app) *cobra.Command {
	var t target
	var networkID, when string
	c := a.reading(&cobra.Command{
		Use:   "history METER",
		Short: "Show every statement on a meter, and its standing",
		Long: `Follows the ledger's administrative records from the genesis block, verifies each
and the certificates, and shows all statements on the meter: where each lies, who
signed it, and what it does. Each names the one before it by its digest, and the
last is the one that the followed state names, so none is missing.`,
		Example: `  lacre meter history my-meter
  lacre meter history my-meter --at 2026-03-01T12:00:00Z --json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := timeOr(when, time.Now())
			if err != nil {
				return err
			}
			l, err := t.meterLife(c.Context(), networkID, args[0])
			if err != nil {
				return err
			}
			shown := shownMeter{Meter: args[0], Standing: string(state.MeterStandingAt(l.meter, at.UnixNano())), At: timeOf(at.UnixNano()), CertifiedHeight: l.snapshot.Head().Height}
			if shown.Statements, err = l.statements(c.Context(), &t); err != nil {
				return err
			}
			return a.print(shown, shown.String())
		},
	})
	t.flags(c)
	c.Flags().StringVar(&networkID, "network-id", "", "digest of the genesis configuration; needed without a network directory")
	c.Flags().StringVar(&when, "at", "", "capture time in RFC 3339 for which the standing is told (default: now)")
	return c
}

// statements fetches them and holds them against the followed state.
func (l *meterLife) statements(ctx context.Context, t *target) ([]shownStatement, error) {
	var leaves [][]byte
	err := t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client := ledgerv1.NewLedgerServiceClient(c)
		for _, index := range l.meter.GetStatements() {
			response, err := client.GetRecord(ctx, &ledgerv1.GetRecordRequest{Index: index})
			if err != nil {
				return err
			}
			leaves = append(leaves, response.GetRecord())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var meter *statev1.Meter
	list := make([]shownStatement, len(leaves))
	for i, leaf := range leaves {
		index := l.meter.GetStatements()[i]
		r, err := record.Parse(leaf)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", index, err)
		}
		e := record.ToEnvelope(r.GetStatement())
		if meter, err = state.MeterAfter(meter, e, index); err != nil {
			return nil, fmt.Errorf("record %d is not the next statement on the meter: %w", index, err)
		}
		m, err := receipt.DecodeOnMeter(e)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", index, err)
		}
		list[i] = shownStatement{
			Number: m.GetHeader().GetSequence(), Index: index, BlockTime: l.blockTime(index), IssuedAt: timeOf(m.GetHeader().GetIssuedAtUnixNano()),
			Signers: l.signers(e), Effect: receipt.SayMeter(m), Statement: e.Digest().String(),
		}
	}
	if got, want := meter.GetLast().GetDigest(), l.meter.GetLast().GetDigest(); !bytes.Equal(got, want) {
		return nil, fmt.Errorf("the replica's last statement on the meter is %x, the followed ledger's %x", got, want)
	}
	return list, nil
}

// signers are named by the configuration in force; another is a key id: the
// meter's own, or one that the configuration no longer has.
func (l *meterLife) signers(e *envelope.Envelope) []string {
	names := make([]string, len(e.Signatures))
	known := map[string]string{}
	for _, n := range l.snapshot.Config().Message.GetNotifiedBodies() {
		for _, tagged := range n.GetKeys() {
			if key, err := signature.ParseKey(tagged); err == nil {
				known[key.ID()] = "notified body " + n.GetId()
			}
		}
	}
	for i, s := range e.Signatures {
		if names[i] = known[s.KeyID]; names[i] == "" {
			names[i] = "key " + s.KeyID[:min(8, len(s.KeyID))] + ".."
		}
	}
	return names
}

// blockTime is that of a record's block, if the follower still knows it.
func (l *meterLife) blockTime(index uint64) string {
	for height := l.snapshot.Head().Height; ; height-- {
		ref, ok, err := l.snapshot.Block(height)
		if err != nil || !ok {
			return ""
		}
		if ref.FirstIndex <= index {
			return timeOf(ref.BlockTimeUnixNano)
		}
		if height == 0 {
			return ""
		}
	}
}

func (s *shownMeter) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "meter %s: %s for a capture at %s, by block %d\n", s.Meter, s.Standing, s.At, s.CertifiedHeight)
	for _, st := range s.Statements {
		when := "block of " + st.BlockTime
		if st.BlockTime == "" {
			when = "issued " + st.IssuedAt
		}
		fmt.Fprintf(&b, "%3d  record %d, %s, by %s\n     %s\n", st.Number, st.Index, when, strings.Join(st.Signers, " and "), st.Effect)
	}
	return b.String()
}
