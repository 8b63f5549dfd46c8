package command

import (
	"context"
	"math"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// meterParameters is the command line of `meter parameters`.
type meterParameters struct {
	drafting
	at, module, site, seal, table string
	rate                          float64 // Hz
	values                        []int64
	latitude, longitude           float64 // degrees
	lane                          uint32
}

func newMeterParameters(a *app) *cobra.Command {
	var p meterParameters
	c := &cobra.Command{
		Use:   "parameters METER",
		Short: "Draft the next version of a meter's parameters",
		Long: `Follows the certified ledger, takes the meter's newest version, changes what the
flags say, and writes a draft that the notified body signs ("lacre approval
sign") and hands in ("lacre approval submit").

The version counts for captures from --at on. It may be in the past, but not
reach back over a capture that the ledger has: that was judged under the version
before.`,
		Example: `  lacre meter parameters my-meter --values 3000000,0,0,0 --seal 4711 --reason "loops laid anew" --out parameters.json
  lacre meter parameters my-meter --module HEX --at 2026-06-01T00:00:00Z --out parameters.json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runMeterParameters(c.Context(), &p, args[0], c.Flags().Changed)
		},
	}
	p.target.flags(c)
	f := c.Flags()
	f.StringVar(&p.networkID, "network-id", "", "digest of the genesis configuration; needed without a network directory")
	f.StringVar(&p.out, "out", "", "file to write (default: stdout)")
	f.StringVar(&p.at, "at", "", "first capture time that the version covers, in RFC 3339 (default: now)")
	f.StringVar(&p.module, "module", "", "SHA-256 of the approved module that computes the results")
	f.Float64Var(&p.rate, "rate", 0, "sample rate of each channel in Hz")
	f.Int64SliceVar(&p.values, "values", nil, "all parameters, in the order of the module's approved schema")
	f.StringVar(&p.site, "site", "", "where the meter stands")
	f.Float64Var(&p.latitude, "latitude", 0, "degrees north")
	f.Float64Var(&p.longitude, "longitude", 0, "degrees east")
	f.Uint32Var(&p.lane, "lane", 0, "lane")
	f.StringVar(&p.seal, "seal", "", "number on the physical seal")
	f.StringVar(&p.table, "table", "", "id of the national table; empty for none")
	f.StringVar(&p.reason, "reason", "", "for people, at most 256 bytes")
	return c
}

func (a *app) runMeterParameters(ctx context.Context, p *meterParameters, id string, given func(flag string) bool) error {
	at, err := timeOr(p.at, time.Now())
	if err != nil {
		return err
	}
	l, err := p.meterLife(ctx, p.networkID, id)
	if err != nil {
		return err
	}
	before, err := state.ParametersAt(l.meter, math.MaxInt64)
	if err != nil {
		return err
	}
	p.networkID = "" // the place comes from the approval service
	m, err := p.next(before, given)
	if err != nil {
		return err
	}
	m.MeterId, m.EffectiveAtUnixNano = id, at.UnixNano()
	if m.Header, err = p.header(ctx, id); err != nil {
		return err
	}
	a.say("meter %s: version %d of the parameters, for captures from %s", id, m.GetVersion(), timeOf(m.GetEffectiveAtUnixNano()))
	return a.writeMeterDraft(p.out, m)
}

// next is the version before with what the flags give.
func (p *meterParameters) next(before *claim.Parameters, given func(flag string) bool) (*recordv1.MeterParameters, error) {
	m := &recordv1.MeterParameters{
		Version: before.Version + 1, Algorithm: before.Algorithm.Bytes(), SampleRateMillihertz: before.SampleRateMillihertz,
		Parameters: before.Values, Site: proto.CloneOf(before.Site), Seal: before.Seal, NationalTable: before.NationalTable, Reason: p.reason,
	}
	if given("module") {
		module, err := digest.Parse(p.module)
		if err != nil {
			return nil, usage("--module: %w", err)
		}
		m.Algorithm = module.Bytes()
	}
	if m.Site == nil {
		m.Site = new(recordv1.Site)
	}
	for flag, set := range map[string]func(){
		"rate": func() { m.SampleRateMillihertz = millihertz(p.rate) }, "values": func() { m.Parameters = p.values },
		"site": func() { m.Site.Name = p.site }, "lane": func() { m.Site.Lane = p.lane },
		"latitude": func() { m.Site.LatitudeE7 = degreesE7(p.latitude) }, "longitude": func() { m.Site.LongitudeE7 = degreesE7(p.longitude) },
		"seal": func() { m.Seal = p.seal }, "table": func() { m.NationalTable = p.table },
	} {
		if given(flag) {
			set()
		}
	}
	return m, nil
}
