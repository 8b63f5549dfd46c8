package command

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/history"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// historyEntry is one statement of `approval history`.
type historyEntry struct {
	Index     uint64          `json:"index"`
	Height    uint64          `json:"height"`
	BlockTime string          `json:"block_time"`
	Statement string          `json:"statement"` // its digest
	Type      string          `json:"payload_type"`
	Payload   string          `json:"payload"` // base64: the exact bytes
	SignedBy  []historySigner `json:"signed_by"`
	Text      string          `json:"text"`
}

type historySigner struct {
	KeyID string `json:"key_id"`
	Who   string `json:"who"`
}

func newApprovalHistory(a *app) *cobra.Command {
	var t target
	var tr trustFlags
	c := a.reading(&cobra.Command{
		Use:   "history MODULE",
		Short: "Show every statement on a module, with signers and block times, verified",
		Long: `Reads the ledger's statements from a replica and replays them from the genesis
block up to a checkpoint that the trust bundle accepts; then shows all that were
made on a module (its SHA-256): approvals, suspensions, supersession, withdrawal.
A statement that the replica forged or left out is found. It reads 32 bytes for
each measurement on the ledger.

Exit code: 0 verified, 1 the replica serves something else.`,
		Example: `  lacre approval history HEX
  lacre approval history HEX --server ledger.example:7411 --spki HEX --trust trust --json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			module, err := digest.Parse(args[0])
			if err != nil {
				return usage("MODULE: %w", err)
			}
			return a.runHistory(c.Context(), &t, &tr, record.SubjectAlgorithm(module))
		},
	})
	t.flags(c)
	tr.flags(c)
	return c
}

func (a *app) runHistory(ctx context.Context, t *target, tr *trustFlags, subject string) error {
	network, err := t.network()
	if err != nil {
		return err
	}
	bundle, err := tr.read(network)
	if err != nil {
		return err
	}
	if bundle == nil {
		return usage("--trust FILE is needed without a network directory: it says who certifies")
	}
	var h *history.History
	err = t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		h, err = history.Read(ctx, ledgerv1.NewLedgerServiceClient(c), bundle, subject)
		return err
	})
	if errors.Is(err, history.ErrRefuted) {
		return &exitError{code: ExitRefuted, err: err}
	}
	if err != nil {
		return err
	}
	at := func(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }
	v := struct {
		Subject         string         `json:"subject"`
		Statements      []historyEntry `json:"statements"`
		CertifiedHeight uint64         `json:"certified_height"`
		BlockTime       string         `json:"block_time"` // of that block
	}{subject, []historyEntry{}, h.CertifiedHeight, at(h.BlockTimeUnixNano)}
	var b strings.Builder
	for _, e := range h.Entries {
		text, err := statement.Text(e.Envelope)
		if err != nil {
			return err
		}
		entry := historyEntry{Index: e.Index, Height: e.Height, BlockTime: at(e.BlockTimeUnixNano), Statement: e.Envelope.Digest().String(),
			Type: e.Envelope.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Envelope.Payload), Text: text}
		fmt.Fprintf(&b, "record %d in block %d at %s, statement %s\n", e.Index, e.Height, entry.BlockTime, entry.Statement)
		for _, s := range e.Signers {
			entry.SignedBy = append(entry.SignedBy, historySigner(s))
			who := s.Who
			if who == "" {
				who = "whom the state names"
			}
			fmt.Fprintf(&b, "  signed by %s, key %s\n", who, s.KeyID)
		}
		b.WriteString("  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n\n")
		v.Statements = append(v.Statements, entry)
	}
	fmt.Fprintf(&b, "%d statements on %s, complete up to block %d of %s, under trust bundle %s\n", len(h.Entries), subject, h.CertifiedHeight, v.BlockTime, bundle.Digest())
	return a.print(v, b.String())
}
