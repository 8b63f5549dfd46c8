package meter

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Config says who the meter is and whom it talks to. Everything without a
// default is required. Meter id, channels, sample rate and key must be those of
// the meter's registration, or the ledger refuses what it sends.
type Config struct {
	NetworkID            digest.Digest // of the genesis configuration
	MeterID              string        // see record.CheckID
	Channels             uint32        // 2 to sample.MaxChannels
	SampleRateMillihertz uint64        // of each channel
	Signer               crypto.Signer // Ed25519 or ECDSA P-256; may be a secure element; calls are serialised

	Endpoints []string      // host:port of ingest gateways; one at a time is used, the next after a failure
	TLS       *tls.Config   // the meter's certificate, if any, and the roots for the gateways; it is cloned
	Trust     *trust.Bundle // pinned; decides which receipts and heads are believed

	Dir      string // the outbox; made if need be, locked while open
	MaxBytes int64  // bound on samples without an answer; default 256 MiB

	// EvidenceKey is the X25519 key of the authority that may read evidence, as the
	// network's configuration names it; nil for a meter that takes none.
	EvidenceKey      []byte
	MaxEvidenceBytes int64 // bound on sealed evidence that waits; default 1 GiB

	// FirstCounter and Previous begin the chain in a new Dir: 1 and none by default
	// (the meter's first sample ever). A meter that goes on in a new directory
	// continues where the old one ended. Ignored when Dir holds a chain.
	FirstCounter uint64
	Previous     digest.Digest

	// KnownBlock lets a new meter record before it ever reached a gateway; without
	// it, Record waits for the first one. Optional.
	KnownBlock KnownBlock

	// MaxInFlight bounds the samples that wait for an answer; default 256, at most
	// 8 MiB of them (or one).
	MaxInFlight int

	// Heartbeat is how long the meter may record nothing before it signs that it
	// lives; default 60 s, at least 10 s (the ledger takes none sooner), negative
	// for never.
	Heartbeat time.Duration

	// ClockSync says what the meter's clock is worth now, for each heartbeat and for
	// each capture that does not say it itself; HostClock is one such source. Without
	// it a heartbeat says NOT_SYNCHRONISED, and every capture must say. It must
	// return soon; calls may be concurrent.
	ClockSync func() recordv1.ClockSync

	// Tracer, if any, is told of each sample's way from here to its answer, as a span
	// whose trace gateways, endorsers and replicas continue. It must be safe for
	// concurrent use.
	Tracer trace.Tracer

	// OnReceipt is called for each receipt once it is stored, OnAlarm for what an
	// operator should know. Calls may be concurrent; they must return soon, and not
	// call Close.
	OnReceipt func(Receipt)
	OnAlarm   func(Alarm)
}

const (
	defaultHeartbeat   = time.Minute
	leastHeartbeat     = 10 * time.Second
	defaultMaxBytes    = 256 << 20
	defaultMaxInFlight = 256
	defaultMaxEvidence = 1 << 30
	maxInFlightBytes   = 8 << 20
)

// withDefaults checks the configuration, naming all faults at once.
func (c Config) withDefaults() (Config, error) {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxEvidenceBytes == 0 {
		c.MaxEvidenceBytes = defaultMaxEvidence
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = defaultMaxInFlight
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = defaultHeartbeat
	}
	fault(c.Heartbeat > 0 && c.Heartbeat < leastHeartbeat, "Heartbeat is %v, want at least %v", c.Heartbeat, leastHeartbeat)
	if c.FirstCounter == 0 {
		c.FirstCounter = 1
	}
	fault(c.NetworkID.IsZero(), "NetworkID is not given")
	if err := record.CheckID(c.MeterID); err != nil {
		faults = append(faults, fmt.Errorf("MeterID: %w", err))
	}
	fault(c.Channels < 2 || c.Channels > sample.MaxChannels, "Channels is %d, want 2 to %d", c.Channels, sample.MaxChannels)
	fault(c.SampleRateMillihertz == 0, "SampleRateMillihertz is 0")
	fault(len(c.Endpoints) == 0, "Endpoints is empty")
	fault(c.TLS == nil, "TLS is not given; gateways speak nothing else")
	fault(c.Dir == "", "Dir is not given")
	fault(c.MaxBytes < 0, "MaxBytes is %d", c.MaxBytes)
	fault(c.MaxEvidenceBytes < 0, "MaxEvidenceBytes is %d", c.MaxEvidenceBytes)
	if len(c.EvidenceKey) > 0 {
		if err := evidence.CheckKey(c.EvidenceKey); err != nil {
			faults = append(faults, fmt.Errorf("EvidenceKey: %w", err))
		}
	}
	fault(c.MaxInFlight < 0, "MaxInFlight is %d", c.MaxInFlight)
	fault(c.FirstCounter > 1 && c.Previous.IsZero(), "FirstCounter is %d without Previous; only a meter's first sample has none", c.FirstCounter)
	if c.Signer == nil {
		faults = append(faults, errors.New("no Signer is given"))
	} else if err := checkSigner(c.Signer); err != nil {
		faults = append(faults, fmt.Errorf("the Signer: %w", err))
	}
	if c.Trust == nil {
		faults = append(faults, errors.New("no Trust is given"))
	} else if err := tlog.CheckOrigin(c.Trust.Origin(), c.NetworkID); err != nil {
		faults = append(faults, fmt.Errorf("trust bundle and NetworkID: %w", err))
	}
	if len(faults) > 0 {
		return c, fmt.Errorf("meter configuration: %w", errors.Join(faults...))
	}
	return c, nil
}

// checkSigner refuses what no registration would take (rule B3).
func checkSigner(signer crypto.Signer) error {
	kind, err := sample.KindOf(signer.Public())
	if err != nil {
		return err
	}
	key, err := signature.KeyOf(kind, signer.Public())
	if err != nil {
		return err
	}
	return signature.CheckKey(key)
}

// timing is every delay of the sender; tests shorten them.
type timing struct {
	reconnect     backoff       // between sessions
	retry         backoff       // of one sample: pending, transient refusal without a delay, failed write
	maxRetryAfter time.Duration // a gateway cannot silence a sample for longer
	answer        time.Duration // silence for so long ends a session
	progress      time.Duration // as does this time without a receipt, if there is another gateway
	watch         time.Duration // how often the two are looked at
	head          time.Duration // between two GetHead calls
	keepHeads     time.Duration // between two writes of the known blocks
}

var ordinary = timing{
	reconnect:     backoff{first: 100 * time.Millisecond, most: 30 * time.Second},
	retry:         backoff{first: 250 * time.Millisecond, most: 30 * time.Second},
	maxRetryAfter: 5 * time.Minute,
	answer:        30 * time.Second,
	progress:      time.Minute,
	watch:         time.Second,
	head:          5 * time.Second,
	keepHeads:     time.Minute,
}
