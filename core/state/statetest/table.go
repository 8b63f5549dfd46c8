package statetest

import (
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Table is the next version of a national table on the speed of the network's
// module: ±7 km/h up to 100 km/h, ±7 % above. It is valid from the first second
// that it may be.
func (n *Network) Table(id string) *recordv1.NationalTable {
	n.TB.Helper()
	header := n.Header(record.SubjectTable(id))
	config, err := state.GetConfig(n.Store)
	n.must(err)
	return &recordv1.NationalTable{
		Header: header, TableId: id, Version: uint32(header.Sequence),
		ValidFromUnixNano: (n.NowUnix+1)*Second + config.Message.GetLimits().GetFutureBoundNano(),
		Value:             "speed", Unit: "km/h", Scale: -3,
		Bands:    []*recordv1.ErrorBand{{UpTo: 100_000, Absolute: 7_000}, {RelativePpm: 70_000}},
		Rounding: recordv1.Rounding_ROUNDING_DOWN, Step: 1,
		Source: "an example", SourceStatus: recordv1.SourceStatus_SOURCE_STATUS_EXAMPLE,
	}
}
