package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Replica is where one replica of the network stands, as it answers itself.
type Replica struct {
	ID              string   `json:"id"`
	Answers         bool     `json:"answers"`
	Leads           bool     `json:"leads"` // as most that answer say
	AppliedHeight   uint64   `json:"applied_height"`
	CertifiedHeight uint64   `json:"certified_height"`
	Uncertified     uint64   `json:"uncertified_blocks"` // applied, not certified
	Behind          uint64   `json:"behind_blocks"`      // of the highest certified
	Version         string   `json:"version,omitempty"`
	Cosigned        *float64 `json:"cosigned_seconds_ago,omitempty"` // the newest cosignature that any replica heard of it; absent for none
}

// missingAfter is how old the newest cosignature of a replica that runs may be: it signs each second.
const missingAfter = 15 * time.Second

// replicas tells where all are, and adds an item for each that does not cosign.
func (x *examination) replicas(contacts []*contact) []Replica {
	votes, heard, highest := make(map[string]int), make(map[string]uint64), uint64(0)
	byID := make(map[string]*Replica)
	at := func(id string) *Replica {
		if byID[id] == nil {
			byID[id] = &Replica{ID: id}
		}
		return byID[id]
	}
	for _, c := range contacts {
		s := c.status
		if s == nil {
			at(c.ID)
			continue
		}
		highest = max(highest, s.GetCertifiedHeight())
		votes[s.GetLeader()]++
		r := at(s.GetNodeId())
		r.Answers, r.AppliedHeight, r.CertifiedHeight, r.Version = true, s.GetAppliedHeight(), s.GetCertifiedHeight(), s.GetVersion()
		r.Uncertified = r.AppliedHeight - min(r.AppliedHeight, r.CertifiedHeight)
		if n := s.GetBadProposals(); n > 0 {
			x.add(s.GetNodeId(), "proposals", Fail, "read its log and that of the replica that led then: docs/runbooks/node-health.md, \"Bad proposals\"",
				"%d proposals applied as an empty block since it started: malformed, or with a certificate that is not of its ledger", n)
		}
		for _, k := range s.GetCosigners() {
			at(k.GetNodeId())
			heard[k.GetNodeId()] = max(heard[k.GetNodeId()], k.GetTimestampUnix())
		}
	}
	list := make([]Replica, 0, len(byID))
	for id, r := range byID {
		r.Leads = id != "" && votes[id] > 0 && 2*votes[id] > x.answered
		if r.Answers {
			r.Behind = highest - r.CertifiedHeight
		}
		ago := x.Now().Sub(time.Unix(int64(min(heard[id], 1<<40)), 0))
		if heard[id] > 0 {
			seconds := ago.Seconds()
			r.Cosigned = &seconds
		}
		if x.answered > 0 && (heard[id] == 0 || ago > missingAfter) {
			said := "no replica heard a cosignature of it"
			if heard[id] > 0 {
				said = fmt.Sprintf("its newest cosignature is %s old", ago.Round(time.Second))
			}
			x.add(id, "cosigner", Warn, "start it, or open the way to it; a replica that restarts may keep quiet: docs/runbooks/replica-restart.md", "%s", said)
		}
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Problems are the warnings and failures, the worst first.
func (r *Report) Problems() []Item {
	var list []Item
	for _, level := range []Level{Fail, Warn} {
		for _, i := range r.Items {
			if i.Level == level {
				list = append(list, i)
			}
		}
	}
	return list
}

// own are the checks of the operator's own nodes that the screen shows also when they are well.
var own = []string{"disk", "certificate", "ready"}

// Screen is the report on one screen: the replicas, the operator's own nodes, and what is wrong with the remedy.
func (r *Report) Screen(now time.Time) string {
	var b strings.Builder
	answer := 0
	for _, p := range r.Replicas {
		if p.Answers {
			answer++
		}
	}
	fmt.Fprintf(&b, "%s  %d of %d replicas answer\n\n", now.UTC().Format(time.RFC3339), answer, len(r.Replicas))
	fmt.Fprintf(&b, "%-22s %-7s %9s %9s %5s %6s %9s  %s\n", "replica", "", "applied", "certified", "open", "behind", "cosigned", "version")
	for _, p := range r.Replicas {
		role, cosigned := "", "never"
		switch {
		case !p.Answers:
			role = "SILENT"
		case p.Leads:
			role = "leader"
		}
		if p.Cosigned != nil {
			cosigned = fmt.Sprintf("%.0f s ago", max(0, *p.Cosigned))
		}
		if !p.Answers {
			fmt.Fprintf(&b, "%-22s %-7s %9s %9s %5s %6s %9s  %s\n", p.ID, role, "-", "-", "-", "-", cosigned, "-")
			continue
		}
		fmt.Fprintf(&b, "%-22s %-7s %9d %9d %5d %6d %9s  %s\n", p.ID, role, p.AppliedHeight, p.CertifiedHeight, p.Uncertified, p.Behind, cosigned, p.Version)
	}
	shown := false
	for _, i := range r.Items {
		if i.Level == OK && slices.Contains(own, i.Check) {
			if !shown {
				b.WriteString("\n")
				shown = true
			}
			fmt.Fprintf(&b, "%-22s %-11s %s\n", i.Node, i.Check, i.Found)
		}
	}
	problems := r.Problems()
	plural := "s"
	if len(problems) == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, "\n%d problem%s\n", len(problems), plural)
	for _, i := range problems {
		fmt.Fprintf(&b, "%-5s %-20s %-12s %s\n      Remedy: %s\n", i.Level, i.Node, i.Check, strings.ReplaceAll(i.Found, "\n", "; "), i.Remedy)
	}
	return b.String()
}
