package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

func newTable(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "table",
		Short: "National tables: permissible errors and considered values",
		Long: `A national table says what a jurisdiction makes of a measured value. A notified
body signs each version, which never changes and counts for captures from a later
time on: draft, then "approval sign" and "approval submit".`,
	}, newTableDraft(a), newTableList(a), newTableConsider(a))
}

// readTable reads a table's file: the protobuf JSON of a NationalTable without
// header, version and beginning.
func readTable(path string) (*recordv1.NationalTable, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := new(recordv1.NationalTable)
	if err := protojson.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("%s is no table; examples/tables has some: %w", path, err)
	}
	if t.GetHeader() != nil || t.GetVersion() != 0 || t.GetValidFromUnixNano() != 0 {
		return nil, fmt.Errorf("%s gives header, version or beginning; those are the draft's: leave them out, and give --valid-from", path)
	}
	if err := forensic.CheckTable(t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func newTableDraft(a *app) *cobra.Command {
	var t target
	var from, out string
	c := &cobra.Command{
		Use:   "draft FILE",
		Short: "Draft the next version of a table",
		Long: `Writes the exact bytes that a notified body will sign. A version begins after
every capture that the ledger may have already: later than its block by more than
the network's bound on clocks that run ahead, so give yourself the time to sign.`,
		Example: `  lacre table draft examples/tables/br.json --valid-from 2027-01-01 --out br.draft
  lacre approval sign br.draft --key notified-body.pem --out br.dsse
  lacre approval submit br.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := blockTime("--valid-from", from)
			if err != nil {
				return err
			}
			if at == 0 {
				return usage("--valid-from is needed: the first capture time that the version covers")
			}
			m, err := readTable(args[0])
			if err != nil {
				return err
			}
			return a.draftTable(c.Context(), &t, m, at, out)
		},
	}
	t.flags(c)
	c.Flags().StringVar(&from, "valid-from", "", "first capture time that the version covers: a date (UTC), or RFC 3339")
	c.Flags().StringVar(&out, "out", "", "file to write (default: stdout)")
	return c
}

func (a *app) draftTable(ctx context.Context, t *target, m *recordv1.NationalTable, validFromUnixNano int64, out string) error {
	subject := record.SubjectTable(m.GetTableId())
	err := t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		place, err := statement.PlaceOf(ctx, approvalv1.NewApprovalServiceClient(c), subject)
		m.Header, m.Version, m.ValidFromUnixNano = place.Header(subject, time.Now()), uint32(place.Sequence), validFromUnixNano
		return err
	})
	if err != nil {
		return err
	}
	if err := state.CheckStatement(m); err != nil {
		return err
	}
	payload, err := wire.Encode(m)
	if err != nil {
		return err
	}
	b, err := json.Marshal(draftFile{record.TypeNationalTable, payload})
	if err != nil {
		return err
	}
	a.say("table %s version %d, valid from %s", m.GetTableId(), m.GetVersion(), timeOf(validFromUnixNano))
	return a.writeFile(out, append(b, '\n'))
}

func timeOf(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }

// listedTable is one version of a table.
type listedTable struct {
	ID        string          `json:"id"`
	Version   uint32          `json:"version"`
	ValidFrom string          `json:"valid_from"`
	Index     uint64          `json:"index"` // of the record
	Table     json.RawMessage `json:"table"` // the statement, as protobuf JSON
	source    string
	bands     string
}

func newTableList(a *app) *cobra.Command {
	var t target
	var networkID string
	c := a.reading(&cobra.Command{
		Use:   "list",
		Short: "List the tables on the certified ledger, with all versions",
		Long: `Follows the ledger's administrative records from the genesis block, verifies each
and the certificates, and lists the national tables that they leave.`,
		Example: `  lacre table list
  lacre table list --server 127.0.0.1:4000 --spki HEX --network-id HEX --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			snapshot, err := t.certified(c.Context(), networkID)
			if err != nil {
				return err
			}
			list, err := listTables(snapshot)
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, l := range list {
				fmt.Fprintf(&b, "%s version %d, valid from %s, record %d\n  %s\n  %s\n", l.ID, l.Version, l.ValidFrom, l.Index, l.bands, l.source)
			}
			if len(list) == 0 {
				b.WriteString("no national table is on the ledger\n")
			}
			return a.print(list, b.String())
		},
	})
	t.flags(c)
	c.Flags().StringVar(&networkID, "network-id", "", "digest of the genesis configuration; needed without a network directory")
	return c
}

// certified follows the ledger to its newest certified block, as the public.
func (t *target) certified(ctx context.Context, networkID string) (*follower.Snapshot, error) {
	address, spki, err := t.endpoint(recordv1.Role_ROLE_REPLICA)
	if err != nil {
		return nil, err
	}
	network, err := t.network()
	if err != nil {
		return nil, err
	}
	if networkID == "" && network != nil {
		networkID = network.NetworkID
	}
	if networkID == "" {
		return nil, usage("--network-id HEX is needed without a network directory: it says which ledger is followed")
	}
	c := follower.Config{NetworkID: networkID, Replicas: []follower.Endpoint{{Address: address, SPKI: digest.Digest(spki).String()}}}
	f, err := follower.New(c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(following) }()
	err = f.CatchUp(ctx)
	snapshot, none := f.Snapshot()
	stop()
	_, _ = <-ended, f.Close() // it was read from, and nothing more
	return snapshot, errors.Join(err, none)
}

func listTables(snapshot *follower.Snapshot) ([]listedTable, error) {
	var ids []string
	snapshot.Keys(state.PrefixTable, func(key string) { ids = append(ids, strings.TrimPrefix(key, state.PrefixTable)) })
	slices.Sort(ids)
	list := []listedTable{}
	for _, id := range ids {
		table, err := state.GetTable(snapshot, id)
		if err != nil {
			return nil, err
		}
		for _, v := range table.GetVersions() {
			m := new(recordv1.NationalTable)
			if err := wire.Decode(v.GetPayload(), m); err != nil {
				return nil, err
			}
			text, err := protojson.Marshal(m)
			if err != nil {
				return nil, err
			}
			list = append(list, listedTable{
				ID: id, Version: m.GetVersion(), ValidFrom: timeOf(m.GetValidFromUnixNano()), Index: v.GetIndex(), Table: text,
				bands: bandsText(m), source: fmt.Sprintf("%s (%s)", m.GetSource(), statement.Word(m.GetSourceStatus())),
			})
		}
	}
	return list, nil
}

// bandsText is the permissible error of each band, in the table's own numbers.
func bandsText(m *recordv1.NationalTable) string {
	var parts []string
	for _, b := range m.GetBands() {
		part := fmt.Sprintf("±%d", b.GetAbsolute())
		if b.GetRelativePpm() > 0 {
			part = fmt.Sprintf("±%d ppm", b.GetRelativePpm())
		}
		if b.GetUpTo() > 0 {
			part += fmt.Sprintf(" up to %d", b.GetUpTo())
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("%s in %s times 10^%d: %s; rounded %s to multiples of %d", m.GetValue(), m.GetUnit(), m.GetScale(), strings.Join(parts, ", "), statement.Word(m.GetRounding()), m.GetStep())
}
