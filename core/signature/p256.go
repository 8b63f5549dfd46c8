package signature

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// p256Order is n, the order of the base point of P-256 (FIPS 186-5 by way of
// SP 800-186, section 3.2.1.3), big-endian; p256HalfOrder is floor(n/2).
var (
	p256Order = [32]byte{
		0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
	}
	p256HalfOrder = func() (half [32]byte) {
		n := new(big.Int).SetBytes(p256Order[:])
		n.Rsh(n, 1).FillBytes(half[:])
		return half
	}()
)

// isLowS reports s <= floor(n/2) for a big-endian s of 32 bytes.
func isLowS(s []byte) bool { return bytes.Compare(s, p256HalfOrder[:]) <= 0 }

// derFromFixed writes r || s as the ASN.1 DER that crypto/ecdsa reads (SEC 1
// appendix C.8). Zero and overlarge values are left to the predicate to refuse.
func derFromFixed(sig []byte) []byte {
	out := make([]byte, 2, 2+2*(2+33))
	out = appendDERInteger(out, sig[:32])
	out = appendDERInteger(out, sig[32:])
	out[0], out[1] = 0x30, byte(len(out)-2)
	return out
}

func appendDERInteger(out, bigEndian []byte) []byte {
	for len(bigEndian) > 1 && bigEndian[0] == 0 {
		bigEndian = bigEndian[1:]
	}
	if bigEndian[0]&0x80 != 0 { // a leading zero keeps the integer positive
		out = append(out, 0x02, byte(len(bigEndian)+1), 0)
	} else {
		out = append(out, 0x02, byte(len(bigEndian)))
	}
	return append(out, bigEndian...)
}

// fixedFromDER turns what a crypto.Signer returns into 64 bytes with low S.
// (r, n-s) is valid whenever (r, s) is, so normalising needs no key.
func fixedFromDER(der []byte) ([]byte, error) {
	var rs struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &rs)
	if err != nil {
		return nil, fmt.Errorf("ECDSA signature is not DER: %w", err)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("ECDSA signature has %d bytes after its DER", len(rest))
	}
	n := new(big.Int).SetBytes(p256Order[:])
	for _, v := range []*big.Int{rs.R, rs.S} {
		if v.Sign() <= 0 || v.Cmp(n) >= 0 {
			return nil, fmt.Errorf("ECDSA signature has a component outside 1..n-1")
		}
	}
	if rs.S.Cmp(new(big.Int).SetBytes(p256HalfOrder[:])) > 0 {
		rs.S.Sub(n, rs.S)
	}
	fixed := make([]byte, Size)
	rs.R.FillBytes(fixed[:32])
	rs.S.FillBytes(fixed[32:])
	return fixed, nil
}
