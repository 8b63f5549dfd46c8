package audit_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// rewrite decodes a leaf, changes it and encodes it in canonical form again.
func rewrite(t *testing.T, b *audit.Block, leaf int, change func(r *recordv1.Record)) {
	t.Helper()
	r, err := record.Parse(b.Leaves[leaf])
	if err != nil {
		t.Fatal(err)
	}
	before := proto.Clone(r)
	change(r)
	if proto.Equal(before, r) {
		t.Fatal("nothing was changed")
	}
	if b.Leaves[leaf], err = record.Encode(r); err != nil {
		t.Fatal(err)
	}
}

// The newest block has a set, a measurement and the header.
func TestTamperedBlocksAreNamed(t *testing.T) {
	n := honest(t)
	height := n.Store.Head().Height
	first := n.Store.Head().FirstIndex
	header := func(change func(h *recordv1.BlockHeader)) func(*testing.T, *source) {
		return func(t *testing.T, s *source) {
			rewrite(t, s.block(0), 2, func(r *recordv1.Record) { change(r.GetBlockHeader()) })
		}
	}
	measurement := func(change func(m *recordv1.Measurement)) func(*testing.T, *source) {
		return func(t *testing.T, s *source) {
			rewrite(t, s.block(0), 1, func(r *recordv1.Record) { change(r.GetMeasurement()) })
		}
	}
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, s *source)
		index  uint64 // 0: of the set or of its measurement
		detail string
	}{
		{"a byte of a measurement", func(_ *testing.T, s *source) { s.block(0).Leaves[1][40] ^= 1 }, 0, ""},
		{"the meter's signature", measurement(func(m *recordv1.Measurement) { m.Signature[0] ^= 1 }), 0, ""},
		{"the result", measurement(func(m *recordv1.Measurement) { m.Claim[len(m.Claim)-1] ^= 1 }), 0, ""},
		{"the disposition", measurement(func(m *recordv1.Measurement) { m.Disposition = recordv1.Disposition_DISPOSITION_LATE }), 0, ""},
		{"an endorsement", func(t *testing.T, s *source) {
			rewrite(t, s.block(0), 0, func(r *recordv1.Record) { r.GetEndorsementSet().Endorsements[0].Signature[5] ^= 1 })
		}, first, ""},
		{"an endorser dropped", func(t *testing.T, s *source) {
			rewrite(t, s.block(0), 0, func(r *recordv1.Record) {
				set := r.GetEndorsementSet()
				set.Endorsements = set.Endorsements[:1]
			})
		}, first, "POLICY_NOT_MET"},
		{"a measurement removed", func(_ *testing.T, s *source) {
			b := s.block(0)
			b.Leaves, b.Raw = slices.Delete(b.Leaves, 1, 2), slices.Delete(b.Raw, 1, 2)
		}, first, ""},
		{"leaves exchanged", func(_ *testing.T, s *source) {
			b := s.block(0)
			b.Leaves[0], b.Leaves[1] = b.Leaves[1], b.Leaves[0]
			b.Raw[0], b.Raw[1] = b.Raw[1], b.Raw[0]
		}, first, ""},
		{"a measurement of an earlier block", func(_ *testing.T, s *source) {
			b := s.block(0)
			b.Leaves[0], b.Leaves[1], b.Raw[1] = s.block(-2).Leaves[0], s.block(-2).Leaves[1], s.block(-2).Raw[1]
		}, first, "DUPLICATE"},
		{"block time", header(func(h *recordv1.BlockHeader) { h.BlockTimeUnixNano++ }), first + 2, "block_time_unix_nano"},
		{"the chain", header(func(h *recordv1.BlockHeader) { h.Previous[0] ^= 1 }), first + 2, "previous"},
		{"the state's writes", header(func(h *recordv1.BlockHeader) { h.Writes[0] ^= 1 }), first + 2, "writes"},
		{"administrative records", header(func(h *recordv1.BlockHeader) { h.Admin[0] ^= 1 }), first + 2, "admin"},
		{"the number of records", header(func(h *recordv1.BlockHeader) { h.RecordCount++ }), first + 2, "record_count"},
		{"the certificate in the header", header(func(h *recordv1.BlockHeader) {
			h.Certificate = bytes.Replace(h.Certificate, []byte("replica-00"), []byte("replica-03"), 1)
		}), first, "certificate"},
		{"the header removed", func(_ *testing.T, s *source) { s.block(0).Leaves = s.block(0).Leaves[:2] }, first, "not its header"},
		{"no leaves", func(_ *testing.T, s *source) { s.block(0).Leaves = nil }, first, "no leaf"},
	} {
		s := copyOf(n)
		c.tamper(t, s)
		r := run(t, s, options(n))
		f := only(t, c.name, r, audit.InvalidBlock)
		// Of a set with one measurement, either may be named: without the one the
		// other does not stand.
		either := c.index == 0 && (f.Index == first || f.Index == first+1)
		if f.Height != height || f.Index != c.index && !either || !strings.Contains(f.Detail, c.detail) || r.Height != height-1 || r.Verdict != receipt.Refuted {
			t.Errorf("%s: want record %d and %q:\n%s", c.name, c.index, c.detail, r)
		}
		// The replicas certified another block: they are not to blame.
		if f.Cosigners != nil || !strings.Contains(f.Detail, "certified another block than this copy") {
			t.Errorf("%s: %s", c.name, f)
		}
	}
}

// Among measurements that stand, the one that does not is named.
func TestTamperedMeasurementIsNamed(t *testing.T) {
	n := honest(t)
	at := n.Measure([]int{0, 1}, pulse("m-1", 400), pulse("m-2", 300))
	s := copyOf(n)
	rewrite(t, s.block(0), 2, func(r *recordv1.Record) { r.GetMeasurement().Signature[0] ^= 1 })
	f := only(t, "the second of two", run(t, s, options(n)), audit.InvalidBlock)
	if f.Index != at[1] || f.Meter != "m-2" || f.Counter != 2 || !strings.Contains(f.Detail, "BAD_SIGNATURE") {
		t.Errorf("%s", f)
	}
	s = copyOf(honest(t))
	rewrite(t, s.block(0), 1, func(r *recordv1.Record) { r.GetMeasurement().Signature[0] ^= 1 })
	if f := only(t, "the only one", run(t, s, options(n)), audit.InvalidBlock); f.Meter != "m-1" || f.Counter != 3 {
		t.Errorf("%s", f)
	}
}

// A quorum certifies a block that no honest replica would: the audit names it.
func TestReplicasThatCertifyAnInvalidBlockAreNamed(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	rewrite(t, s.block(0), 1, func(r *recordv1.Record) { r.GetMeasurement().Signature[0] ^= 1 })
	tree := tlog.NewRange()
	for _, b := range s.blocks {
		for _, leaf := range b.Leaves {
			tree.Append(tlog.LeafHash(leaf))
		}
	}
	s.block(0).Certificate = certify(t, n, tree, 3)
	f := only(t, "certified", run(t, s, options(n)), audit.InvalidBlock)
	if len(f.Cosigners) != 3 || !strings.HasSuffix(f.Cosigners[0], "/replica-00") || !strings.Contains(f.Detail, "certified it as it stands") {
		t.Errorf("%s", f)
	}
}

// certify signs a tree by the first replicas.
func certify(t *testing.T, n *receipttest.Network, tree *tlog.Range, replicas int) []byte {
	t.Helper()
	origin := n.Trust().Origin()
	c := tlog.Checkpoint{Origin: origin, Size: tree.Size(), Root: tree.Root()}
	log, err := tlog.SignLog(n.Replicas[0].Log, c)
	if err != nil {
		t.Fatal(err)
	}
	var cosignatures []tlog.Cosignature
	for _, r := range n.Replicas[:replicas] {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(origin, r.ID), c, uint64(n.NowUnix))
		if err != nil {
			t.Fatal(err)
		}
		cosignatures = append(cosignatures, s)
	}
	certificate, err := tlog.NewCertificate(c, log, cosignatures)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Text()
}

// Two histories of one network, both valid: the certificate of one does not
// cover the other, and its cosigners are named.
func TestForkIsNamed(t *testing.T) {
	n, other := honest(t), network(t)
	other.Measure([]int{0, 1}, pulse("m-1", 901), pulse("m-2", 800))
	s, fork := copyOf(n), copyOf(other)
	height := other.Store.Head().Height
	s.blocks[height].Certificate = fork.blocks[height].Certificate
	r := run(t, s, options(n))
	f := only(t, "fork", r, audit.WrongRoot)
	if f.Height != height || len(f.Cosigners) != 3 || f.Claimed != other.Store.Head().Root.String() || f.Found != n.Store.Blocks[height].Root.String() {
		t.Errorf("%s", r)
	}
}

func TestCertificatesAreJudgedByTheTrustBundle(t *testing.T) {
	n := honest(t)
	head := n.Store.Head()

	s := copyOf(n)
	s.block(0).Certificate = []byte("garbage")
	if r := run(t, s, options(n)); !has(r, audit.BadCertificate) || !has(r, audit.Uncertified) || r.Verdict != receipt.Refuted {
		t.Errorf("garbage:\n%s", r)
	}
	s = copyOf(n)
	s.block(0).Certificate = s.block(-1).Certificate
	if r := run(t, s, options(n)); !has(r, audit.BadCertificate) {
		t.Errorf("an older one:\n%s", r)
	}
	tree := tlog.NewRange()
	tree.Append(n.Store.Hashes...)
	s = copyOf(n)
	s.block(0).Certificate = certify(t, n, tree, 2)
	if r := run(t, s, options(n)); !has(r, audit.BadCertificate) {
		t.Errorf("two cosignatures:\n%s", r)
	}

	// Without certificates beside the blocks, those in the headers cover all but
	// the newest block.
	s = copyOf(n)
	for _, b := range s.blocks {
		b.Certificate = nil
	}
	r := run(t, s, options(n))
	f := only(t, "no certificates", r, audit.Uncertified)
	if f.Verdict != receipt.Undecidable || r.Verdict != receipt.Undecidable || f.Height != head.Height || r.CertifiedHeight != head.Height-1 {
		t.Errorf("no certificates:\n%s", r)
	}
	// One at the end covers all.
	s.block(0).Certificate = n.Certificate(head.Height)
	if r := run(t, s, options(n)); r.Verdict != receipt.Verified {
		t.Errorf("one certificate:\n%s", r)
	}

	o := options(n)
	o.Trust = nil
	if r := run(t, copyOf(n), o); r.Verdict != receipt.Undecidable || r.Certified || only(t, "no trust", r, audit.Uncertified).Height != 0 {
		t.Errorf("no trust:\n%s", r)
	}
}

func TestOtherNetworkIsNamed(t *testing.T) {
	n := honest(t)
	o := options(n)
	o.Trust = elsewhere(t)
	f := only(t, "network", run(t, copyOf(n), o), audit.WrongNetwork)
	if f.Claimed == f.Found {
		t.Error(f)
	}
}

func TestGapsInTheSourceAreNamed(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	s.blocks = slices.Delete(s.blocks, 3, 4)
	r := run(t, s, options(n))
	if f := only(t, "gap", r, audit.MissingBlock); f.Height != 3 || r.Height != 2 {
		t.Errorf("%s", r)
	}
	s = copyOf(n)
	s.blocks = s.blocks[1:]
	if f := only(t, "no genesis", run(t, s, options(n)), audit.MissingBlock); f.Height != 0 {
		t.Error(f)
	}
}

func TestTamperedGenesisIsNamed(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	rewrite(t, s.blocks[0], 0, func(r *recordv1.Record) { r.GetStatement().Signatures[0].Signature[0] ^= 1 })
	if f := only(t, "genesis", run(t, s, options(n)), audit.InvalidBlock); f.Height != 0 || f.Index != 0 {
		t.Error(f)
	}
	var none digest.Digest
	if r := run(t, s, options(n)); r.Network != none {
		t.Errorf("network %s of a genesis that does not hold", r.Network)
	}
}
