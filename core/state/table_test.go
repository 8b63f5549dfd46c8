package state_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

func TestS4_Tables(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Accept(n.Sign(n.Table("br"), statetest.Body()))
	n.NowUnix += 3600
	refuseStatement(t, n, n.Sign(n.Table("br"), statetest.Root("org-00")), reason.NotAuthorised)
	for name, c := range map[string]struct {
		change func(*recordv1.NationalTable)
		want   reason.Reason
	}{
		"as it is":               {func(*recordv1.NationalTable) {}, ""},
		"other errors":           {func(v *recordv1.NationalTable) { v.Bands = v.Bands[1:] }, ""},
		"another source":         {func(v *recordv1.NationalTable) { v.Source, v.SourceStatus = "the annex", 1 }, ""},
		"bad id":                 {func(v *recordv1.NationalTable) { v.TableId = "BR" }, reason.Malformed},
		"of another table":       {func(v *recordv1.NationalTable) { v.TableId = "de" }, reason.Malformed},
		"the version before":     {func(v *recordv1.NationalTable) { v.Version = 1 }, reason.InvalidStatement},
		"a version left out":     {func(v *recordv1.NationalTable) { v.Version = 3 }, reason.InvalidStatement},
		"the sequence before":    {func(v *recordv1.NationalTable) { v.Header.Sequence, v.Header.Predecessor = 1, nil }, reason.OutOfSequence},
		"no value":               {func(v *recordv1.NationalTable) { v.Value = "" }, reason.InvalidStatement},
		"no unit":                {func(v *recordv1.NationalTable) { v.Unit = "" }, reason.InvalidStatement},
		"no such scale":          {func(v *recordv1.NationalTable) { v.Scale = 19 }, reason.InvalidStatement},
		"a long value":           {func(v *recordv1.NationalTable) { v.Value = strings.Repeat("x", 129) }, reason.TooLarge},
		"a long unit":            {func(v *recordv1.NationalTable) { v.Unit = strings.Repeat("x", 129) }, reason.TooLarge},
		"a long source":          {func(v *recordv1.NationalTable) { v.Source = strings.Repeat("x", state.MaxReason+1) }, reason.TooLarge},
		"no source":              {func(v *recordv1.NationalTable) { v.Source = "" }, reason.InvalidStatement},
		"unsaid how well read":   {func(v *recordv1.NationalTable) { v.SourceStatus = 0 }, reason.InvalidStatement},
		"no beginning":           {func(v *recordv1.NationalTable) { v.ValidFromUnixNano = 0 }, reason.InvalidStatement},
		"no bands":               {func(v *recordv1.NationalTable) { v.Bands = nil }, reason.InvalidStatement},
		"about another value":    {func(v *recordv1.NationalTable) { v.Value = "length" }, reason.InvalidStatement},
		"in another unit":        {func(v *recordv1.NationalTable) { v.Unit = "m/s" }, reason.InvalidStatement},
		"in another scale":       {func(v *recordv1.NationalTable) { v.Scale = -2 }, reason.InvalidStatement},
		"a captured time":        {func(v *recordv1.NationalTable) { v.ValidFromUnixNano = n.NowUnix * second }, reason.Overlapping},
		"the last capture":       {func(v *recordv1.NationalTable) { v.ValidFromUnixNano = n.NowUnix*second + 10*second }, reason.Overlapping},
		"just after it":          {func(v *recordv1.NationalTable) { v.ValidFromUnixNano = n.NowUnix*second + 10*second + 1 }, ""},
		"never, but well formed": {func(v *recordv1.NationalTable) { v.ValidFromUnixNano = 1<<63 - 1 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := n.Table("br")
			c.change(v)
			refuseStatement(t, n, n.Sign(v, statetest.Body()), c.want)
		})
	}
	t.Run("not later than the version before", func(t *testing.T) {
		n := n.Clone(t)
		v := n.Table("br")
		v.ValidFromUnixNano += 1000 * second
		n.Accept(n.Sign(v, statetest.Body()))
		next := n.Table("br")
		next.ValidFromUnixNano = v.ValidFromUnixNano
		refuseStatement(t, n, n.Sign(next, statetest.Body()), reason.Overlapping)
		next.ValidFromUnixNano++
		refuseStatement(t, n, n.Sign(next, statetest.Body()), "")
	})
	t.Run("the first begins after every capture too", func(t *testing.T) {
		v := n.Table("de")
		v.ValidFromUnixNano = n.NowUnix * second
		refuseStatement(t, n, n.Sign(v, statetest.Body()), reason.Overlapping)
	})
}

// No version covers a capture that was taken before it was recorded: what a
// measurement is considered as never changes.
func TestS2_ATableChangesNoMeasurementOnTheLedger(t *testing.T) {
	n, m := ready(t)
	n.Accept(n.Sign(n.Table("br"), statetest.Body()))
	n.NowUnix += 60
	limit := n.Config.GetLimits().GetFutureBoundNano()
	latest := m.Capture(atNano(n.NowUnix*second + limit)) // as late as a capture can be
	n.AcceptCaptures(latest)
	table, err := state.GetTable(n.Store, "br")
	if err != nil {
		t.Fatal(err)
	}
	before := state.VersionAt(table.GetVersions(), latest.Sample.CapturedAtUnixNano)
	n.Accept(n.Sign(n.Table("br"), statetest.Body())) // as early as a version can be
	if table, err = state.GetTable(n.Store, "br"); err != nil || len(table.GetVersions()) != 2 {
		t.Fatalf("%d versions, %v", len(table.GetVersions()), err)
	}
	if after := state.VersionAt(table.GetVersions(), latest.Sample.CapturedAtUnixNano); before == nil || !proto.Equal(before, after) {
		t.Errorf("version in force at the capture was %v, and is %v", before, after)
	}
}

func TestTableHasAtMost64Versions(t *testing.T) {
	n := statetest.New(t, statetest.Options{Organisations: 1})
	for range state.MaxTableVersions {
		n.NowUnix++
		n.Accept(n.Sign(n.Table("br"), statetest.Body()))
	}
	n.NowUnix++
	refuseStatement(t, n, n.Sign(n.Table("br"), statetest.Body()), reason.InvalidStatement)
	table, err := state.GetTable(n.Store, "br")
	if err != nil || len(table.GetVersions()) != state.MaxTableVersions {
		t.Fatalf("%d versions, %v", len(table.GetVersions()), err)
	}
	for i, v := range table.GetVersions() {
		if i > 0 && v.GetFromUnixNano() <= table.GetVersions()[i-1].GetFromUnixNano() {
			t.Errorf("version %d is from %d, the one before from %d", i+1, v.GetFromUnixNano(), table.GetVersions()[i-1].GetFromUnixNano())
		}
	}
	if last := new(recordv1.NationalTable); proto.Unmarshal(table.GetVersions()[63].GetPayload(), last) != nil || last.GetVersion() != 64 {
		t.Errorf("the last is version %d", last.GetVersion())
	}
}

func TestS2_VersionInForceIsTheLastThatBegan(t *testing.T) {
	versions := []*statev1.Version{{FromUnixNano: 10}, {FromUnixNano: 20}}
	for at, want := range map[int64]*statev1.Version{9: nil, 10: versions[0], 19: versions[0], 20: versions[1], 1 << 62: versions[1]} {
		if got := state.VersionAt(versions, at); got != want {
			t.Errorf("at %d: %v, want %v", at, got, want)
		}
	}
}
