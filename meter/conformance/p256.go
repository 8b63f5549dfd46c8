package conformance

import (
	"crypto/elliptic"
	"math/big"
)

// withOtherS is a P-256 signature with n - s for s: the form that a signer
// should have written if s is above half the order.
func withOtherS(sig []byte) ([]byte, bool) {
	n := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(sig[32:])
	if s.Sign() == 0 || s.Cmp(n) >= 0 {
		return nil, false
	}
	out := append([]byte(nil), sig...)
	new(big.Int).Sub(n, s).FillBytes(out[32:])
	return out, true
}
