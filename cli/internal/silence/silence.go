// Package silence finds meters of which a ledger has heard nothing for too long,
// and meters that signed samples which nobody delivered.
//
// Source: architecture, "a gateway drops or delays" (gaps and silence show);
// rules C2 and C4; package core/state, "heartbeat.go".
//
// Invariants:
//   - Silence is absence, so the whole ledger is replayed by the transition up to
//     a block that the trust bundle finds certified: a sign of life that was left
//     out is a ledger that does not hold. Nothing is told of later blocks.
//   - The answer says as of when it is true: the replicas sign the newest
//     checkpoint again and again while nothing comes, so its median time says
//     until when nothing came. Silence is counted back from there, never from
//     this machine's clock.
//   - A sign of life is dated by the meter's clock, which its known block and the
//     block that took it bound (rule S2); the record is named.
//
// Known hole: a replica may serve an older certified ledger. Then the time as of
// which the answer is true is old, and whoever asks sees that.
package silence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// Sign says what a meter's newest sign of life is.
type Sign string

// The signs of life.
const (
	Measurement Sign = "measurement"
	Heartbeat   Sign = "heartbeat"
)

// Meter is a meter that is silent, or whose samples are missing.
type Meter struct {
	Meter    string `json:"meter"`
	Standing string `json:"standing"` // as of the answer's time
	Silent   bool   `json:"silent"`
	LastSign string `json:"last_sign,omitempty"` // RFC 3339, by the meter's clock; absent if none ever
	Kind     Sign   `json:"kind,omitempty"`
	Record   uint64 `json:"record"`         // of the last sign, in the log
	Block    uint64 `json:"block"`          // that took it
	Newest   uint64 `json:"newest_counter"` // on the ledger; 0 for none
	// Undelivered are counters that the meter signed above Newest, by its newest
	// heartbeat; Missing are those below, which later samples show.
	Undelivered uint64 `json:"undelivered"`
	Missing     uint64 `json:"missing"`
}

// Answer is the silence of all meters of a ledger.
type Answer struct {
	Network   string  `json:"network"`
	Height    uint64  `json:"certified_height"`
	BlockTime string  `json:"block_time"` // of that block
	AsOf      string  `json:"as_of"`      // until then no later block was certified
	Since     string  `json:"since"`      // a last sign before it is silence
	InService int     `json:"meters"`     // neither barred nor decommissioned
	Listed    []Meter `json:"listed"`     // by id

	AsOfUnixNano int64 `json:"-"`
}

// Options say what is asked. Trust is needed.
type Options struct {
	Trust    *trust.Bundle
	Longer   time.Duration // silence of at most this is usual
	Newest   []byte        // a certificate of the newest checkpoint, if one is at hand
	Progress func(audit.Progress)
}

// Of replays a ledger up to its newest certified block. The answer is nil when
// something does not hold or nothing is certified; the report says what. An error
// means that it could not go on.
func Of(ctx context.Context, source audit.Source, o Options) (*Answer, *audit.Report, error) {
	read := &certified{Source: source}
	report, err := audit.Run(ctx, read, audit.Options{Trust: o.Trust, LedgerOnly: true, Progress: o.Progress})
	if err != nil || report.Verdict != receipt.Verified || report.State == nil {
		return nil, report, err
	}
	head := report.State.Head()
	asOf, err := asOf(o, head, read.newest)
	if err != nil {
		return nil, report, err
	}
	a := &Answer{Network: report.Network.String(), Height: head.Height, BlockTime: text(head.BlockTimeUnixNano),
		AsOf: text(asOf), Since: text(asOf - int64(o.Longer)), AsOfUnixNano: asOf, Listed: []Meter{}}
	for _, key := range report.State.Keys(state.PrefixMeter) {
		m, served, err := judge(report.State, strings.TrimPrefix(key, state.PrefixMeter), asOf, o.Longer)
		if err != nil {
			return nil, report, err
		}
		if !served {
			continue
		}
		a.InService++
		if m.Silent || m.Undelivered > 0 || m.Missing > 0 {
			a.Listed = append(a.Listed, m)
		}
	}
	return a, report, nil
}

// asOf is the latest time of which a quorum says that the head was the newest block.
func asOf(o Options, head state.BlockRef, ofHead []byte) (int64, error) {
	latest := head.BlockTimeUnixNano
	for _, note := range [][]byte{ofHead, o.Newest} {
		if len(note) == 0 {
			continue
		}
		c, err := tlog.ParseCertificate(note)
		if err != nil {
			return 0, err
		}
		if c.Checkpoint.Size != head.Size { // the ledger grew meanwhile, or this one is older
			continue
		}
		if err := o.Trust.Check(signature.Direct{}, c); err != nil {
			return 0, fmt.Errorf("certificate of the newest checkpoint: %w", err)
		}
		if c.Checkpoint.Root != head.Root {
			return 0, fmt.Errorf("%w: certified are %d leaves with root %s, replayed with %s", ErrTwoLedgers, head.Size, c.Checkpoint.Root.Short(), head.Root.Short())
		}
		latest = max(latest, int64(min(c.MedianTime(), 1<<33))*int64(time.Second))
	}
	return latest, nil
}

// ErrTwoLedgers says: a quorum certified two ledgers.
var ErrTwoLedgers = errors.New("two certified ledgers")

// judge says how a meter stands; served is false for one that is barred or
// decommissioned, of which nothing is expected.
func judge(s *audit.State, id string, asOf int64, longer time.Duration) (m Meter, served bool, err error) {
	view := s.View()
	meter, err := state.GetMeter(view, id)
	if err != nil {
		return m, false, err
	}
	chain, err := state.GetMeterChain(view, id)
	if err != nil {
		return m, false, err
	}
	pulse, err := state.GetMeterPulse(view, id)
	if err != nil {
		return m, false, err
	}
	standing := state.MeterStandingAt(meter, asOf)
	m = Meter{Meter: id, Standing: string(standing), Newest: chain.GetNewestCounter()}
	last := int64(0)
	if m.Newest > 0 {
		last, m.Kind = chain.GetNewestCapturedAtUnixNano(), Measurement
		if m.Record, _, err = state.IndexOf(view, id, m.Newest); err != nil {
			return m, false, err
		}
	}
	if pulse.GetAtUnixNano() > last {
		last, m.Kind, m.Record = pulse.GetAtUnixNano(), Heartbeat, pulse.GetIndex()
	}
	if last > 0 {
		m.LastSign, m.Block = text(last), s.HeightOf(m.Record)
	}
	m.Silent = last < asOf-int64(longer)
	if signed := pulse.GetNewestCounter(); signed > m.Newest {
		first := max(m.Newest+1, firstCounter(meter))
		m.Undelivered = signed - first + 1
	}
	for _, gap := range chain.GetMissing() {
		m.Missing += gap.GetLast() - gap.GetFirst() + 1
	}
	return m, standing != state.MeterBarred && standing != state.MeterDecommissioned, nil
}

// firstCounter is where a meter's counters begin: nothing below was ever due.
func firstCounter(meter *statev1.Meter) uint64 {
	if len(meter.GetKeys()) == 0 {
		return 0
	}
	return meter.GetKeys()[0].GetFirstCounter()
}

func text(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }

// certified yields the blocks up to the newest that comes with a certificate, so
// that the state after the last of them is a certified one.
type certified struct {
	audit.Source
	newest []byte // of the newest yielded
}

// Blocks implements audit.Source.
func (c *certified) Blocks(ctx context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		var waiting []*audit.Block // few: the ledger does not run far ahead of its certificates
		for b, err := range c.Source.Blocks(ctx, from) {
			if err != nil {
				yield(nil, err)
				return
			}
			if waiting = append(waiting, b); len(b.Certificate) == 0 {
				continue
			}
			c.newest = b.Certificate
			for _, w := range waiting {
				if !yield(w, nil) {
					return
				}
			}
			waiting = nil
		}
	}
}

// Text is the answer for people.
func (a *Answer) Text() string {
	var b strings.Builder
	for _, m := range a.Listed {
		fmt.Fprintf(&b, "%s  ", m.Meter)
		if m.Silent {
			b.WriteString("silent, ")
		}
		if m.LastSign == "" {
			b.WriteString("last sign never")
		} else {
			fmt.Fprintf(&b, "last sign %s, a %s (record %d in block %d)", m.LastSign, m.Kind, m.Record, m.Block)
		}
		fmt.Fprintf(&b, ", counter %d", m.Newest)
		if m.Undelivered > 0 {
			fmt.Fprintf(&b, ", %d signed above it and not delivered", m.Undelivered)
		}
		if m.Missing > 0 {
			fmt.Fprintf(&b, ", %d missing below it", m.Missing)
		}
		if m.Standing != string(state.MeterInService) {
			fmt.Fprintf(&b, ", %s", m.Standing)
		}
		b.WriteByte('\n')
	}
	silent := 0
	for _, m := range a.Listed {
		if m.Silent {
			silent++
		}
	}
	fmt.Fprintf(&b, "%d of %d meters silent, %d listed; replayed up to block %d of %s, certified as of %s\n",
		silent, a.InService, len(a.Listed), a.Height, a.BlockTime, a.AsOf)
	return b.String()
}
