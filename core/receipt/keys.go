package receipt

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// meterKeys lays the meter's keys out as the ledger's state does, so that
// state.MeterKeyAt chooses among them (rule S3). A rollover that the bundle
// leaves out can only make the sample's signature fail: the ledger certified it
// under the key in force.
func (c *checker) meterKeys(reg *recordv1.MeterRegistration) (*statev1.Meter, error) {
	meter := &statev1.Meter{Keys: []*statev1.MeterKey{{
		Key: reg.GetKey(), FirstCounter: reg.GetFirstCounter(), Index: c.bundle.GetRegistration().GetIndex(),
	}}}
	for i, p := range c.bundle.GetRollovers() {
		what := fmt.Sprintf("rollover %d", i)
		rollover := new(recordv1.MeterKeyRollover)
		e, err := openMessage(p, what, rollover, c.checkpoint)
		if err != nil {
			return nil, err
		}
		id := c.receipt.Sample.MeterID
		if err := checkHeader(rollover.GetHeader(), c.receipt.Sample.NetworkID, record.SubjectMeter(id)); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		last := meter.Keys[len(meter.Keys)-1]
		if p.GetIndex() <= last.GetIndex() || rollover.GetFirstCounter() <= last.GetFirstCounter() {
			return nil, fmt.Errorf("%s is record %d, for counters from %d, the key before it record %d, from %d: want ascending ones",
				what, p.GetIndex(), rollover.GetFirstCounter(), last.GetIndex(), last.GetFirstCounter())
		}
		if _, err := c.notifiedBody(e, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		old, err := signature.ParseKey(last.GetKey())
		if err != nil {
			return nil, fmt.Errorf("%s: the key before: %w", what, err)
		}
		if err := e.Verify(c.signatures(), asStatementKey(old)); err != nil {
			return nil, fmt.Errorf("%s: the meter's old key: %w", what, err)
		}
		meter.Keys = append(meter.Keys, &statev1.MeterKey{Key: rollover.GetKey(), FirstCounter: rollover.GetFirstCounter(), Index: p.GetIndex()})
	}
	for _, k := range meter.Keys {
		key, err := signature.ParseKey(k.GetKey())
		if err == nil {
			err = signature.CheckKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("key of record %d: %w", k.GetIndex(), err)
		}
	}
	return meter, nil
}

// asStatementKey is a meter's key as a signer of statements, which follow
// another predicate than samples (rule B3).
func asStatementKey(key signature.Key) signature.Key {
	if key.Kind() == signature.Ed25519ZIP215 {
		if k, err := signature.NewKey(signature.Ed25519, key.Raw()); err == nil {
			return k
		}
	}
	return key
}

// meterKeyAt is the key that signs a counter.
func meterKeyAt(meter *statev1.Meter, counter uint64) (signature.Key, error) {
	key, ok := state.MeterKeyAt(meter, counter)
	if !ok {
		return key, fmt.Errorf("counter %d is below the meter's first, %d", counter, meter.GetKeys()[0].GetFirstCounter())
	}
	return key, nil
}
