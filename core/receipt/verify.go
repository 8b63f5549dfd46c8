package receipt

import (
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
)

// Verifier holds what a verification is given besides the bytes. The zero value
// proves form and inclusion; certificates are then undecidable.
type Verifier struct {
	// Trust says who certifies; nil when the verifier has none.
	Trust *trust.Bundle
	// Runner executes modules; nil when there is no engine.
	Runner Runner
	// Signatures answers signature checks, with a cache where many receipts
	// share certificates (rule B4); nil computes each.
	Signatures signature.Verifier
	// Certificates knows certificates that many receipts share (rule B4); nil
	// parses and checks each.
	Certificates *tlog.Certificates
	// Brief leaves out the details of a receipt's verified steps, for programs that nobody
	// reads over the shoulder.
	Brief bool
}

// Verify judges a receipt. The receipt is nil when its form is refuted.
func Verify(text []byte, trusted *trust.Bundle) (*Receipt, Report) {
	return Verifier{Trust: trusted}.Receipt(text)
}

// Receipt judges a receipt: canonical form, inclusion, certificate and record
// form. The meter's signature stays undecidable, for its key is not in it. The
// receipt is nil when its form is refuted.
func (v Verifier) Receipt(text []byte) (*Receipt, Report) {
	var report Report
	r := v.receipt(text, &report)
	report.Steps = append(report.Steps, Step{Name: StepMeterSignature, Optional: true,
		Detail: "the meter's registration is not in a receipt; a bundle has it"})
	report.conclude()
	return r, report
}

// receipt appends the first four steps. It returns nil unless form and record
// form are verified.
func (v Verifier) receipt(text []byte, report *Report) *Receipt {
	add := func(name string, err error, detail func() string) {
		s := newStep(name, "", err)
		if err == nil && !v.Brief {
			s.Detail = detail()
		}
		report.Steps = append(report.Steps, s)
	}
	proof, err := v.Certificates.ParseProof(text)
	if err == nil && len(proof.Extra) == 0 {
		err = fmt.Errorf("the proof carries no record as its extra data")
	}
	if err != nil {
		add(StepCanonicalForm, err, nil)
		for _, name := range []string{StepInclusion, StepCertificate, StepRecordForm} {
			add(name, lack("the receipt is not in its one form"), nil)
		}
		return nil
	}
	c := proof.Certificate.Checkpoint
	add(StepCanonicalForm, nil, func() string {
		return fmt.Sprintf("tlog-proof of %d bytes, one text for one meaning", len(text))
	})
	add(StepInclusion, checkInclusion(proof.Extra, proof.Index, proof.Path, c), func() string {
		return fmt.Sprintf("record %d of %d leads to root %s of the checkpoint", proof.Index, c.Size, c.Root.Short())
	})
	add(StepCertificate, v.certificate(proof.Certificate), func() string { return certifiedBy(proof.Certificate) })
	m, err := ParseMeasurement(proof.Extra)
	if err == nil {
		err = tlog.CheckOrigin(c.Origin, m.Sample.NetworkID)
	}
	add(StepRecordForm, err, func() string {
		return fmt.Sprintf("measurement of sample %s, meter %s, counter %d; header and claim agree, network %s is the origin's",
			m.Sample.Digest.Short(), m.Sample.MeterID, m.Sample.Counter, m.Sample.NetworkID.Short())
	})
	if err != nil {
		return nil
	}
	return &Receipt{Proof: proof, Measurement: m}
}

// certificate judges a certificate under the trust bundle. A tree beyond the
// last epoch is undecidable: a newer bundle may answer for it.
func (v Verifier) certificate(c *tlog.Certificate) error {
	if v.Trust == nil {
		return lack("no trust bundle; the certificate names %s at size %d", c.Checkpoint.Origin, c.Checkpoint.Size)
	}
	if c.Checkpoint.Origin != v.Trust.Origin() {
		return fmt.Errorf("certificate of %s, the trust bundle is about %s", c.Checkpoint.Origin, v.Trust.Origin())
	}
	policy, err := v.Trust.Policy(c.Checkpoint.Size)
	if err != nil {
		return lack("%v", err)
	}
	return v.Certificates.Check(v.signatures(), policy, c)
}

// certifiedBy says who certified what a policy accepted.
func certifiedBy(c *tlog.Certificate) string {
	names := make([]string, len(c.Cosignatures))
	for i, s := range c.Cosignatures {
		names[i] = shortName(c.Checkpoint.Origin, s.Name)
	}
	return fmt.Sprintf("checkpoint of %s at size %d, cosigned by %s, reaches the quorum of the trust bundle", c.Checkpoint.Origin, c.Checkpoint.Size, strings.Join(names, ", "))
}

// shortName is a cosigner's name without the origin that all share.
func shortName(origin, name string) string { return strings.TrimPrefix(name, origin+"/") }

func (v Verifier) signatures() signature.Verifier {
	if v.Signatures == nil {
		return signature.Direct{}
	}
	return v.Signatures
}
