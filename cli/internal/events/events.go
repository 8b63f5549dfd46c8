// Package events lists the security events of a ledger: what the nodes reported
// of attacks, disagreements and readings of evidence.
//
// Source: architecture, "Records" (SecurityEvent) and "Threats".
//
// Invariants:
//   - The whole ledger is replayed by the transition, which judges each report as
//     the replicas did: its reporter was registered and in force, and signed it.
//   - Nothing is listed above the height that the trust bundle finds certified.
//   - Times are block times. What a report says beside its signed evidence is its
//     reporter's word, and so it is shown: with the reporter's name.
package events

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

const kindPrefix = "EVENT_KIND_"

// Kinds are the names of all kinds of events, in the order of their numbers.
func Kinds() []string {
	var names []string
	for number := recordv1.EventKind_EVENT_KIND_UNSPECIFIED + 1; ; number++ {
		name, ok := recordv1.EventKind_name[int32(number)]
		if !ok {
			return names
		}
		names = append(names, strings.TrimPrefix(name, kindPrefix))
	}
}

// Event is one report on the ledger.
type Event struct {
	Index        uint64 `json:"index"`
	Height       uint64 `json:"height"`
	BlockTime    string `json:"block_time"` // RFC 3339
	Kind         string `json:"kind"`       // one of Kinds
	Reporter     string `json:"reporter"`   // node id
	Organisation string `json:"organisation"`
	Subject      string `json:"subject"`
	Counter      uint64 `json:"counter,omitempty"` // the meter's
	Evidence     int    `json:"evidence"`          // signed pieces in the record
	Detail       string `json:"detail,omitempty"`
}

// List is the events of a ledger that were asked for, in its order.
type List struct {
	Network         string  `json:"network"`
	CertifiedHeight uint64  `json:"certified_height"`
	CertifiedTime   string  `json:"certified_time"` // of that block
	Events          []Event `json:"events"`
}

// Options choose events. Trust is needed; of the others the zero value is all.
type Options struct {
	Trust *trust.Bundle
	Kinds []string // of Kinds
	// Subject is what an event happened to, or the beginning of it up to a slash:
	// "meter/m-1", "algorithm".
	Subject string
	// FromUnixNano and UntilUnixNano bound the block times; the end is not included.
	FromUnixNano, UntilUnixNano int64
	// Resume goes on after an earlier replay. The blocks before are read again and
	// compared with what was replayed, and not replayed. It is not changed.
	Resume   *audit.State
	Progress func(audit.Progress)
}

// Of lists the events of a ledger: it replays all of it and compares it with its
// certificates. The list is nil when the audit finds that something does not hold,
// or that nothing is certified; the report then says what. An error means that it
// could not go on.
func Of(ctx context.Context, source audit.Source, o Options) (*List, *audit.Report, error) {
	c := &collector{Options: o}
	if o.Resume != nil {
		before := o.Resume.ViewFrom(ctx, source)
		if err := o.Resume.Again(ctx, source, func(b *audit.Block) { c.block(b, before) }); err != nil {
			return nil, nil, err
		}
	}
	report, err := audit.Run(ctx, source, audit.Options{Trust: o.Trust, LedgerOnly: true, Resume: o.Resume, Replayed: c.block, Progress: o.Progress})
	if err == nil {
		err = c.failed
	}
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	newest, _, err := c.view.Block(report.CertifiedHeight)
	if err != nil {
		return nil, report, err
	}
	l := &List{Network: report.Network.String(), CertifiedHeight: report.CertifiedHeight, CertifiedTime: text(newest.BlockTimeUnixNano), Events: []Event{}}
	for _, e := range c.events {
		if e.Height <= report.CertifiedHeight {
			l.Events = append(l.Events, e)
		}
	}
	return l, report, nil
}

type collector struct {
	Options
	view   state.View
	events []Event
	failed error
}

// block is called with each block that replayed.
func (c *collector) block(b *audit.Block, after state.View) {
	c.view = after
	if err := c.collect(b); err != nil && c.failed == nil {
		c.failed = fmt.Errorf("events: block %d: %w", b.Height, err)
	}
}

func (c *collector) collect(b *audit.Block) error {
	ref, _, err := c.view.Block(b.Height)
	if err != nil {
		return err
	}
	if at := ref.BlockTimeUnixNano; at < c.FromUnixNano || c.UntilUnixNano != 0 && at >= c.UntilUnixNano {
		return nil
	}
	for i, leaf := range b.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			return err
		}
		if r.GetSecurityEvent() == nil {
			continue
		}
		report := new(recordv1.EventReport)
		if err := record.Decode(r.GetSecurityEvent().GetReport(), record.MaxBytes, report); err != nil {
			return err
		}
		e := Event{
			Index: ref.FirstIndex + uint64(i), Height: b.Height, BlockTime: text(ref.BlockTimeUnixNano),
			Kind: strings.TrimPrefix(report.GetKind().String(), kindPrefix), Reporter: report.GetReporter(),
			Subject: report.GetSubject(), Counter: report.GetCounter(), Evidence: len(report.GetEvidence()), Detail: report.GetDetail(),
		}
		if !c.wanted(e) {
			continue
		}
		node, err := state.GetNode(c.view, e.Reporter)
		if err != nil {
			return err
		}
		e.Organisation = node.GetOrganisation()
		c.events = append(c.events, e)
	}
	return nil
}

func (c *collector) wanted(e Event) bool {
	if len(c.Kinds) > 0 && !slices.Contains(c.Kinds, e.Kind) {
		return false
	}
	return c.Subject == "" || e.Subject == c.Subject || strings.HasPrefix(e.Subject, strings.TrimSuffix(c.Subject, "/")+"/")
}

// String is the list for people.
func (l *List) String() string {
	var b strings.Builder
	for _, e := range l.Events {
		fmt.Fprintf(&b, "%s  record %d in block %d of %s\n  %s", e.Kind, e.Index, e.Height, e.BlockTime, e.Subject)
		if e.Counter > 0 {
			fmt.Fprintf(&b, ", counter %d", e.Counter)
		}
		fmt.Fprintf(&b, ", reported by %s of %s", e.Reporter, e.Organisation)
		if e.Evidence > 0 {
			fmt.Fprintf(&b, ", with %d signed pieces", e.Evidence)
		}
		b.WriteByte('\n')
		if e.Detail != "" {
			fmt.Fprintf(&b, "  %s\n", e.Detail)
		}
	}
	fmt.Fprintf(&b, "%d events up to block %d of %s, which is certified\n", len(l.Events), l.CertifiedHeight, l.CertifiedTime)
	return b.String()
}

func text(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }
