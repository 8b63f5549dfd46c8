package meter

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
)

// verifier believes what the trust bundle certifies, and nothing else that a
// gateway says. It is safe for concurrent use.
type verifier struct {
	trust        atomic.Pointer[trust.Bundle]
	cache        *signature.Cache  // a certificate's signatures, however it is met
	certificates tlog.Certificates // the receipts of one block share theirs
}

func newVerifier(bundle *trust.Bundle) *verifier {
	v := &verifier{cache: signature.NewCache(1024)}
	v.trust.Store(bundle)
	return v
}

// measured verifies a receipt (core/receipt, the one verifier) and gives the
// measurement that it certifies. The meter's signature is not judged there: the
// sample's identity is that of what this meter signed.
func (v *verifier) measured(text []byte) (*receipt.Receipt, error) {
	r, report := receipt.Verifier{Trust: v.trust.Load(), Signatures: v.cache, Certificates: &v.certificates, Brief: true}.Receipt(text)
	if report.Verdict != receipt.Verified {
		return nil, fmt.Errorf("receipt is %v: %s", report.Verdict, report.Conclusion)
	}
	return r, nil
}

// receipt says whether it certifies this sample.
func (v *verifier) receipt(text []byte, want digest.Digest) (*receipt.Receipt, error) {
	r, err := v.measured(text)
	if err != nil {
		return nil, err
	}
	if s := r.Sample; s.Digest != want {
		return nil, fmt.Errorf("receipt certifies sample %s of %s, counter %d; asked for %s",
			s.Digest.Short(), s.MeterID, s.Counter, want.Short())
	}
	return r, nil
}

// head verifies a gateway's proof of the newest block: the last leaf of a tree
// that the trust bundle certifies is its header record.
func (v *verifier) head(text []byte) (KnownBlock, error) {
	p, err := tlog.ParseProof(text)
	if err != nil {
		return KnownBlock{}, fmt.Errorf("head: %w", err)
	}
	leaf, err := p.VerifyRecord(v.cache, v.trust.Load())
	if err != nil {
		return KnownBlock{}, fmt.Errorf("head: %w", err)
	}
	// A header below the last leaf is genuine, but the certificate's time is then
	// not that of its block.
	if size := p.Certificate.Checkpoint.Size; p.Index != size-1 {
		return KnownBlock{}, reason.New(reason.Malformed, "head: record %d is proven, the last of the tree is %d", p.Index, size-1)
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return KnownBlock{}, fmt.Errorf("head: %w", err)
	}
	header := r.GetBlockHeader()
	if header == nil {
		return KnownBlock{}, reason.New(reason.Malformed, "head: record %d is a %T, want a block header", p.Index, r.GetBody())
	}
	at := time.Unix(int64(p.Certificate.MedianTime()), 0) // cosignature times are at most 2^63-1
	return KnownBlock{Height: header.GetHeight(), Header: record.HeaderDigest(leaf), CertifiedAt: at}, nil
}
