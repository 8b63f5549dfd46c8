package receipt_test

import (
	"bytes"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
)

// A receipt that parses is its own canonical form, and only the one that was
// given out verifies.
func FuzzReceipt(f *testing.F) {
	n, first, second := ledger(f)
	good, another, trusted := n.Receipt(first[0]), n.Receipt(second[0]), n.Trust()
	f.Add(good)
	f.Add(another)
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, report := receipt.Verify(text, trusted)
		if len(report.Steps) != 5 {
			t.Fatalf("%d steps", len(report.Steps))
		}
		if r != nil {
			if !bytes.Equal(r.Proof.Text(), text) {
				t.Fatal("not its own canonical form")
			}
			_ = receipt.Describe(r, nil).String()
		}
		if report.Verdict == receipt.Verified && !bytes.Equal(text, good) && !bytes.Equal(text, another) {
			t.Fatalf("another receipt verifies:\n%s", text)
		}
	})
}

func FuzzBundle(f *testing.F) {
	n, first, _ := ledger(f)
	b := n.Bundle(first[2])
	b.Module = algorithm().Module
	good, err := receipt.BuildBundle(b)
	if err != nil {
		f.Fatal(err)
	}
	trusted := n.Trust()
	f.Add(good)
	f.Add([]byte{8, 1, 18, 1, 'x'})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		if parsed, err := receipt.ParseBundle(encoded); err == nil {
			if again, err := receipt.BuildBundle(parsed); err != nil || !bytes.Equal(again, encoded) {
				t.Fatalf("not its own canonical form: %v", err)
			}
		}
		contents, report := receipt.VerifyBundle(encoded, trusted, runner{})
		if len(report.Steps) != 14 {
			t.Fatalf("%d steps", len(report.Steps))
		}
		if contents != nil {
			_ = receipt.Describe(contents.Receipt, contents).String()
		}
	})
}

func FuzzMeasurement(f *testing.F) {
	n, first, _ := ledger(f)
	f.Add(n.Store.Leaves[first[0]])
	f.Add(n.Store.Leaves[0])
	f.Fuzz(func(t *testing.T, leaf []byte) {
		m, err := receipt.ParseMeasurement(leaf)
		if err != nil {
			return
		}
		if m.Claim.Sample != m.Sample.Digest {
			t.Fatal("header and claim of different samples")
		}
		if r, err := record.Parse(leaf); err != nil || r.GetMeasurement() == nil {
			t.Fatalf("a measurement is read from what is none: %v", err)
		}
	})
}
