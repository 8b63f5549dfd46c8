package command

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// registration is the command line of `meter register`.
type registration struct {
	meterFlags
	key, draft          string
	rate                float64 // Hz
	spacing             int64   // mm
	channels            uint32
	site, seal, table   string
	latitude, longitude float64 // degrees
	lane                uint32
	days                int
	certificate         string
}

func newMeterRegister(a *app) *cobra.Command {
	var r registration
	c := a.reading(&cobra.Command{
		Use:   "register METER",
		Short: "Register a meter for the built-in speed module",
		Long: `Drafts the registration of a meter whose keys "lacre meter keygen" made, signs it
with the notified body's key and submits it. Where that key lies elsewhere,
--draft writes the statement for "lacre approval sign" and "approval submit".`,
		Example: `  lacre meter register my-meter --key notified-body.pem
  lacre meter register my-meter --rate 2000 --spacing 3000 --site "km 12" --lane 2 --draft my-meter.json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runRegister(c.Context(), &r, args[0]) },
	})
	r.flags(c)
	f := c.Flags()
	f.StringVar(&r.key, "key", "", "file of the notified body's private key")
	f.StringVar(&r.draft, "draft", "", "write the unsigned statement to this file, and submit nothing")
	f.Float64Var(&r.rate, "rate", 1000, "sample rate of each channel in Hz")
	f.Int64Var(&r.spacing, "spacing", 2000, "distance of adjacent loops in mm, leading edge to leading edge")
	f.Uint32Var(&r.channels, "channels", 2, "number of loops")
	f.StringVar(&r.site, "site", "simulated road", "where the meter stands")
	f.Float64Var(&r.latitude, "latitude", 0, "degrees north")
	f.Float64Var(&r.longitude, "longitude", 0, "degrees east")
	f.Uint32Var(&r.lane, "lane", 1, "lane")
	f.StringVar(&r.seal, "seal", "none (simulated)", "identifier of the physical seal")
	f.StringVar(&r.table, "table", "", "id of the national table under which the meter's values are considered")
	f.StringVar(&r.certificate, "certificate", "simulated", "number of the verification certificate")
	f.IntVar(&r.days, "valid-days", 365, "how long the verification is valid, from now")
	return c
}

func (a *app) runRegister(ctx context.Context, r *registration, id string) error {
	if (r.key == "") == (r.draft == "") {
		return usage("one of --key FILE (sign and submit) and --draft FILE (write what is to be signed) is needed")
	}
	if r.days < 1 {
		return usage("--valid-days is %d: the verification would be over when it begins; give 1 or more", r.days)
	}
	dir, err := r.at(id)
	if err != nil {
		return err
	}
	draft, err := r.statement(ctx, a, dir, id)
	if err != nil {
		return err
	}
	network, err := record.Digest32("network_id", draft.GetHeader().GetNetworkId())
	if err != nil {
		return err
	}
	s := standing{MeterID: id, NetworkID: network, Channels: draft.GetChannels(),
		SampleRateMillihertz: draft.GetSampleRateMillihertz(), SpacingMillimetres: r.spacing}
	if r.draft != "" {
		payload, err := wire.Encode(draft)
		if err != nil {
			return err
		}
		b, err := json.Marshal(draftFile{record.TypeMeterRegistration, payload})
		if err != nil {
			return err
		}
		if err := a.writeFile(r.draft, append(b, '\n')); err != nil {
			return err
		}
		return s.write(dir)
	}
	signer, err := statement.ReadKey(r.key)
	if err != nil {
		return err
	}
	signed, err := record.NewStatement(draft, signer)
	if err != nil {
		return err
	}
	placed, err := r.submit(ctx, signed)
	if err != nil {
		return err
	}
	if err := s.write(dir); err != nil {
		return err
	}
	return a.print(placed, fmt.Sprintf("meter %s is registered: %d channels at %g Hz, %d mm apart\nstatement %s is record %d, certified at height %d\n",
		id, s.Channels, r.rate, r.spacing, placed.Statement, placed.Index, placed.CertifiedHeight))
}

// statement drafts the registration upon what the ledger has on the meter.
func (r *registration) statement(ctx context.Context, a *app, dir, id string) (*recordv1.MeterRegistration, error) {
	key, err := statement.ReadKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("the meter's key (\"lacre meter keygen %s\" makes one): %w", id, err)
	}
	tls, err := identity.Load(filepath.Join(dir, "tls.pem"))
	if err != nil {
		return nil, err
	}
	var place statement.Place
	err = r.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		approval := approvalv1.NewApprovalServiceClient(c)
		if place, err = statement.PlaceOf(ctx, approval, record.SubjectMeter(id)); err != nil || r.table == "" {
			return err
		}
		table, err := statement.PlaceOf(ctx, approval, record.SubjectTable(r.table))
		if err == nil && table.Sequence == 1 {
			a.say("warning: no version of the national table %s is on the ledger; until one is, nothing is considered (lacre table list)", r.table)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	draft, err := statement.Registration(place, now, statement.Meter{
		ID: id, Public: key.Public(), TLS: tls.SPKI(), Seal: r.seal,
		Site:               &recordv1.Site{Name: r.site, LatitudeE7: degreesE7(r.latitude), LongitudeE7: degreesE7(r.longitude), Lane: r.lane},
		SpacingMillimetres: r.spacing, SampleRateMillihertz: millihertz(r.rate),
		Verification: &recordv1.Verification{Certificate: r.certificate,
			ValidFromUnixNano: now.Add(-time.Minute).UnixNano(), ValidUntilUnixNano: now.AddDate(0, 0, r.days).UnixNano()},
	})
	if err == nil {
		draft.Channels, draft.NationalTable = r.channels, r.table
	}
	return draft, err
}
