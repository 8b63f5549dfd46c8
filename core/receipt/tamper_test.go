package receipt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// exhaustive reports whether the long form was asked for (make tamper): every
// bit instead of a sample whose seed is printed.
func exhaustive() bool { return os.Getenv("LACRE_TAMPER") == "all" }

// sampled chooses one in so many, all of them in the exhaustive form.
func sampled(t *testing.T, one int) func() bool {
	t.Helper()
	if exhaustive() {
		return func() bool { return true }
	}
	seed := rand.Uint64()
	t.Logf("seed %d: one in %d; LACRE_TAMPER=all takes all", seed, one)
	random := rand.New(rand.NewPCG(seed, 0))
	return func() bool { return random.IntN(one) == 0 }
}

// A receipt that is cut anywhere, or longer by anything at either end, is refused.
func TestB2_EveryTruncationAndExtensionOfAReceiptIsRefused(t *testing.T) {
	n, first, _ := ledger(t)
	text := n.Receipt(first[0])
	v := receipt.Verifier{Trust: n.Trust(), Signatures: signature.NewCache(1 << 12), Certificates: new(tlog.Certificates)}
	refuse := func(what string, changed []byte) {
		t.Helper()
		if _, report := v.Receipt(changed); report.Verdict != receipt.Refuted {
			t.Fatalf("%s:\n%s", what, report.String())
		}
	}
	chosen := sampled(t, 8)
	for i := range text {
		if !chosen() {
			continue
		}
		refuse(fmt.Sprintf("only the first %d bytes", i), text[:i])
		refuse(fmt.Sprintf("without the first %d bytes", i+1), text[i+1:])
		refuse(fmt.Sprintf("without byte %d", i), slices.Delete(bytes.Clone(text), i, i+1))
		refuse(fmt.Sprintf("byte %d twice", i), slices.Insert(bytes.Clone(text), i, text[i]))
	}
	for b := range 256 {
		refuse(fmt.Sprintf("with %#02x behind it", b), append(bytes.Clone(text), byte(b)))
		refuse(fmt.Sprintf("with %#02x before it", b), append([]byte{byte(b)}, text...))
	}
	refuse("twice", append(bytes.Clone(text), text...))
}

// signed splits a receipt into its text before the cosignatures, and these.
func signed(text []byte) (head string, cosignatures []string) {
	lines := strings.SplitAfter(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "— ") {
			return strings.Join(lines[:i+1], ""), lines[i+1 : len(lines)-1] // the first is the log's
		}
	}
	panic("no signature line")
}

// Whatever is done with a fourth valid cosignature, sorted in or not: more or
// fewer than q lines, lines twice or in another order are refused, and so is
// every flipped bit of what remains. Any q of the four in order are a receipt.
func TestB2_NoUseOfASurplusCosignatureSavesAReceipt(t *testing.T) {
	n, first, _ := ledger(t)
	index, c := first[0], n.Newest().Checkpoint
	log, err := tlog.SignLog(n.Replicas[0].Log, c)
	if err != nil {
		t.Fatal(err)
	}
	var all []tlog.Cosignature
	for _, r := range n.Replicas {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(c.Origin, r.ID), c, statetest.GenesisUnix)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	four, err := tlog.NewCertificate(c, log, all)
	if err != nil {
		t.Fatal(err)
	}
	text, err := receipt.Build(n.Store.Leaves[index], index, n.Path(index), four)
	if err != nil {
		t.Fatal(err)
	}
	head, lines := signed(text)
	v := receipt.Verifier{Trust: n.Trust(), Signatures: signature.NewCache(1 << 14), Certificates: new(tlog.Certificates)}
	verdict := func(lines []string) receipt.Verdict {
		_, report := v.Receipt([]byte(head + strings.Join(lines, "")))
		return report.Verdict
	}
	// All lists of up to five lines out of the four.
	verified, lists := 0, 0
	var grow func(list []string)
	grow = func(list []string) {
		lists++
		distinct := len(list) == 3 && slices.IsSorted(list) && list[0] != list[1] && list[1] != list[2]
		if got := verdict(list); (got == receipt.Verified) != distinct {
			t.Fatalf("%d cosignatures are %v:\n%s", len(list), got, strings.Join(list, ""))
		} else if distinct {
			verified++
		}
		if len(list) == 5 {
			return
		}
		for _, line := range lines {
			grow(append(slices.Clone(list), line))
		}
	}
	grow(nil)
	if verified != 4 {
		t.Errorf("%d of %d lists verify, want the 4 choices of three in order", verified, lists)
	}
	// Every bit of the receipt with the fourth offered, and with it swapped in
	// for each of the other three.
	flips, chosen := 0, sampled(t, 40)
	for drop := -1; drop < len(lines); drop++ {
		offered := slices.Clone(lines)
		if drop >= 0 {
			offered = slices.Delete(offered, drop, drop+1)
		}
		whole := []byte(head + strings.Join(offered, ""))
		for bit := range 8 * len(whole) {
			if !chosen() {
				continue
			}
			whole[bit/8] ^= 1 << (bit % 8)
			if _, report := v.Receipt(whole); report.Verdict == receipt.Verified {
				t.Fatalf("without line %d, bit %d flipped: verified", drop, bit)
			}
			whole[bit/8] ^= 1 << (bit % 8)
			flips++
		}
	}
	t.Logf("%d lists of cosignatures, %d bits flipped", lists, flips)
}

// Every bit of a bundle is flipped: of its records, proofs, raw vector and
// module.
func TestB2_EveryFlippedBitOfABundleIsRefused(t *testing.T) {
	n, first, _ := ledger(t)
	b := n.Bundle(first[2])
	b.Module = algorithm().Module
	encoded, err := receipt.BuildBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	v := receipt.Verifier{Trust: n.Trust(), Runner: runner{}, Signatures: signature.NewCache(1 << 16)}
	if _, report := v.Bundle(encoded); report.Conclusion != receipt.ConclusionReExecuted {
		t.Fatal(report.String())
	}
	flips, chosen := 0, sampled(t, 8)
	for i := range encoded {
		for bit := range 8 {
			if !chosen() {
				continue
			}
			flips++
			encoded[i] ^= 1 << bit
			if _, report := v.Bundle(encoded); report.Verdict == receipt.Verified {
				t.Fatalf("bit %d of byte %d of %d flipped:\n%s", bit, i, len(encoded), report.String())
			}
			encoded[i] ^= 1 << bit
		}
	}
	t.Logf("%d bits of %d bytes flipped", flips, len(encoded))
}

// other is an item that is valid in itself, stands on the same ledger (or came
// with it), and belongs to something else.
type other struct {
	name     string
	exchange func(b *recordv1.Bundle)
	step     string   // refutes
	names    []string // both sides, in the step's detail
}

// others are the exchanges by field of the bundle; for a repeated field, of
// each element.
func others(t *testing.T, n *receipttest.Network, full *recordv1.Bundle, elsewhere otherItems) map[protoreflect.Name][]other {
	t.Helper()
	short := func(d digest.Digest) string { return d.String() }
	statement := func(p *recordv1.ProvenRecord) string {
		r, err := record.Parse(p.GetRecord())
		if err != nil {
			t.Fatal(err)
		}
		return short(record.ToEnvelope(r.GetStatement()).Digest())
	}
	size := n.Newest().Checkpoint.Size
	list := map[protoreflect.Name][]other{
		"version": {{"another version", func(b *recordv1.Bundle) { b.Version = 2 }, receipt.StepCanonicalForm, []string{"version 2", "want 1"}}},
		"receipt": {
			{"of another meter", func(b *recordv1.Bundle) { b.Receipt = elsewhere.meter.Receipt }, receipt.StepRegistration, []string{`"meter/m-1"`, `"meter/m-2"`}},
			{"of the same meter", func(b *recordv1.Bundle) { b.Receipt = elsewhere.sample.Receipt }, receipt.StepRawVector, []string{sample.DigestRaw(full.RawVector).String(), sample.DigestRaw(elsewhere.sample.RawVector).String()}},
			{"of the same measurement in an earlier tree", func(b *recordv1.Bundle) { b.Receipt = elsewhere.earlier }, receipt.StepConfiguration, []string{"of 41", "leads to root", "checkpoint has"}},
		},
		"endorsement_set": {{"of the same batch of another meter", func(b *recordv1.Bundle) { b.EndorsementSet = elsewhere.meter.EndorsementSet }, receipt.StepEndorsements,
			[]string{record.Digest(full.EndorsementSet.Record).String(), record.Digest(elsewhere.meter.EndorsementSet.Record).String()}}},
		"registration": {{"of another meter", func(b *recordv1.Bundle) { b.Registration = elsewhere.meter.Registration }, receipt.StepRegistration,
			[]string{`"meter/m-1"`, `"meter/m-2"`}}},
		"approval": {
			{"renewed", func(b *recordv1.Bundle) { b.Approval = elsewhere.meter.Approval }, receipt.StepApproval, []string{statement(full.Approval), statement(elsewhere.meter.Approval)}},
			{"of another module", func(b *recordv1.Bundle) { b.Approval = elsewhere.approval }, receipt.StepApproval, []string{statement(full.Approval), statement(elsewhere.approval)}},
		},
		"config": {{"the next", func(b *recordv1.Bundle) { b.Config = elsewhere.meter.Config }, receipt.StepConfiguration, []string{statement(full.Config), statement(elsewhere.meter.Config)}}},
		"rollovers": {{"of another meter", func(b *recordv1.Bundle) { b.Rollovers[0] = elsewhere.meter.Rollovers[0] }, receipt.StepMeterSignature,
			[]string{`"meter/m-1"`, `"meter/m-2"`}}},
		"national_table": {
			{"of another id", func(b *recordv1.Bundle) { b.NationalTable = elsewhere.table }, receipt.StepNationalTable, []string{`"table/br"`, `"table/de"`}},
			{"the next version", func(b *recordv1.Bundle) { b.NationalTable = elsewhere.next }, receipt.StepNationalTable,
				[]string{"record " + fmt.Sprint(elsewhere.next.GetIndex()), "the measurement " + fmt.Sprint(elsewhere.at)}},
		},
		"parameters": {{"of another meter", func(b *recordv1.Bundle) { b.Parameters = elsewhere.meter.Parameters }, receipt.StepRegistration,
			[]string{statement(full.Parameters), statement(elsewhere.meter.Parameters)}}},
		"history": {
			{"of another meter", func(b *recordv1.Bundle) { b.History[0] = elsewhere.meter.History[0] }, receipt.StepHistory, []string{`"meter/m-1"`, `"meter/m-2"`}},
			{"a rollover", func(b *recordv1.Bundle) { b.History = append(b.History, b.Rollovers[0]) }, receipt.StepHistory, []string{"rollover", fmt.Sprint(full.Rollovers[0].GetIndex())}},
			{"twice", func(b *recordv1.Bundle) { b.History = append(b.History, b.History[0]) }, receipt.StepHistory, []string{fmt.Sprintf("record %d follows record %[1]d", full.History[0].GetIndex())}},
			{"the parameters again", func(b *recordv1.Bundle) { b.History = append(b.History, b.Parameters) }, receipt.StepHistory, []string{"statement 4", "the next is 5"}},
		},
		"raw_vector": {{"of another sample of the meter", func(b *recordv1.Bundle) { b.RawVector = elsewhere.sample.RawVector }, receipt.StepRawVector,
			[]string{sample.DigestRaw(full.RawVector).String(), sample.DigestRaw(elsewhere.sample.RawVector).String()}}},
		"module": {{"approved as well", func(b *recordv1.Bundle) { b.Module = elsewhere.module }, receipt.StepModule,
			[]string{digest.Plain(full.Module).String(), digest.Plain(elsewhere.module).String()}}},
	}
	for i, id := range []string{"endorser-00", "endorser-01"} {
		for name, c := range map[string]struct {
			by    *recordv1.ProvenRecord
			sides []string
		}{
			"another endorser":                {elsewhere.endorser, []string{`"node/` + id + `"`, `"node/endorser-03"`}},
			"a replica":                       {elsewhere.replica, []string{`"node/` + id + `"`, `"node/replica-00"`}},
			"the same, registered afterwards": {elsewhere.again[i], []string{"record " + fmt.Sprint(elsewhere.again[i].GetIndex()), "record " + fmt.Sprint(full.EndorsementSet.GetIndex())}},
		} {
			list["nodes"] = append(list["nodes"], other{fmt.Sprintf("%d by %s", i, name), func(b *recordv1.Bundle) { b.Nodes[i] = c.by }, receipt.StepEndorsements, c.sides})
		}
	}
	// What each proven record is made of, exchanged for another's.
	step := map[protoreflect.Name]string{
		"endorsement_set": receipt.StepEndorsements, "registration": receipt.StepRegistration, "approval": receipt.StepApproval,
		"national_table": receipt.StepNationalTable, "config": receipt.StepConfiguration, "nodes": receipt.StepEndorsements, "rollovers": receipt.StepMeterSignature,
		"parameters": receipt.StepRegistration, "history": receipt.StepHistory,
	}
	for _, f := range fieldsOf(full) {
		if f.Message() == nil {
			continue
		}
		by := elsewhere.meter.EndorsementSet
		if f.Name() == "endorsement_set" {
			by = elsewhere.meter.Registration
		}
		for at, p := range proven(full, f) {
			for _, part := range []struct {
				name     string
				exchange func(p *recordv1.ProvenRecord)
			}{
				{"record", func(p *recordv1.ProvenRecord) { p.Record = by.Record }},
				{"index", func(p *recordv1.ProvenRecord) { p.Index = by.Index }},
				{"proof", func(p *recordv1.ProvenRecord) { p.Proof = by.Proof }},
			} {
				if proto.Equal(p, by) {
					t.Fatal("the same item")
				}
				list[f.Name()] = append(list[f.Name()], other{fmt.Sprintf("%d: its %s alone", at, part.name),
					func(b *recordv1.Bundle) { part.exchange(proven(b, f)[at]) }, step[f.Name()], []string{"proof of record", fmt.Sprintf(" of %d", size), ", "}})
			}
		}
	}
	return list
}

func fieldsOf(m proto.Message) []protoreflect.FieldDescriptor {
	fields := m.ProtoReflect().Descriptor().Fields()
	var list []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		list = append(list, fields.Get(i))
	}
	return list
}

// proven are the items in a field.
func proven(b *recordv1.Bundle, f protoreflect.FieldDescriptor) (list []*recordv1.ProvenRecord) {
	value := b.ProtoReflect().Get(f)
	if !f.IsList() {
		return []*recordv1.ProvenRecord{value.Message().Interface().(*recordv1.ProvenRecord)}
	}
	for i := range value.List().Len() {
		list = append(list, value.List().Get(i).Message().Interface().(*recordv1.ProvenRecord))
	}
	return list
}

// otherItems is what else the ledger has.
type otherItems struct {
	meter    *recordv1.Bundle // of another meter, after approval and configuration changed
	sample   *recordv1.Bundle // of the same meter
	earlier  []byte           // receipt of the same measurement
	approval *recordv1.ProvenRecord
	module   []byte
	endorser *recordv1.ProvenRecord
	replica  *recordv1.ProvenRecord
	again    []*recordv1.ProvenRecord // the endorsers' next registrations

	table, next *recordv1.ProvenRecord // another national table; the next version of the meter's
	at          uint64                 // the measurement
}

// Every field of a bundle, and every element of its lists, is exchanged for
// another that is valid in itself; the reason names both sides. A field that
// this table does not know fails the test.
func TestB2_EveryFieldOfABundleIsBound(t *testing.T) {
	n, first, _ := ledger(t)
	at := first[2] // after the rollover
	earlier := n.Receipt(at)
	elsewhere := otherItems{earlier: earlier, module: []byte("another approved module")}

	own, ownDigest, ownApproval := n.Module, n.Algorithm, n.Approval
	n.Module, n.Algorithm = elsewhere.module, digest.Plain(elsewhere.module)
	approved := n.Accept(n.SignApproval(n.Terms(), statetest.Body(), statetest.Maker()))
	n.Module, n.Algorithm, n.Approval = own, ownDigest, ownApproval
	n.Approve() // renewed

	var again []uint64
	for _, node := range n.Endorsers[:2] {
		m := n.Registration(node, 1, digest.Zero)
		m.Header = n.Header(record.SubjectNode(node.ID))
		spki := digest.Plain([]byte("another TLS key of " + node.ID))
		m.TlsSpki = spki.Bytes()
		again = append(again, n.Accept(n.Sign(m, statetest.Root(node.Organisation), node.Key)))
	}
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	next := config.Message
	next.Header = n.Header(record.SubjectNetwork)
	next.Limits.MaxMissingRanges++
	n.Accept(n.Sign(next, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")))
	n.Config = next
	tables := []uint64{n.Accept(n.Sign(n.Table("de"), statetest.Body())), n.Accept(n.Sign(sumTable(n.Network, "br"), statetest.Body()))}
	there := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(650, 5)})

	full := n.Bundle(at)
	full.Module = algorithm().Module
	full.Approval = n.Prove(approvalBefore(t, n, at))
	full.Config = n.Prove(0)
	for i, node := range n.Endorsers[:2] {
		full.Nodes[i] = n.Prove(nodeRecord(t, n, node.ID)) // the first
	}
	if _, report := verify(t, n, full, runner{}); report.Conclusion != receipt.ConclusionReExecuted {
		t.Fatal(report.String())
	}
	elsewhere.meter, elsewhere.sample = n.Bundle(there[0]), n.Bundle(first[1])
	elsewhere.approval, elsewhere.endorser = n.Prove(approved), n.Prove(nodeRecord(t, n, "endorser-03"))
	elsewhere.table, elsewhere.next, elsewhere.at = n.Prove(tables[0]), n.Prove(tables[1]), at
	elsewhere.replica = n.Prove(nodeRecord(t, n, "replica-00"))
	for _, index := range again {
		elsewhere.again = append(elsewhere.again, n.Prove(index))
	}

	table, exchanges := others(t, n, full, elsewhere), 0
	for _, f := range fieldsOf(full) {
		if len(table[f.Name()]) == 0 {
			t.Errorf("field %s of a bundle can be exchanged and no test does", f.Name())
		}
		for _, c := range table[f.Name()] {
			b := proto.Clone(full).(*recordv1.Bundle)
			c.exchange(b)
			before, after := full.ProtoReflect().Get(f), b.ProtoReflect().Get(f)
			if before.Equal(after) {
				t.Fatalf("%s %s: nothing was exchanged", f.Name(), c.name)
			}
			encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			exchanges++
			_, report := receipt.VerifyBundle(encoded, n.Trust(), runner{})
			s := report.Step(c.step)
			if report.Verdict != receipt.Refuted || s.Verdict != receipt.Refuted {
				t.Errorf("%s %s: not refused by %s:\n%s", f.Name(), c.name, c.step, report.String())
			}
			for _, side := range c.names {
				if !strings.Contains(s.Detail, side) {
					t.Errorf("%s %s: %q does not name %s", f.Name(), c.name, s.Detail, side)
				}
			}
		}
	}
	t.Logf("%d exchanges over %d fields", exchanges, len(fieldsOf(full)))
}
