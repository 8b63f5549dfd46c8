package state

import (
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// The getters read one decoded value of a view, which the caller does not change:
// others may have it too. They return nil, without an error, for what is not there.

// GetConfig is the configuration in force; nil before genesis.
func GetConfig(view View) (*Config, error) { return newReader(view).loadConfig() }

// GetNode is a node's standing.
func GetNode(view View, id string) (*statev1.Node, error) { return lookup(view).node(id) }

// GetAlgorithm is an approved module's standing.
func GetAlgorithm(view View, module digest.Digest) (*statev1.Algorithm, error) {
	return message[statev1.Algorithm](lookup(view), AlgorithmKey(module))
}

// GetMeter is a meter's standing.
func GetMeter(view View, id string) (*statev1.Meter, error) { return lookup(view).meter(id) }

// GetCanary is what a notified body committed to; nil before the commitment.
func GetCanary(view View, id string) (*statev1.Canary, error) {
	return message[statev1.Canary](lookup(view), CanaryKey(id))
}

// GetMeterChain is where a meter's counters stand; nil before its first sample.
func GetMeterChain(view View, id string) (*statev1.MeterChain, error) {
	return message[statev1.MeterChain](lookup(view), ChainKey(id))
}

// IndexOf finds the leaf of a measurement; ok is false where the counter is missing.
func IndexOf(view View, meter string, counter uint64) (index uint64, ok bool, err error) {
	return lookup(view).indexOf(meter, counter)
}

// NextStatement tells what the next statement on a subject must carry (rule
// S4): 1 and the zero digest for a subject without one. The error is a
// *reason.Error for what is no subject.
func NextStatement(view View, subject string) (sequence uint64, predecessor digest.Digest, err error) {
	last, err := newReader(view).lastStatement(subject)
	if err != nil || last == nil {
		return 1, digest.Zero, err
	}
	predecessor, err = digest.FromBytes(last.GetDigest())
	if err != nil {
		return 0, digest.Zero, corrupt("newest statement on %s: %w", subject, err)
	}
	return last.GetSequence() + 1, predecessor, nil
}

// TLSSubject finds whose TLS key a SubjectPublicKeyInfo digest names (rule N1):
// the subject of a node or a meter, "" for a stranger. A key that its owner
// replaced is still found: compare with tls_spki of the owner.
func TLSSubject(view View, spki []byte) (string, error) {
	subject, err := lookup(view).raw(tlsKey(spki))
	return string(subject), err
}

// firstCounter is the counter of a meter's very first sample.
func firstCounter(meter *statev1.Meter) uint64 {
	if len(meter.GetKeys()) == 0 {
		return 0 // no transition writes a meter without a key
	}
	return meter.GetKeys()[0].GetFirstCounter()
}

// MeterKeyAt is the key that signs a counter of a meter; false below the first.
func MeterKeyAt(meter *statev1.Meter, counter uint64) (signature.Key, bool) {
	keys := meter.GetKeys()
	for i := len(keys) - 1; i >= 0; i-- {
		if counter >= keys[i].GetFirstCounter() {
			return storedKey(keys[i].GetKey()), true
		}
	}
	return signature.Key{}, false
}

// Covers reports whether one of the spans contains a time.
func Covers(spans []*statev1.Span, unixNano int64) bool {
	for _, s := range spans {
		if unixNano >= s.GetFromUnixNano() && (s.GetUntilUnixNano() == 0 || unixNano < s.GetUntilUnixNano()) {
			return true
		}
	}
	return false
}

func (r *reader) node(id string) (*statev1.Node, error) {
	return message[statev1.Node](r, NodeKey(id))
}

func (r *reader) meter(id string) (*statev1.Meter, error) {
	return message[statev1.Meter](r, MeterKey(id))
}

func (r *reader) indexOf(meter string, counter uint64) (uint64, bool, error) {
	page, err := message[statev1.CounterPage](r, PageKey(meter, counter))
	if err != nil || page == nil {
		return 0, false, err
	}
	slots := page.GetIndexPlusOne()
	if len(slots) != CountersPerPage {
		return 0, false, corrupt("page of counter %d of %s has %d slots", counter, meter, len(slots))
	}
	plusOne := slots[counter%CountersPerPage]
	return plusOne - 1, plusOne != 0, nil
}

// lastStatement is the newest statement on a subject; nil when there is none.
func (r *reader) lastStatement(subject string) (*statev1.StatementRef, error) {
	kind, id, _ := strings.Cut(subject, "/")
	switch {
	case subject == record.SubjectNetwork:
		v, err := message[statev1.Config](r, KeyConfig)
		return v.GetLast(), err
	case subject == record.SubjectRawVectors:
		v, err := r.newestExpiry()
		return v.GetLast(), err
	case kind == "node" && record.CheckID(id) == nil:
		v, err := r.node(id)
		return v.GetLast(), err
	case kind == "meter" && record.CheckID(id) == nil:
		v, err := r.meter(id)
		return v.GetLast(), err
	case kind == "table" && record.CheckID(id) == nil:
		v, err := message[statev1.Table](r, TableKey(id))
		return v.GetLast(), err
	case kind == "canary" && record.CheckID(id) == nil:
		v, err := message[statev1.Canary](r, CanaryKey(id))
		return v.GetLast(), err
	case kind == "algorithm":
		if module, err := digest.Parse(id); err == nil {
			v, err := message[statev1.Algorithm](r, AlgorithmKey(module))
			return v.GetLast(), err
		}
	case kind == "evidence":
		if piece, err := digest.Parse(id); err == nil {
			v, err := r.erased(piece)
			return v.GetLast(), err
		}
	}
	return nil, reason.New(reason.Malformed, "%.80q is not network, raw-vectors, node/ID, algorithm/HEX, meter/ID, table/ID, evidence/HEX or canary/ID", subject)
}
