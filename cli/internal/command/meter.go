package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
)

func newMeter(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "meter",
		Short: "Meters: make keys, register, send, simulate, change, look at outbox and history, check firmware",
		Long: `A meter has a directory: key.pem signs its samples, tls.pem its connections,
meter.json says how it was registered, and outbox/ keeps every sample until its
receipt verifies. By default it lies in the network's directory.`,
	}, newMeterKeygen(a), newMeterRegister(a), newMeterSend(a), newMeterSimulate(a), newMeterHeartbeat(a), newMeterOutbox(a), newMeterConformance(a),
		newMeterHistory(a), newMeterSilence(a), newMeterStatus(a), newMeterParameters(a), newMeterRollover(a))
}

// meterFlags say which meter is meant and where it lies.
type meterFlags struct {
	target
	trust trustFlags
	dir   string
}

func (m *meterFlags) flags(c *cobra.Command) {
	m.target.flags(c)
	c.Flags().StringVar(&m.dir, "dir", "", "the meter's directory (default: meters/METER in the network's)")
}

// at is the meter's directory.
func (m *meterFlags) at(id string) (string, error) {
	if err := record.CheckID(id); err != nil {
		return "", usage("METER: %w", err)
	}
	if m.dir != "" {
		return m.dir, nil
	}
	n, err := m.network()
	if err != nil {
		return "", err
	}
	if n == nil {
		return "", usage("where does the meter lie? Give --dir DIR, or --network DIR")
	}
	return n.MeterDir(id), nil
}

func newMeterKeygen(a *app) *cobra.Command {
	var m meterFlags
	var kind string
	c := a.reading(&cobra.Command{
		Use:   "keygen METER",
		Short: "Make a meter's keys",
		Long: `Makes the key that signs the meter's samples and the key of its connections. A
real sensor unit keeps the first in a secure element; here it is a file.`,
		Example: `  lacre meter keygen my-meter
  lacre meter keygen my-meter --kind p256 --dir /var/lib/my-meter`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := m.at(args[0])
			if err != nil {
				return err
			}
			if k := statement.KeyKind(kind); k != statement.Ed25519 && k != statement.P256 {
				return usage("--kind is %q, want %q or %q", kind, statement.Ed25519, statement.P256)
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			file := filepath.Join(dir, "key.pem")
			key, err := statement.GenerateKey(file, statement.KeyKind(kind))
			if err != nil {
				return err
			}
			if _, err := identity.Generate(filepath.Join(dir, "tls.pem")); err != nil {
				return err
			}
			return a.printKey(file, key.Public())
		},
	})
	m.flags(c)
	c.Flags().StringVar(&kind, "kind", string(statement.Ed25519), "ed25519, or p256 as secure elements and TPMs offer")
	return c
}

// standing is the content of meter.json: how a meter was registered.
type standing struct {
	MeterID              string        `json:"meter_id"`
	NetworkID            digest.Digest `json:"network_id"`
	Channels             uint32        `json:"channels"`
	SampleRateMillihertz uint64        `json:"sample_rate_millihertz"`
	SpacingMillimetres   int64         `json:"spacing_millimetres"`
}

const standingName = "meter.json"

func (s *standing) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, standingName), append(b, '\n'), 0o600)
}

func readStanding(dir, id string) (*standing, error) {
	b, err := os.ReadFile(filepath.Join(dir, standingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("meter %s is not registered from %s: run \"lacre meter register %s\" first", id, dir, id)
	}
	if err != nil {
		return nil, err
	}
	s := new(standing)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, standingName), err)
	}
	if s.MeterID != id {
		return nil, fmt.Errorf("%s is meter %s's, not %s's", dir, s.MeterID, id)
	}
	return s, nil
}

// open opens the meter's outbox and sends what waits in it until ctx ends.
func (m *meterFlags) open(ctx context.Context, id string, hooks meter.Config) (*meter.Meter, *standing, error) {
	dir, err := m.at(id)
	if err != nil {
		return nil, nil, err
	}
	s, err := readStanding(dir, id)
	if err != nil {
		return nil, nil, err
	}
	key, err := statement.ReadKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, nil, err
	}
	tls, err := identity.Load(filepath.Join(dir, "tls.pem"))
	if err != nil {
		return nil, nil, err
	}
	n, err := m.network()
	if err != nil {
		return nil, nil, err
	}
	bundle, err := m.trust.read(n)
	if err == nil && bundle == nil {
		err = usage("--trust FILE is needed without a network directory: a meter lets a sample go only for a receipt that verifies")
	}
	if err != nil {
		return nil, nil, err
	}
	address, spki, err := m.endpoint(recordv1.Role_ROLE_GATEWAY)
	if err != nil {
		return nil, nil, err
	}
	hooks.NetworkID, hooks.MeterID, hooks.Channels, hooks.SampleRateMillihertz = s.NetworkID, id, s.Channels, s.SampleRateMillihertz
	hooks.Signer, hooks.TLS, hooks.Trust = key, tls.ClientTLS(identity.Pin(spki)), bundle
	hooks.ClockSync = meter.HostClock
	hooks.Endpoints, hooks.Dir = []string{address}, filepath.Join(dir, "outbox")
	opened, err := meter.Open(ctx, hooks)
	return opened, s, err
}

// shownOutbox is a meter's outbox for people and programs.
type shownOutbox struct {
	Meter        string         `json:"meter"`
	NextCounter  uint64         `json:"next_counter"`
	Pending      int            `json:"pending"` // samples without an answer
	PendingBytes int64          `json:"pending_bytes"`
	MaxBytes     int64          `json:"max_bytes"`
	Receipts     int            `json:"receipts"`
	Refused      []shownRefusal `json:"refused"`
}

type shownRefusal struct {
	Counter   uint64    `json:"counter"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	RefusedAt time.Time `json:"refused_at"`
	Path      string    `json:"path"`
}

func newMeterOutbox(a *app) *cobra.Command {
	var m meterFlags
	var retry []uint
	c := a.reading(&cobra.Command{
		Use:   "outbox METER",
		Short: "Show what waits in a meter's outbox, and what was refused",
		Long: `Shows a meter's outbox without sending anything. A refused sample is kept, with
its reason, until --retry puts it back into the queue; the next send sends it.`,
		Example: `  lacre meter outbox my-meter
  lacre meter outbox my-meter --retry 7`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runOutbox(c.Context(), &m, args[0], retry) },
	})
	m.flags(c)
	m.trust.flags(c)
	c.Flags().UintSliceVar(&retry, "retry", nil, "counter of a refused sample to put back into the queue (repeat)")
	return c
}

func (a *app) runOutbox(ctx context.Context, m *meterFlags, id string, retry []uint) (err error) {
	quiet, stop := context.WithCancel(ctx)
	stop() // nothing is sent
	opened, _, err := m.open(quiet, id, meter.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	for _, counter := range retry {
		if err := opened.RetryRefused(uint64(counter)); err != nil {
			return fmt.Errorf("retry %d: %w", counter, err)
		}
	}
	stats := opened.Stats()
	s := shownOutbox{Meter: id, NextCounter: stats.NextCounter, Pending: stats.Pending, PendingBytes: stats.PendingBytes,
		MaxBytes: stats.MaxBytes, Receipts: stats.Receipts, Refused: []shownRefusal{}}
	text := fmt.Sprintf("meter     %s, next counter %d\npending   %d samples, %d of %d bytes\nreceipts  %d\nrefused   %d\n",
		id, s.NextCounter, s.Pending, s.PendingBytes, s.MaxBytes, s.Receipts, stats.RefusedStored)
	for r, err := range opened.Refused() {
		if err != nil {
			return err
		}
		s.Refused = append(s.Refused, shownRefusal{r.Counter, string(r.Reason), r.Detail, r.RefusedAt, r.Path})
		text += fmt.Sprintf("  %d  %s: %s\n      %s\n", r.Counter, r.Reason, r.Detail, r.Path)
	}
	return a.print(s, text)
}
