package state

import (
	"bytes"
	"errors"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// leastPulse is the shortest time between two heartbeats of a meter: a meter
// that lives shows it, and does not fill the ledger with it.
const leastPulse = 10 * 1_000_000_000

// pulse is a decoded heartbeat.
type pulse struct {
	*heartbeat.Heartbeat
	signed    []byte
	signature []byte
}

func parsePulse(m *recordv1.SignedHeartbeat) (*pulse, error) {
	h, err := heartbeat.Parse(m.GetHeartbeat())
	if err != nil {
		return nil, err
	}
	if err := sample.CheckSignatureForm(m.GetSignature()); err != nil {
		return nil, err
	}
	return &pulse{Heartbeat: h, signed: heartbeat.Message(m.GetHeartbeat()), signature: m.GetSignature()}, nil
}

// nextCounter is the counter after the newest, whose key signs the heartbeat.
func (p *pulse) nextCounter(meter *statev1.Meter) uint64 {
	if p.NewestCounter == 0 {
		return firstCounter(meter)
	}
	return p.NewestCounter + 1 // of at most 2^62, or judgePulse refused it
}

// submitPulses decides heartbeats, each for itself.
func (b *Block) submitPulses(s *Submission, outcomes []Outcome) error {
	for i := range s.items {
		it := &s.items[i]
		if it.err != nil {
			continue
		}
		err := b.judgePulse(it)
		var earlier *earlierError
		switch {
		case errors.As(err, &earlier):
			outcomes[i] = earlier.outcome()
		case err != nil:
			if outcomes[i], err = settle(err); err != nil {
				return err
			}
		default:
			p := it.pulse
			outcomes[i] = Outcome{Accepted: true, Index: b.append(it.bytes)}
			b.putMessage(PulseKey(p.MeterID), &statev1.MeterPulse{AtUnixNano: p.AtUnixNano, NewestCounter: p.NewestCounter, Index: outcomes[i].Index})
			if b.trial {
				return nil
			}
		}
	}
	return nil
}

// judgePulse decides one heartbeat. One that a sample has overtaken says less
// than the ledger knows and is refused: the sample was the sign of life. So a
// meter's newest counter never falls, whatever arrives in which order.
func (b *Block) judgePulse(it *item) error {
	p := it.pulse
	if p.NetworkID != b.config.NetworkID {
		return reason.New(reason.WrongNetwork, "heartbeat is for network %s, this is %s", p.NetworkID.Short(), b.config.NetworkID.Short())
	}
	meter, err := b.meter(p.MeterID)
	if err != nil {
		return err
	}
	if meter == nil {
		return unknownMeter(p.MeterID)
	}
	last, err := message[statev1.MeterPulse](b.reader, PulseKey(p.MeterID))
	if err != nil {
		return err
	}
	if last != nil {
		if err := b.afterPulse(it, last); err != nil {
			return err
		}
	}
	chain, err := message[statev1.MeterChain](b.reader, ChainKey(p.MeterID))
	if err != nil {
		return err
	}
	ended := meter.GetDecommissionedAtUnixNano()
	switch {
	case meter.GetBarred():
		return reason.New(reason.MeterNotInService, "meter %s is barred: broken seal or compromised key", p.MeterID)
	case ended != 0 && p.AtUnixNano >= ended:
		return reason.New(reason.MeterNotInService, "heartbeat at %d ns, meter %s was decommissioned at %d", p.AtUnixNano, p.MeterID, ended)
	case p.NewestCounter >= maxCounter || p.NewestCounter != 0 && p.NewestCounter < firstCounter(meter):
		return reason.New(reason.CounterOutOfRange, "newest counter %d, meter %s counts from %d", p.NewestCounter, p.MeterID, firstCounter(meter))
	case p.NewestCounter < chain.GetNewestCounter():
		return reason.New(reason.CounterOutOfRange, "newest counter %d of meter %s, the ledger has %d: a sample overtook the heartbeat", p.NewestCounter, p.MeterID, chain.GetNewestCounter())
	case chain != nil && p.NewestCounter == chain.GetNewestCounter() && p.NewestSample != digest.Digest(chain.GetNewestSample()):
		return reason.New(reason.Equivocation, "counter %d of meter %s is sample %s in the heartbeat, the ledger has %s",
			p.NewestCounter, p.MeterID, p.NewestSample.Short(), shortOf(chain.GetNewestSample()))
	}
	if err := b.checkTime(p.KnownHeight, p.KnownBlock, p.AtUnixNano); err != nil {
		return err
	}
	key, _ := MeterKeyAt(meter, p.nextCounter(meter))
	if !b.verifier.Verify(key.Kind(), key, p.signed, p.signature) {
		return reason.New(reason.BadSignature, "a heartbeat of meter %s does not verify under its %v", p.MeterID, key)
	}
	return nil
}

// afterPulse compares with the meter's last heartbeat.
func (b *Block) afterPulse(it *item, last *statev1.MeterPulse) error {
	p := it.pulse
	switch ahead := p.AtUnixNano - last.GetAtUnixNano(); { // both are positive, so it does not overflow
	case ahead == 0:
		leaf, err := b.recordAt(last.GetIndex())
		if err != nil {
			return err
		}
		if bytes.Equal(leaf, it.bytes) {
			return &earlierError{reason.New(reason.Duplicate, "the heartbeat is leaf %d already", last.GetIndex()), last.GetIndex()}
		}
		fallthrough
	case ahead < 0:
		return reason.New(reason.TimeNotMonotonic, "heartbeat at %d ns, the last of meter %s was at %d", p.AtUnixNano, p.MeterID, last.GetAtUnixNano())
	case ahead < leastPulse:
		return reason.New(reason.TooSoon, "heartbeat %d ns after the last of meter %s, want at least %d", ahead, p.MeterID, int64(leastPulse))
	case p.NewestCounter < last.GetNewestCounter():
		return reason.New(reason.CounterOutOfRange, "newest counter %d of meter %s, its last heartbeat said %d", p.NewestCounter, p.MeterID, last.GetNewestCounter())
	}
	return nil
}

// GetMeterPulse is a meter's newest heartbeat; nil before its first.
func GetMeterPulse(view View, id string) (*statev1.MeterPulse, error) {
	return message[statev1.MeterPulse](newReader(view), PulseKey(id))
}
