package state

import "github.com/lacre-metrology/lacre/core/signature"

// Checks lists the signatures that deciding the submissions will verify, for a
// host to verify in batches on every core, into the cache that it gives as
// Options.Verifier (rule B4). It is a hint: what it leaves out, because a key
// is not known yet or a record will be refused earlier, Submit verifies singly.
// The view must allow for this goroutine.
func Checks(view View, submissions ...*Submission) ([]signature.Check, error) {
	r := newReader(view)
	config, err := r.loadConfig()
	if err != nil {
		return nil, err
	}
	return checks(r, config, submissions)
}

// Checks is Checks for submissions to this block; what it reads need not be read
// again to decide them.
func (b *Block) Checks(submissions ...*Submission) ([]signature.Check, error) {
	return checks(b.reader, b.config, submissions)
}

func checks(r *reader, config *Config, submissions []*Submission) ([]signature.Check, error) {
	c := collector{reader: r, config: config}
	for _, s := range submissions {
		for i := range s.items {
			if s.items[i].err != nil {
				continue // Submit refuses it before any signature
			}
			if err := c.item(&s.items[i]); err != nil {
				return nil, err
			}
		}
	}
	return c.checks, nil
}

type collector struct {
	*reader
	config *Config
	checks []signature.Check
}

func (c *collector) add(key signature.Key, signed, sig []byte) {
	if !key.IsZero() {
		c.checks = append(c.checks, signature.Check{Kind: key.Kind(), Key: key, Message: signed, Signature: sig})
	}
}

func (c *collector) item(it *item) error {
	switch {
	case it.measurement != nil:
		m := it.measurement
		return c.sample(m.sample.MeterID, m.sample.Counter, m.signed, m.record.GetSignature())
	case it.pulse != nil:
		p := it.pulse
		meter, err := c.meter(p.MeterID)
		if err != nil || meter == nil || p.NewestCounter >= maxCounter {
			return err
		}
		key, _ := MeterKeyAt(meter, p.nextCounter(meter))
		c.add(key, p.signed, p.signature)
	case it.set != nil:
		for _, e := range it.set.endorsements {
			if err := c.byNode(e.GetNodeId(), it.set.message, e.GetSignature()); err != nil {
				return err
			}
		}
	case it.event != nil:
		e := it.event
		if e.evidence != nil {
			for _, s := range e.evidence {
				if err := c.sample(s.sample.MeterID, s.sample.Counter, s.sample.Signed(), s.signature); err != nil {
					return err
				}
			}
		}
		return c.byNode(e.report.GetReporter(), e.signed, e.record.GetSignature())
	case it.statement != nil:
		return c.statement(it.statement)
	}
	return nil
}

func (c *collector) byNode(id string, signed, sig []byte) error {
	node, err := c.node(id)
	if err == nil && node != nil {
		c.add(storedKey(node.GetKey()), signed, sig)
	}
	return err
}

func (c *collector) sample(meterID string, counter uint64, signed, sig []byte) error {
	meter, err := c.meter(meterID)
	if err == nil && meter != nil {
		key, _ := MeterKeyAt(meter, counter)
		c.add(key, signed, sig)
	}
	return err
}

func (c *collector) statement(st *statement) error {
	if c.config == nil && st.config() == nil {
		return nil
	}
	groups, err := st.body.authority(c.reader, c.config)
	if err != nil {
		_, err = settle(err) // a refusal is for Submit to give
		return err
	}
	pae, ring := st.envelope.PAE(), newKeyring(groups)
	for _, s := range st.envelope.Signatures {
		c.add(ring[s.KeyID].key, pae, s.Sig)
	}
	return nil
}
