// Package claim is what endorsers sign: the result of the approved module on
// one sample, many claims under one signature.
//
// Source: architecture, "Claim"; RFC 6962 section 2.1 for the root.
//
// Invariants:
//   - A claim's result is the module's output, byte for byte (module ABI).
//   - An endorsement covers network, algorithm, number and RFC 6962 root of the
//     batch's claims, so a claim proves its place in the batch by its index.
package claim

import (
	"bytes"
	"encoding/binary"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// EndorsementType is the payload type under which a batch of claims is signed.
const EndorsementType = "application/vnd.lacre.endorsement.v1"

// ProfileVersion is the sandbox profile that this version of the records knows: lacre/1.
const ProfileVersion = 1

// MaxBytes bounds a claim; a result has at most 64 values.
const MaxBytes = 1024

// Claim is what an endorser says that the approved module gave on one sample.
type Claim struct {
	NetworkID      digest.Digest
	Sample         digest.Digest
	Algorithm      digest.Digest // plain SHA-256 of the module
	Registration   digest.Digest // statement whence the parameters came
	ProfileVersion uint32
	FuelLimit      uint64
	FuelUsed       uint64
	Input          digest.Digest // of the module's exact input bytes
	Result         []byte        // the module's exact output bytes
}

// Encode makes the claim's exact bytes.
func (c *Claim) Encode() ([]byte, error) {
	b, err := wire.Encode(&recordv1.Claim{
		NetworkId: c.NetworkID[:], Sample: c.Sample[:], Algorithm: c.Algorithm[:],
		Registration: c.Registration[:], ProfileVersion: c.ProfileVersion,
		FuelLimit: c.FuelLimit, FuelUsed: c.FuelUsed, Input: c.Input[:], Result: c.Result,
	})
	if err == nil && len(b) > MaxBytes {
		return nil, reason.New(reason.TooLarge, "claim has %d bytes, the limit is %d", len(b), MaxBytes)
	}
	return b, err
}

// Parse decodes and checks a claim's exact bytes. Errors are *reason.Error.
func Parse(b []byte) (*Claim, error) {
	var m recordv1.Claim
	if err := record.Borrow(b, MaxBytes, &m); err != nil {
		return nil, err
	}
	c := &Claim{
		ProfileVersion: m.GetProfileVersion(), FuelLimit: m.GetFuelLimit(),
		FuelUsed: m.GetFuelUsed(), Result: bytes.Clone(m.GetResult()),
	}
	for _, f := range []struct {
		name string
		from []byte
		to   *digest.Digest
	}{
		{"network_id", m.GetNetworkId(), &c.NetworkID}, {"sample", m.GetSample(), &c.Sample},
		{"algorithm", m.GetAlgorithm(), &c.Algorithm}, {"registration", m.GetRegistration(), &c.Registration},
		{"input", m.GetInput(), &c.Input},
	} {
		d, err := record.Digest32(f.name, f.from)
		if err != nil {
			return nil, err
		}
		*f.to = d
	}
	if c.FuelUsed > c.FuelLimit {
		return nil, reason.New(reason.Malformed, "fuel used %d exceeds the limit %d", c.FuelUsed, c.FuelLimit)
	}
	if _, err := ParseResult(c.Result); err != nil {
		return nil, err
	}
	return c, nil
}

// Hash is the claim's RFC 6962 leaf hash.
func Hash(claim []byte) digest.Digest { return tlog.LeafHash(claim) }

// EndorsementMessage is what an endorser signs for a batch, given the claims' leaf hashes in order.
func EndorsementMessage(network, algorithm digest.Digest, claims []digest.Digest) []byte {
	root := tlog.RootOf(claims)
	body := make([]byte, 0, 3*digest.Size+8)
	body = append(body, network[:]...)
	body = append(body, algorithm[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(len(claims)))
	body = append(body, root[:]...)
	return envelope.PAE(EndorsementType, body)
}
