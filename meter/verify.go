package meter

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// verifier believes what the trust bundle certifies, and nothing else that a
// gateway says. It is safe for concurrent use.
type verifier struct {
	trust atomic.Pointer[trust.Bundle]
	cache *signature.Cache // the receipts of one block share their signatures
}

func newVerifier(bundle *trust.Bundle) *verifier {
	v := &verifier{cache: signature.NewCache(1024)}
	v.trust.Store(bundle)
	return v
}

// measured verifies a receipt (core/receipt, the one verifier) and gives the
// sample that it certifies. The meter's signature is not judged there: the
// sample's identity is that of what this meter signed.
func (v *verifier) measured(text []byte) (*sample.Sample, error) {
	r, report := receipt.Verifier{Trust: v.trust.Load(), Signatures: v.cache}.Receipt(text)
	if report.Verdict != receipt.Verified {
		return nil, fmt.Errorf("receipt is %v: %s", report.Verdict, report.Conclusion)
	}
	return r.Sample, nil
}

// receipt says whether it certifies this sample.
func (v *verifier) receipt(text []byte, want digest.Digest) error {
	s, err := v.measured(text)
	if err != nil {
		return err
	}
	if s.Digest != want {
		return fmt.Errorf("receipt certifies sample %s of %s, counter %d; asked for %s",
			s.Digest.Short(), s.MeterID, s.Counter, want.Short())
	}
	return nil
}

// head checks what can be checked of a gateway's head: the certificate. Height
// and header digest are not tied to it in this API, so they remain a hint.
func (v *verifier) head(h *ingestv1.GetHeadResponse) (KnownBlock, error) {
	c, err := tlog.ParseCertificate(h.GetCertificate())
	if err != nil {
		return KnownBlock{}, fmt.Errorf("head %d: %w", h.GetHeight(), err)
	}
	if err := v.trust.Load().Check(v.cache, c); err != nil {
		return KnownBlock{}, fmt.Errorf("head %d: %w", h.GetHeight(), err)
	}
	d, err := digest.FromBytes(h.GetHeader())
	if err != nil || d.IsZero() {
		return KnownBlock{}, reason.New(reason.Malformed, "head %d: header digest has %d bytes, want %d, not all zero", h.GetHeight(), len(h.GetHeader()), digest.Size)
	}
	at := time.Unix(int64(c.MedianTime()), 0) // cosignature times are at most 2^63-1
	return KnownBlock{Height: h.GetHeight(), Header: d, CertifiedAt: at}, nil
}
