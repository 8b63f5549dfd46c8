package state

import (
	"bytes"
	"slices"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// earlierSample looks for a leaf that already has the sample's counter. The
// same sample is an error, *earlierError with DUPLICATE. Another one is the
// first result, an EQUIVOCATION, which counts once the meter's signature is
// verified; nil when the counter is free.
func (b *Block) earlierSample(s *sample.Sample) (used, err error) {
	chain, err := message[statev1.MeterChain](b.reader, ChainKey(s.MeterID))
	if err != nil || s.Counter > chain.GetNewestCounter() {
		return nil, err
	}
	index, ok, err := b.indexOf(s.MeterID, s.Counter)
	if err != nil || !ok {
		return nil, err
	}
	_, earlier, err := b.measurementAt(s.MeterID, s.Counter, index)
	if err != nil {
		return nil, err
	}
	if earlier.Digest == s.Digest {
		return nil, &earlierError{reason.New(reason.Duplicate, "sample %s is leaf %d already", s.Digest.Short(), index), index}
	}
	return reason.New(reason.Equivocation, "counter %d of meter %s is sample %s in leaf %d, this is %s",
		s.Counter, s.MeterID, earlier.Digest.Short(), index, s.Digest.Short()), nil
}

// measurementAt reads the measurement of a counter, which its page says is this
// leaf. The error is a failure to read the state.
func (b *Block) measurementAt(meter string, counter, index uint64) (*recordv1.Measurement, *sample.Sample, error) {
	leaf, err := b.recordAt(index)
	if err != nil {
		return nil, nil, err
	}
	r, err := record.Parse(leaf)
	if err != nil || r.GetMeasurement() == nil {
		return nil, nil, corrupt("counter %d of %s points to leaf %d, which is no measurement", counter, meter, index)
	}
	s, err := sample.Parse(r.GetMeasurement().GetHeader())
	if err != nil || s.MeterID != meter || s.Counter != counter {
		return nil, nil, corrupt("counter %d of %s points to leaf %d, which is another measurement", counter, meter, index)
	}
	return r.GetMeasurement(), s, nil
}

// advanceChain is the meter's chain with the sample in its place, or why it has
// none (rule S3).
func (b *Block) advanceChain(meter *registered, s *sample.Sample) (*statev1.MeterChain, error) {
	first := firstCounter(meter.state)
	if (s.Counter == first) != s.Previous.IsZero() {
		return nil, reason.New(reason.Malformed, "counter %d with previous sample %s; only the meter's first, %d, has none", s.Counter, s.Previous.Short(), first)
	}
	chain, err := message[statev1.MeterChain](b.reader, ChainKey(s.MeterID))
	if err != nil {
		return nil, err
	}
	next, err := extend(chain, first, s)
	if err != nil {
		return nil, err
	}
	limits := b.config.Message.GetLimits()
	limit := int(limits.GetMaxMissingRanges())
	for len(next.GetMissing()) > max(limit, len(chain.GetMissing())) {
		// Some samples never come: lost, or refused for ever. Their gaps must
		// not bar the meter for ever, so the oldest is given up for a new one,
		// but only when whatever could still fill it would be late.
		if b.blockTimeUnixNano-next.Missing[0].GetNotAfterUnixNano() <= limits.GetLatenessBoundNano() {
			return nil, reason.New(reason.TooManyGaps, "counter %d would leave meter %s with %d gaps, the limit is %d; send the missing samples first",
				s.Counter, s.MeterID, len(next.GetMissing()), limit)
		}
		next.Missing = next.Missing[1:]
	}
	return next, nil
}

// extend puts a sample into a chain: above the newest, or into a gap. chain is
// nil before the first sample and is not changed. The counter is not used yet.
func extend(chain *statev1.MeterChain, first uint64, s *sample.Sample) (*statev1.MeterChain, error) {
	if chain != nil && s.Counter <= chain.GetNewestCounter() {
		return fill(chain, s)
	}
	next := &statev1.MeterChain{
		NewestCounter: s.Counter, NewestSample: s.Digest.Bytes(), NewestCapturedAtUnixNano: s.CapturedAtUnixNano,
		Missing: chain.GetMissing(),
	}
	expected := first // the counter that would leave no gap
	if chain != nil {
		expected = chain.GetNewestCounter() + 1
	}
	if s.CapturedAtUnixNano < chain.GetNewestCapturedAtUnixNano() {
		return nil, decreasing(s, chain.GetNewestCapturedAtUnixNano(), s.CapturedAtUnixNano)
	}
	if s.Counter == expected {
		return next, linksTo(s, chain.GetNewestSample())
	}
	next.Missing = append(slices.Clone(next.Missing), &statev1.MissingRange{
		First: expected, Last: s.Counter - 1,
		Expected: s.Previous.Bytes(), Previous: chain.GetNewestSample(),
		NotBeforeUnixNano: chain.GetNewestCapturedAtUnixNano(), NotAfterUnixNano: s.CapturedAtUnixNano,
	})
	return next, nil
}

// fill puts a sample into the gap that its counter is in.
func fill(chain *statev1.MeterChain, s *sample.Sample) (*statev1.MeterChain, error) {
	at, found := slices.BinarySearchFunc(chain.GetMissing(), s.Counter, func(r *statev1.MissingRange, counter uint64) int {
		switch {
		case r.GetLast() < counter:
			return -1
		case r.GetFirst() > counter:
			return 1
		}
		return 0
	})
	if !found { // see advanceChain
		return nil, reason.New(reason.CounterOutOfRange, "counter %d of meter %s is in a gap that was given up: it is late, and newer gaps took its place", s.Counter, s.MeterID)
	}
	gap := chain.GetMissing()[at]
	if s.CapturedAtUnixNano < gap.GetNotBeforeUnixNano() || s.CapturedAtUnixNano > gap.GetNotAfterUnixNano() {
		return nil, decreasing(s, gap.GetNotBeforeUnixNano(), gap.GetNotAfterUnixNano())
	}
	if s.Counter == gap.GetFirst() {
		if err := linksTo(s, gap.GetPrevious()); err != nil {
			return nil, err
		}
	}
	if s.Counter == gap.GetLast() && !bytes.Equal(s.Digest[:], gap.GetExpected()) {
		return nil, reason.New(reason.Equivocation, "counter %d of meter %s is sample %s, its successor names %s",
			s.Counter, s.MeterID, s.Digest.Short(), shortOf(gap.GetExpected()))
	}
	var rest []*statev1.MissingRange
	if s.Counter > gap.GetFirst() {
		rest = append(rest, &statev1.MissingRange{
			First: gap.GetFirst(), Last: s.Counter - 1,
			Expected: s.Previous.Bytes(), Previous: gap.GetPrevious(),
			NotBeforeUnixNano: gap.GetNotBeforeUnixNano(), NotAfterUnixNano: s.CapturedAtUnixNano,
		})
	}
	if s.Counter < gap.GetLast() {
		rest = append(rest, &statev1.MissingRange{
			First: s.Counter + 1, Last: gap.GetLast(),
			Expected: gap.GetExpected(), Previous: s.Digest.Bytes(),
			NotBeforeUnixNano: s.CapturedAtUnixNano, NotAfterUnixNano: gap.GetNotAfterUnixNano(),
		})
	}
	return &statev1.MeterChain{
		NewestCounter: chain.GetNewestCounter(), NewestSample: chain.GetNewestSample(),
		NewestCapturedAtUnixNano: chain.GetNewestCapturedAtUnixNano(),
		Missing:                  slices.Replace(slices.Clone(chain.GetMissing()), at, at+1, rest...),
	}, nil
}

// linksTo wants the sample to name the one before it, stored as bytes.
func linksTo(s *sample.Sample, previous []byte) error {
	if want := orZero(previous); !bytes.Equal(s.Previous[:], want) {
		return reason.New(reason.Equivocation, "counter %d of meter %s names %s as the sample before, the ledger has %s",
			s.Counter, s.MeterID, s.Previous.Short(), shortOf(want))
	}
	return nil
}

func decreasing(s *sample.Sample, notBefore, notAfter int64) error {
	return reason.New(reason.TimeNotMonotonic, "counter %d of meter %s was captured at %d ns, its neighbours at %d and %d",
		s.Counter, s.MeterID, s.CapturedAtUnixNano, notBefore, notAfter)
}

// setIndexOf writes where a measurement is.
func (b *Block) setIndexOf(meter string, counter, index uint64) error {
	key := PageKey(meter, counter)
	old, err := message[statev1.CounterPage](b.reader, key)
	if err != nil {
		return err
	}
	if old == nil && counter >= CountersPerPage {
		b.turned = append(b.turned, PageKey(meter, counter-CountersPerPage))
	}
	page := &statev1.CounterPage{IndexPlusOne: make([]uint64, CountersPerPage)}
	copy(page.IndexPlusOne, old.GetIndexPlusOne())
	page.IndexPlusOne[counter%CountersPerPage] = index + 1
	b.putMessage(key, page)
	return nil
}
