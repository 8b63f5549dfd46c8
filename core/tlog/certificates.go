package tlog

import (
	"bytes"
	"sync"

	"github.com/lacre-metrology/lacre/core/signature"
)

// knownCertificates is how many are remembered: receipts of a few blocks come in
// at a time, in any order.
const knownCertificates = 8

// Certificates remembers the certificates that were seen last by their exact
// text, with the policy that accepted each: all receipts of a block carry the
// same one. Parsing and Policy.Check follow from text and policy alone, so
// what is remembered is what a fresh computation would say (rule B4); a
// refusal is not remembered. The zero value is ready, a nil one remembers
// nothing. It is safe for concurrent use.
type Certificates struct {
	mu   sync.Mutex // guards the rest
	last [knownCertificates]knownCertificate
	next int // the place of the oldest
}

type knownCertificate struct {
	text     []byte       // owned
	parsed   *Certificate // nobody changes it
	accepted *Policy      // that accepted it last; nil: none yet
}

// Parse is ParseCertificate. Nobody changes the certificate, which others share.
func (known *Certificates) Parse(text []byte) (*Certificate, error) {
	if known == nil {
		return ParseCertificate(text)
	}
	if c := known.find(text); c != nil {
		return c, nil
	}
	c, err := ParseCertificate(text)
	if err != nil {
		return nil, err
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.last[known.next] = knownCertificate{text: bytes.Clone(text), parsed: c}
	known.next = (known.next + 1) % knownCertificates
	return c, nil
}

// find is the certificate of this text, or nil.
func (known *Certificates) find(text []byte) *Certificate {
	known.mu.Lock()
	defer known.mu.Unlock()
	for i := range known.last {
		if k := &known.last[i]; k.parsed != nil && bytes.Equal(k.text, text) {
			return k.parsed
		}
	}
	return nil
}

// Check is Policy.Check of a certificate that Parse may have given.
func (known *Certificates) Check(v signature.Verifier, policy *Policy, c *Certificate) error {
	if known == nil {
		return policy.Check(v, c)
	}
	if known.accepted(policy, c) {
		return nil
	}
	if err := policy.Check(v, c); err != nil {
		return err
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	for i := range known.last {
		if k := &known.last[i]; k.parsed == c {
			k.accepted = policy
		}
	}
	return nil
}

// accepted says whether this policy accepted the certificate before.
func (known *Certificates) accepted(policy *Policy, c *Certificate) bool {
	known.mu.Lock()
	defer known.mu.Unlock()
	for i := range known.last {
		if k := &known.last[i]; k.parsed == c && k.accepted == policy {
			return c != nil && policy != nil
		}
	}
	return false
}
