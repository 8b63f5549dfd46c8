package command

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	stick "github.com/lacre-metrology/lacre/cli/internal/bench"
)

func newBenchPlan(a *app) *cobra.Command {
	d := stick.Scenarios()[0]
	d.Name, d.Meters = "planned", 0
	var from string
	disk := d.Disk / 1e12
	c := a.reading(&cobra.Command{
		Use:   "plan",
		Short: "Predict cores, disk and network from measured costs",
		Long: `Predicts what so many meters need: how many independent ledgers (shards), cores,
disk and network of each organisation. Costs are those of a report that "lacre
bench --json" wrote, or the built-in ones, which the output names with their
machine. Without --meters it shows three demands side by side: a city, a country,
and a smart grid of ten million meters. docs/capacity.md says what is in the model
and what is not.`,
		Example: `  lacre bench plan
  lacre bench plan --meters 3000 --rate 12000
  lacre bench --clients 600 --json >report.json && lacre bench plan --from report.json
  lacre bench plan --meters 10000000 --rate 96 --peak 1.2 --raw-bytes 120 --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			demands := stick.Scenarios()
			switch changed := c.Flags().Changed; {
			case changed("meters"):
				d.Disk = disk * 1e12
				demands = []stick.Demand{d}
			case changed("rate"), changed("peak"), changed("raw-bytes"):
				return usage("--rate, --peak and --raw-bytes without --meters: the three demands have their own")
			default:
				for i := range demands {
					demands[i].Network, demands[i].Endorsements, demands[i].Cores, demands[i].Use, demands[i].Disk = d.Network, d.Endorsements, d.Cores, d.Use, disk*1e12
					demands[i].HotDays, demands[i].ColdDays, demands[i].KeepsForever = d.HotDays, d.ColdDays, d.KeepsForever
				}
			}
			constants, err := planConstants(from)
			if err != nil {
				return err
			}
			var plans []*stick.Plan
			for _, demand := range demands {
				p, err := demand.Make(constants)
				if err != nil {
					return usage("%w", err)
				}
				plans = append(plans, p)
			}
			return a.print(plans, stick.PlanText(plans))
		},
	})
	f := c.Flags()
	f.IntVar(&d.Meters, "meters", 0, "number of meters")
	f.Float64Var(&d.PerDay, "rate", d.PerDay, "measurements of each meter in a day")
	f.Float64Var(&d.Peak, "peak", d.Peak, "the busiest hour over the mean")
	f.StringVar(&from, "from", "", "JSON report of a run whose costs are taken (default: built-in ones)")
	f.IntVar(&d.Network.Replicas, "replicas", d.Network.Replicas, "organisations that run a replica of each ledger")
	f.IntVar(&d.Network.Endorsers, "endorsers", d.Network.Endorsers, "organisations that run endorsers")
	f.IntVar(&d.Endorsements, "endorsements", d.Endorsements, "of them, how many must endorse")
	f.IntVar(&d.Cores, "cores", d.Cores, "cores of the machine of a replica")
	f.Float64Var(&disk, "disk", disk, "terabytes of that machine, for a year of records and the hot raw vectors")
	f.Float64Var(&d.Use, "use", d.Use, "share of a core that is planned with")
	f.Float64Var(&d.RawBytes, "raw-bytes", 0, "bytes of a raw vector (default: the report's)")
	f.Float64Var(&d.HotDays, "hot-days", d.HotDays, "how long raw vectors stay on the replicas' disks")
	f.Float64Var(&d.ColdDays, "cold-days", d.ColdDays, "how long they then stay in cold storage, before they expire")
	f.BoolVar(&d.KeepsForever, "keep-raw", false, "raw vectors never expire; cold storage is shown for a year")
	return c
}

func planConstants(from string) (stick.Constants, error) {
	if from == "" {
		return stick.DefaultConstants(), nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return stick.Constants{}, err
	}
	r := new(stick.Report)
	if err := json.Unmarshal(text, r); err != nil {
		return stick.Constants{}, fmt.Errorf("%s is no report of \"lacre bench --json\": %w", from, err)
	}
	c, err := stick.ConstantsOf(r)
	if err != nil {
		return c, fmt.Errorf("%s: %w", from, err)
	}
	return c, nil
}
