package receipt_test

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// sumTable is a version of a national table on the value of the tests' schema.
func sumTable(n *statetest.Network, id string) *recordv1.NationalTable {
	t := n.Table(id)
	t.Value = "sum"
	return t
}

// forgedTables breaks one rule of the step on the national table at a time; the
// meter is under the table "br".
func (v *verdicts) forgedTables() {
	other := digest.Plain([]byte("other"))
	under := func(f *forgery) {
		f.registration.NationalTable = "br"
		f.table = sumTable(v.Network.Network, "br")
		f.table.Header = &recordv1.StatementHeader{NetworkId: v.ID.Bytes(), Subject: record.SubjectTable("br"), Sequence: 1}
		f.table.ValidFromUnixNano = f.header.CapturedAtUnixNano
	}
	for _, c := range []struct {
		name   string
		want   receipt.Verdict
		stage  int
		change func(f *forgery)
	}{
		{"a national table valid from the capture", receipt.Verified, atStatements, func(*forgery) {}},
		{"a national table valid after the capture", receipt.Refuted, atStatements, func(f *forgery) { f.table.ValidFromUnixNano++ }},
		{"a national table on another subject", receipt.Refuted, atStatements, func(f *forgery) { f.table.Header.Subject = "table/de" }},
		{"a national table of another id", receipt.Refuted, atStatements, func(f *forgery) { f.table.TableId = "de" }},
		{"a national table of another network", receipt.Refuted, atStatements, func(f *forgery) { f.table.Header.NetworkId = other.Bytes() }},
		{"a national table without bands", receipt.Refuted, atStatements, func(f *forgery) { f.table.Bands = nil }},
		{"a national table without a step", receipt.Refuted, atStatements, func(f *forgery) { f.table.Step = 0 }},
		{"a national table by a stranger", receipt.Refuted, atStatements, func(f *forgery) { f.tableBody = statetest.Key("stranger") }},
		{"another table than the meter's", receipt.Refuted, atStatements, func(f *forgery) { f.registration.NationalTable = "de" }},
		{"a table, and the meter under none", receipt.Refuted, atStatements, func(f *forgery) { f.registration.NationalTable = "" }},
		{"a national table after its measurement", receipt.Refuted, atOrder, func(f *forgery) {
			f.order = []string{"config", "node0", "node1", "approval", "registration", "set", "measurement", "table"}
		}},
		{"a registration in the place of the table", receipt.Refuted, atBundle, func(f *forgery) { f.bundle.NationalTable = f.bundle.Registration }},
		{"no national table", receipt.Verified, atBundle, func(f *forgery) { f.bundle.NationalTable = nil }},
	} {
		v.bundle("forged: "+c.name, v.forgedAt(func(stage int, f *forgery) {
			if stage == atStatements {
				under(f)
			}
			if stage == c.stage {
				c.change(f)
			}
		}), c.want, map[bool]string{true: receipt.StepNationalTable}[c.want == receipt.Refuted], func(*recordv1.Bundle) {})
	}
}
