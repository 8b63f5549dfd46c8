package command

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// meterActions are the words of the command line.
var meterActions = map[string]recordv1.MeterAction{
	"suspend":         recordv1.MeterAction_METER_ACTION_SUSPEND,
	"resume":          recordv1.MeterAction_METER_ACTION_RESUME,
	"seal-broken":     recordv1.MeterAction_METER_ACTION_SEAL_BROKEN,
	"key-compromised": recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED,
	"verified":        recordv1.MeterAction_METER_ACTION_VERIFIED,
	"decommission":    recordv1.MeterAction_METER_ACTION_DECOMMISSION,
}

// drafting says upon what a statement on a meter is drafted, and where to.
type drafting struct {
	target
	networkID, predecessor, reason, out string
	sequence                            uint64
}

func (d *drafting) flags(c *cobra.Command) {
	d.target.flags(c)
	f := c.Flags()
	f.StringVar(&d.networkID, "network-id", "", "digest of the genesis configuration; drafts offline")
	f.Uint64Var(&d.sequence, "sequence", 2, "with --network-id: number of the statement on this meter")
	f.StringVar(&d.predecessor, "predecessor", "", "with --network-id: digest of the statement before")
	f.StringVar(&d.out, "out", "", "file to write (default: stdout)")
}

// header is that of the next statement on the meter.
func (d *drafting) header(ctx context.Context, id string) (*recordv1.StatementHeader, error) {
	if err := record.CheckID(id); err != nil {
		return nil, usage("METER: %w", err)
	}
	subject := record.SubjectMeter(id)
	var place statement.Place
	var err error
	if d.networkID == "" {
		place, err = d.placeOf(ctx, subject)
	} else {
		place, err = offlinePlace(d.networkID, d.sequence, d.predecessor)
	}
	if err != nil {
		return nil, err
	}
	return place.Header(subject, time.Now()), nil
}

// writeMeterDraft checks and writes what "lacre approval sign" takes.
func (a *app) writeMeterDraft(out string, m proto.Message) error {
	if err := state.CheckStatement(m); err != nil {
		return err
	}
	return a.writeDraft(out, record.TypeOf(m), m)
}

// meterStatus is the command line of `meter status`.
type meterStatus struct {
	drafting
	at, certificate, from, until string
}

func newMeterStatus(a *app) *cobra.Command {
	var s meterStatus
	c := &cobra.Command{
		Use:   "status suspend|resume|verified|seal-broken|key-compromised|decommission METER",
		Short: "Draft a change of a meter's standing",
		Long: `Writes a draft that the notified body signs ("lacre approval sign") and hands in
("lacre approval submit").

suspend bars captures from --at until a resume, decommission for ever; verified
gives the next certificate, which ends the one before where it begins. These are
judged at the capture. seal-broken and key-compromised count for every
measurement that is not certified yet, whenever it was captured, and for ever.`,
		Example: `  lacre meter status suspend my-meter --at 2026-03-01T00:00:00Z --reason "under examination" --out suspend.json
  lacre meter status verified my-meter --certificate 2026/417 --from 2026-03-01 --until 2027-03-01 --out verified.json
  lacre meter status seal-broken my-meter --reason "found open" --out broken.json`,
		Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runMeterStatus(c.Context(), &s, args[0], args[1])
		},
	}
	s.flags(c)
	f := c.Flags()
	f.StringVar(&s.at, "at", "", "capture time in RFC 3339 from which it counts (default: now); for suspend, resume and decommission")
	f.StringVar(&s.certificate, "certificate", "", "number of the verification certificate, for verified")
	f.StringVar(&s.from, "from", "", "first capture time that the certificate covers: a date (UTC), or RFC 3339")
	f.StringVar(&s.until, "until", "", "first capture time that it no longer covers")
	f.StringVar(&s.reason, "reason", "", "for people, at most 256 bytes")
	return c
}

func (a *app) runMeterStatus(ctx context.Context, s *meterStatus, word, id string) error {
	action, ok := meterActions[word]
	if !ok {
		return usage("%q is none of suspend, resume, verified, seal-broken, key-compromised and decommission", word)
	}
	m := &recordv1.MeterStatus{MeterId: id, Action: action, Reason: s.reason}
	verified := action == recordv1.MeterAction_METER_ACTION_VERIFIED
	switch {
	case verified != (s.certificate != "" && s.from != "" && s.until != ""):
		return usage("verified, and nothing else, takes --certificate, --from and --until")
	case verified:
		from, err := blockTime("--from", s.from)
		if err != nil {
			return err
		}
		until, err := blockTime("--until", s.until)
		if err != nil {
			return err
		}
		m.Verification = &recordv1.Verification{Certificate: s.certificate, ValidFromUnixNano: from, ValidUntilUnixNano: until}
	case action != recordv1.MeterAction_METER_ACTION_SEAL_BROKEN && action != recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED:
		at, err := timeOr(s.at, time.Now())
		if err != nil {
			return err
		}
		m.EffectiveAtUnixNano = at.UnixNano()
	}
	if s.at != "" && m.EffectiveAtUnixNano == 0 {
		return usage("%s counts from its block or by its certificate; it takes no --at", word)
	}
	var err error
	if m.Header, err = s.header(ctx, id); err != nil {
		return err
	}
	return a.writeMeterDraft(s.out, m)
}

func newMeterRollover(a *app) *cobra.Command {
	var d drafting
	var dir string
	var first uint64
	c := &cobra.Command{
		Use:   "rollover METER --new DIR --first-counter N",
		Short: "Draft a new key for a meter",
		Long: `Writes a draft that the notified body and the meter's old key sign (twice "lacre
approval sign"). From counter N on the new key signs; earlier counters verify
under the old one only. DIR holds key.pem and tls.pem, as "lacre meter keygen"
makes them.`,
		Example: `  lacre meter keygen my-meter --dir new
  lacre meter rollover my-meter --new new --first-counter 1042 --out rollover.json
  lacre approval sign rollover.json --key notified-body.pem --key old/key.pem --out rollover.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dir == "" || first == 0 {
				return usage("--new DIR and --first-counter N are needed: the key, and the first counter that it signs")
			}
			signer, err := statement.ReadKey(filepath.Join(dir, "key.pem"))
			if err != nil {
				return err
			}
			kind, err := sample.KindOf(signer.Public())
			if err != nil {
				return err
			}
			key, err := signature.KeyOf(kind, signer.Public())
			if err != nil {
				return err
			}
			tls, err := identity.Load(filepath.Join(dir, "tls.pem"))
			if err != nil {
				return err
			}
			spki := tls.SPKI()
			m := &recordv1.MeterKeyRollover{MeterId: args[0], Key: key.Bytes(), FirstCounter: first, TlsSpki: spki[:]}
			if m.Header, err = d.header(c.Context(), args[0]); err != nil {
				return err
			}
			return a.writeMeterDraft(d.out, m)
		},
	}
	d.flags(c)
	c.Flags().StringVar(&dir, "new", "", "directory with the new key.pem and tls.pem")
	c.Flags().Uint64Var(&first, "first-counter", 0, "the first counter that the new key signs")
	return c
}
