package bench

import (
	"fmt"
	"strings"
)

// PlanText shows plans side by side.
func PlanText(plans []*Plan) string {
	var b strings.Builder
	row := func(name string, value func(*Plan) string) {
		fmt.Fprintf(&b, "%-44s", name)
		for _, p := range plans {
			fmt.Fprintf(&b, " %16s", value(p))
		}
		b.WriteByte('\n')
	}
	number := func(format string, value func(*Plan) float64) func(*Plan) string {
		return func(p *Plan) string { return fmt.Sprintf(format, value(p)) }
	}
	row("", func(p *Plan) string { return p.Name })
	row("meters", func(p *Plan) string { return fmt.Sprint(p.Meters) })
	row("measurements of a meter in a day", number("%.0f", func(p *Plan) float64 { return p.PerDay }))
	row("measurements/s, mean", number("%.1f", func(p *Plan) float64 { return p.MeanPerSecond }))
	row("measurements/s, busiest hour", number("%.1f", func(p *Plan) float64 { return p.PeakPerSecond }))
	row("ledgers (shards), and what needs them", func(p *Plan) string {
		if p.Shards == 1 {
			return "1"
		}
		return fmt.Sprintf("%d, %s", p.Shards, p.ShardsFor)
	})
	row("one ledger takes, measurements/s", number("%.0f", func(p *Plan) float64 { return p.LedgerPerSecond }))
	b.WriteString("\neach organisation, all shards, busiest hour\n")
	row("cores for replicas", number("%.1f", func(p *Plan) float64 { return p.ReplicaCores }))
	row("cores for endorsers", number("%.1f", func(p *Plan) float64 { return p.EndorserCores }))
	row("cores for all gateways", number("%.1f", func(p *Plan) float64 { return p.GatewayCores }))
	row("network: leader out", func(p *Plan) string { return bitRate(p.LeaderOut) })
	row("network: other replicas in", func(p *Plan) string { return bitRate(p.ReplicaIn) })
	row("network: endorser in", func(p *Plan) string { return bitRate(p.EndorserIn) })
	row("network: gateways in, from meters", func(p *Plan) string { return bitRate(p.GatewayIn) })
	row("network: gateways out", func(p *Plan) string { return bitRate(p.GatewayOut) })
	b.WriteString("\neach organisation's replicas, on disk\n")
	row("records and index, a year", func(p *Plan) string { return byteSize(p.RecordsPerYear) })
	row("raw vectors on its disks (hot)", func(p *Plan) string { return fmt.Sprintf("%s, %g d", byteSize(p.RawHot), p.HotDays) })
	row("raw vectors in cold storage", func(p *Plan) string {
		if p.KeepsForever {
			return byteSize(p.RawCold) + " a year"
		}
		return fmt.Sprintf("%s, %g d", byteSize(p.RawCold), p.ColdDays)
	})
	if len(plans) > 0 {
		p := plans[0]
		c := p.MeasuredConstant
		fmt.Fprintf(&b, "\nfrom        %s\n", c.Source)
		fmt.Fprintf(&b, "            replica %.0f us (%.0f in turn), endorser %.0f, gateway %.0f; record %.0f B at rest, raw vector %.0f\n",
			c.ReplicaMicros, c.SerialMicros, c.EndorserMicros, c.GatewayMicros, c.RecordBytes, c.RawBytes)
		fmt.Fprintf(&b, "planned     %d replicas of %d cores, used to %.0f %%, and %s of disk; %d endorsers, %d asked\n", p.Network.Replicas, p.Cores, 100*p.Use, byteSize(p.Disk), p.Network.Endorsers, p.Endorsements)
	}
	return b.String()
}

// byteSize shows bytes in the units of disks: powers of ten.
func byteSize(n float64) string { return scaled(n, "B") }

func bitRate(n float64) string { return scaled(n, "bit/s") }

func scaled(n float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T"}
	i := 0
	for n >= 1000 && i < len(prefixes)-1 {
		n /= 1000
		i++
	}
	return fmt.Sprintf("%.1f %s%s", n, prefixes[i], unit)
}
