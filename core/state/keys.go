package state

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/lacre-metrology/lacre/core/digest"
)

// The prefixes of state keys. An id has none of '/', 0 and upper case, so keys
// of two kinds never coincide, and a scan of PrefixMeter, PrefixAlgorithm or
// PrefixNode lists them in the order of their ids.
const (
	KeyConfig       = "config"  // lacre.state.v1.Config
	KeyNetwork      = "network" // the network id, 32 bytes
	PrefixNode      = "n/"      // id: lacre.state.v1.Node
	PrefixAlgorithm = "a/"      // hexadecimal digest: lacre.state.v1.Algorithm
	PrefixMeter     = "m/"      // id: lacre.state.v1.Meter
	PrefixChain     = "k/"      // meter id: lacre.state.v1.MeterChain
	PrefixPage      = "p/"      // meter id, 0, page number in 8 bytes: lacre.state.v1.CounterPage
	PrefixSet       = "s/"      // digest of an endorsement set, 32 bytes: its index, 8 bytes
	PrefixSignedBy  = "y/"      // digest of a public key, 32 bytes: the subject whose key it is
	PrefixTLS       = "x/"      // SPKI digest, 32 bytes: the subject whose TLS key it is
	PrefixEquivocal = "e/"      // meter id, 0, counter in 8 bytes: the event's index, 8 bytes
	PrefixEvidence  = "v/"      // hexadecimal digest: lacre.state.v1.ErasedEvidence, the orders
	PrefixOwner     = "o/"      // evidence key, 32 bytes: the organisation whose key it is or was
	PrefixReport    = "r/"      // digest of an event report, 32 bytes: its index, 8 bytes
	PrefixTable     = "t/"      // id: lacre.state.v1.Table
	PrefixPulse     = "h/"      // meter id: lacre.state.v1.MeterPulse
	PrefixCanary    = "c/"      // id: lacre.state.v1.Canary
	KeyExpiry       = "expiry"  // lacre.state.v1.RawExpiry: the newest decision
	PrefixExpiry    = "b/"      // 0, sequence in 8 bytes: lacre.state.v1.RawExpiry, each decision
)

// CountersPerPage is how many counters share a CounterPage.
const CountersPerPage = 32

// NodeKey is the state key of a node.
func NodeKey(id string) string { return PrefixNode + id }

// AlgorithmKey is the state key of an approved module.
func AlgorithmKey(module digest.Digest) string {
	return PrefixAlgorithm + hex.EncodeToString(module[:])
}

// EvidenceKey is the state key of a piece of evidence that was erased.
func EvidenceKey(piece digest.Digest) string {
	return PrefixEvidence + hex.EncodeToString(piece[:])
}

// MeterKey is the state key of a meter's standing.
func MeterKey(id string) string { return PrefixMeter + id }

// TableKey is the state key of a national table.
func TableKey(id string) string { return PrefixTable + id }

// CanaryKey is the state key of a notified body's test.
func CanaryKey(id string) string { return PrefixCanary + id }

// PulseKey is the state key of a meter's newest heartbeat.
func PulseKey(id string) string { return PrefixPulse + id }

// ChainKey is the state key of a meter's counters.
func ChainKey(id string) string { return PrefixChain + id }

// PageKey is the state key of the page that holds a counter of a meter.
func PageKey(meter string, counter uint64) string {
	return numbered(PrefixPage+meter, counter/CountersPerPage)
}

// SplitPageKey is what a key of PageKey is made of: what all pages of the meter
// share, and the page's number in the last 8 bytes. ok is false for other keys.
func SplitPageKey(key []byte) (meter []byte, page uint64, ok bool) {
	at := len(key) - 8
	if at <= len(PrefixPage) || string(key[:len(PrefixPage)]) != PrefixPage || key[at-1] != 0 {
		return nil, 0, false
	}
	return key[:at], binary.BigEndian.Uint64(key[at:]), true
}

func setKey(set digest.Digest) string       { return PrefixSet + string(set[:]) }
func tlsKey(spki []byte) string             { return PrefixTLS + string(spki) }
func evidenceOwnerKey(key []byte) string    { return PrefixOwner + string(key) }
func reportKey(report digest.Digest) string { return PrefixReport + string(report[:]) }

func expiryKey(sequence uint64) string { return numbered(PrefixExpiry, sequence) }

func equivocalKey(meter string, counter uint64) string {
	return numbered(PrefixEquivocal+meter, counter)
}

func numbered(prefix string, n uint64) string {
	return string(binary.BigEndian.AppendUint64(append([]byte(prefix), 0), n))
}

func encodeIndex(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func decodeIndex(key string, value []byte) (uint64, error) {
	if len(value) != 8 {
		return 0, corrupt("%q has %d bytes, want an index of 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
