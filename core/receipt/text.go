package receipt

import (
	"fmt"
	"strings"
)

// String is the summary as lines for people, each ended by a newline. A value
// is always called measured; after a refusal it is called a diagnostic.
func (s Summary) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("meter", "%s, counter %d", s.Meter, s.Counter)
	line("captured", "%s by the meter's clock (%s)", s.CapturedAt, s.ClockSync)
	if s.StatusFlags != 0 {
		line("status", "the meter reports error flags %#x", s.StatusFlags)
	}
	if s.Site != nil {
		line("site", "%s, lane %d (%s, %s); model %s, type approval %s, seal %s",
			s.Site.Name, s.Site.Lane, s.Site.Latitude, s.Site.Longitude, s.Site.Model, s.Site.TypeApproval, s.Site.Seal)
	}
	line("result", "code %d, %s", s.Code, s.CodeName)
	kind := "measured"
	if s.Refused {
		kind = "diagnostic"
	}
	for i, v := range s.Measured {
		if v.Name == "" {
			line(kind, "value %d: %s (name and unit are in the approval)", i, v.Text)
		} else {
			line(kind, "%s: %s", v.Name, strings.TrimSuffix(v.Text+" "+v.Unit, " 1")) // the unit 1 is not written
		}
	}
	line("considered", "%v", &s.Considered)
	if t := s.Considered.Table; t != nil {
		line("table", "%s version %d, valid from %s; %s (%s)", t.ID, t.Version, t.ValidFrom, t.Source, t.Status)
	}
	if s.Considered.Spread != "" {
		line("spread", "%s %s among independent values", s.Considered.Spread, s.Considered.Unit)
	}
	line("disposition", "%s", s.Disposition)
	if t := s.Standing; t != nil {
		line("verification", "%s, from %s until %s", t.Certificate, t.VerifiedFrom, t.VerifiedUntil)
		line("parameters", "version %d, seal %s", t.Parameters, t.Seal)
		line("standing", "at the measurement: %s; at the checkpoint of %s: %s", t.AtMeasurement, t.Checkpoint, t.AtCheckpoint)
		for _, listed := range t.Statements {
			line("statement", "%d, record %d: %s", listed.Number, listed.Index, listed.Says)
		}
		line("standing", "%s", t.Limit)
	}
	for _, e := range s.Endorsers {
		line("endorser", "%s of %s", e.Node, e.Organisation)
	}
	line("ledger", "record %d of %d in %s", s.Ledger.Index, s.Ledger.TreeSize, s.Ledger.Origin)
	line("certified", "root %s, cosigned by %s, median time %s", s.Ledger.Root, strings.Join(s.Ledger.Cosigners, ", "), s.Ledger.Cosigned)
	for _, d := range []struct {
		name  string
		value fmt.Stringer
	}{
		{"sample", s.Digests.Sample}, {"raw vector", s.Digests.RawVector}, {"module", s.Digests.Module},
		{"registration", s.Digests.Registration}, {"approval", s.Digests.Approval},
		{"configuration", s.Digests.Config}, {"endorsements", s.Digests.EndorsementSet},
	} {
		line(d.name, "%v", d.value)
	}
	for _, e := range s.Digests.Evidence {
		line("evidence", "%v, %s, %d bytes encrypted", e.Digest, e.MediaType, e.Size)
	}
	for _, text := range s.Proves {
		line("proves", "%s", text)
	}
	for _, text := range s.ProvesNot {
		line("proves not", "%s", text)
	}
	return b.String()
}
