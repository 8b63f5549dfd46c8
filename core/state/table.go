package state

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/forensic"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// MaxTableVersions bounds the versions of a national table.
const MaxTableVersions = 64

// nationalTable is a version of a jurisdiction's rules for a measured value. A
// statement on a table is always the next version of it.
//
// A version counts for captures from its valid_from on, and gives no measurement
// that is on the ledger another considered value, nor one where there was none:
// what a receipt showed yesterday it shows for ever. So each version, the first
// too, begins after every capture that its own block still takes: block time
// plus the bound on clocks that run ahead (rule S2). A meter may name a table
// that is recorded later; until then its values have no considered one.
//
// Known hole: the bound is the configuration's in force. Where it was larger
// before, a meter whose clock ran ahead by more than today's bound may have a
// capture on the ledger that a version then covers; a maximum of all capture
// times in the state would close it.
type nationalTable struct{ *recordv1.NationalTable }

func (t nationalTable) check(st *statement) error {
	if err := record.CheckID(t.GetTableId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectTable(t.GetTableId())); err != nil {
		return err
	}
	invalid := func(format string, args ...any) error { return reason.New(reason.InvalidStatement, format, args...) }
	switch {
	case uint64(t.GetVersion()) != st.sequence:
		return invalid("version %d by statement %d on table %s; each statement is the next version", t.GetVersion(), st.sequence, t.GetTableId())
	case t.GetVersion() > MaxTableVersions:
		return invalid("version %d, a table has at most %d", t.GetVersion(), MaxTableVersions)
	case t.GetValue() == "" || t.GetUnit() == "":
		return invalid("table %s names the value %q in %q, want both", t.GetTableId(), t.GetValue(), t.GetUnit())
	case t.GetScale() < -approval.MaxScale || t.GetScale() > approval.MaxScale:
		return invalid("scale %d, want one within ±%d", t.GetScale(), approval.MaxScale)
	case t.GetSource() == "" || t.GetSourceStatus() == recordv1.SourceStatus_SOURCE_STATUS_UNSPECIFIED:
		return invalid("table %s says not whence it is, or not how well that was checked", t.GetTableId())
	}
	for _, text := range []string{t.GetValue(), t.GetUnit()} {
		if err := checkText("value or unit", text, approval.MaxText); err != nil {
			return err
		}
	}
	if err := checkText("source", t.GetSource(), MaxReason); err != nil {
		return err
	}
	if err := checkEffective(t.GetValidFromUnixNano()); err != nil {
		return err
	}
	return forensic.CheckTable(t.NationalTable)
}

func (t nationalTable) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{notifiedBodies(config)}, nil
}

func (t nationalTable) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	old, err := message[statev1.Table](b.reader, TableKey(t.GetTableId()))
	if err != nil {
		return err
	}
	from, now, bound := t.GetValidFromUnixNano(), b.blockTimeUnixNano, b.config.Message.GetLimits().GetFutureBoundNano()
	if from-now <= bound { // both are positive, so the difference does not overflow
		return overlapping("valid from %d ns, but captures up to block time %d and the bound %d may be on the ledger; want a later one", from, now, bound)
	}
	value := &statev1.Table{Last: ref}
	if old != nil {
		newest := old.GetVersions()[len(old.GetVersions())-1]
		before, err := tableOf(newest)
		switch {
		case err != nil:
			return err
		case t.GetValue() != before.GetValue() || t.GetUnit() != before.GetUnit() || t.GetScale() != before.GetScale():
			return reason.New(reason.InvalidStatement, "version %d is about %s in %s times 10^%d, table %s about %s in %s times 10^%d; that never changes",
				t.GetVersion(), t.GetValue(), t.GetUnit(), t.GetScale(), t.GetTableId(), before.GetValue(), before.GetUnit(), before.GetScale())
		case from <= newest.GetFromUnixNano():
			return overlapping("valid from %d ns, version %d is from %d; want a later one", from, before.GetVersion(), newest.GetFromUnixNano())
		}
		value.Versions = slices.Clone(old.GetVersions())
	}
	value.Versions = append(value.Versions, &statev1.Version{
		FromUnixNano: t.GetValidFromUnixNano(), Statement: st.digest.Bytes(), Payload: st.envelope.Payload, Index: ref.GetIndex(),
	})
	b.putMessage(TableKey(t.GetTableId()), value)
	return nil
}

func tableOf(v *statev1.Version) (*recordv1.NationalTable, error) {
	t := new(recordv1.NationalTable)
	if err := proto.Unmarshal(v.GetPayload(), t); err != nil {
		return nil, corrupt("national table: %w", err)
	}
	return t, nil
}

// GetTable is a national table; nil, without an error, when there is none.
func GetTable(view View, id string) (*statev1.Table, error) {
	return message[statev1.Table](newReader(view), TableKey(id))
}
