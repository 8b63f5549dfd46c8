package bench

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The kinds of meter keys of a run.
const (
	MetersEd25519 = string(statement.Ed25519)
	MetersP256    = string(statement.P256)
	MetersMixed   = "mixed" // every second meter each
)

// How clients call the gateway.
const (
	CallStream = "stream" // one stream for each client, as the SDK does
	CallUnary  = "unary"  // one call for each measurement
)

// Options are the settings of a run, and part of its report.
type Options struct {
	Clients      int           `json:"clients"`                   // each its own meter and connection
	Rate         float64       `json:"rate_per_second,omitempty"` // of arrivals in an open loop; 0 closes the loop
	Duration     time.Duration `json:"duration_ns"`               // of the measured window
	Warmup       time.Duration `json:"warmup_ns"`                 // of load before it
	Drain        time.Duration `json:"drain_ns"`                  // for answers after it
	Meters       string        `json:"meters"`
	Channels     int           `json:"channels"`
	Samples      int           `json:"samples"` // of each channel
	Encoding     string        `json:"encoding"`
	Endorsements int           `json:"endorsements"` // organisations that the approval's policy wants
	Call         string        `json:"call"`
	Profiles     int           `json:"profiles"` // simulated passes of vehicles
	Seed         uint64        `json:"seed"`
	Stages       bool          `json:"stages"` // attribute CPU to stages

	Network devnet.Shape  `json:"network"`             // how many replicas and endorsers
	Backlog float64       `json:"backlog,omitempty"`   // share of the clients that are cut off again and again, and then send what they captured
	Outage  time.Duration `json:"outage_ns,omitempty"` // how long each of them is cut off

	KillLeaderAfter time.Duration `json:"kill_leader_after_ns,omitempty"` // into the window; 0 kills nothing

	Dir        string    `json:"-"` // of network and logs; a temporary one by default
	Keep       bool      `json:"-"` // leave Dir behind
	ProfileDir string    `json:"-"` // where raw CPU profiles are kept; "" keeps none
	Progress   io.Writer `json:"-"` // a line each second
}

// Defaults are the settings of `lacre bench` without flags: the vector of the
// paper, two endorsing organisations.
func Defaults() Options {
	return Options{
		Clients: 50, Duration: 10 * time.Second, Warmup: 3 * time.Second, Drain: 30 * time.Second,
		Meters: MetersEd25519, Channels: 2, Samples: 512, Encoding: "rice", Endorsements: 2,
		Call: CallStream, Profiles: 256, Seed: 20261122, Stages: true, Network: devnet.DefaultShape(), Outage: 5 * time.Second,
	}
}

const (
	maxClients = 20_000
	minSamples = 64
	minOutage  = 100 * time.Millisecond
)

// Check names every wrong setting.
func (o Options) Check() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(o.Clients < 1 || o.Clients > maxClients, "%d clients, want 1 to %d", o.Clients, maxClients)
	fault(o.Rate < 0, "a rate of %g/s", o.Rate)
	fault(o.Duration <= 0, "a duration of %s", o.Duration)
	fault(o.Warmup < 0 || o.Drain <= 0, "a warm-up of %s and a drain of %s", o.Warmup, o.Drain)
	fault(o.Meters != MetersEd25519 && o.Meters != MetersP256 && o.Meters != MetersMixed, "meters %q, want %s, %s or %s", o.Meters, MetersEd25519, MetersP256, MetersMixed)
	fault(o.Call != CallStream && o.Call != CallUnary, "call %q, want %s or %s", o.Call, CallStream, CallUnary)
	fault(o.Channels < 2 || o.Channels > sample.MaxChannels, "%d channels, want 2 to %d", o.Channels, sample.MaxChannels)
	fault(o.Samples < minSamples || o.Samples > sample.MaxSamplesPerChannel, "%d samples, want %d to %d", o.Samples, minSamples, sample.MaxSamplesPerChannel)
	fault(o.Endorsements < 1 || o.Endorsements > o.Network.Endorsers, "%d endorsements, want 1 to %d, for so many endorsers there are", o.Endorsements, o.Network.Endorsers)
	fault(o.Backlog < 0 || o.Backlog > 1, "a share of %g that is cut off, want 0 to 1", o.Backlog)
	fault(o.Backlog > 0 && o.Outage < minOutage, "an outage of %s, want %s or more", o.Outage, minOutage)
	fault(o.Backlog > 0 && o.offline() == o.Clients, "all of %d clients are cut off, want one that is not", o.Clients)
	fault(o.KillLeaderAfter > 0 && o.Network.Replicas < 4, "the leader of %d replicas is killed, want 4 or more: the others would have no quorum", o.Network.Replicas)
	fault(o.Profiles < 1, "%d profiles", o.Profiles)
	fault(o.KillLeaderAfter < 0 || o.KillLeaderAfter >= o.Duration, "the leader is killed after %s, want less than the duration of %s", o.KillLeaderAfter, o.Duration)
	_, err := o.encoding()
	faults = append(faults, err, o.Network.Check())
	return errors.Join(faults...)
}

func (o Options) encoding() (recordv1.Encoding, error) {
	switch o.Encoding {
	case "rice":
		return recordv1.Encoding_ENCODING_RICE, nil
	case "int16":
		return recordv1.Encoding_ENCODING_INT16, nil
	}
	return 0, fmt.Errorf("encoding %q, want rice or int16", o.Encoding)
}

// keyKind is what the meter of a client signs with.
func (o Options) keyKind(client int) statement.KeyKind {
	if o.Meters == MetersP256 || o.Meters == MetersMixed && client%2 == 1 {
		return statement.P256
	}
	return statement.Ed25519
}

// sampleRateMillihertz lets 512 samples last 512 ms, whatever their number.
func (o Options) sampleRateMillihertz() uint64 { return uint64(o.Samples) * 1_000_000 / 512 }

// spacingMillimetres is the distance of the simulated loops.
const spacingMillimetres = 2000
