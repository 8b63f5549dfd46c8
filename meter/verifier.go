package meter

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/trust"
)

// Verifier judges what gateways hand out, as a Meter does, for programs that keep
// their samples themselves: site controllers, load generators. One serves many
// meters; each certificate is checked and each of its signatures computed once
// (rule B4). It is safe for concurrent use. Nobody changes the certificate of a
// receipt, which others share.
type Verifier struct{ inner *verifier }

// NewVerifier makes a verifier that believes what the bundle certifies.
func NewVerifier(bundle *trust.Bundle) *Verifier { return &Verifier{inner: newVerifier(bundle)} }

// Receipt verifies a receipt and that it certifies the sample with this digest.
func (v *Verifier) Receipt(text []byte, want digest.Digest) (*receipt.Receipt, error) {
	return v.inner.receipt(text, want)
}

// Bundle verifies a bundle with all that endorses its result; nothing is run again.
func (v *Verifier) Bundle(encoded []byte) (*receipt.Contents, error) {
	contents, report := receipt.Verifier{Trust: v.inner.trust.Load(), Signatures: v.inner.cache}.Bundle(encoded)
	if report.Verdict != receipt.Verified {
		return nil, fmt.Errorf("bundle is %v: %s", report.Verdict, report.Conclusion)
	}
	return contents, nil
}

// Head verifies a gateway's proof of the newest block (GetHead) and names it.
func (v *Verifier) Head(proof []byte) (KnownBlock, error) { return v.inner.head(proof) }
