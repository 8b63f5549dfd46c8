package receipt

import (
	"bytes"
	"fmt"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Runner runs a module once. The result is a function of module, input and fuel
// limit alone; an error means that there is none (no engine, no memory), never
// that the module failed. It is declared here so that core needs no sandbox.
type Runner interface {
	Run(module, input []byte, fuelLimit uint64) (result []byte, fuelUsed uint64, err error)
}

// VerifyBundle judges a bundle; runner may be nil. The contents are nil when
// the form of the bundle or of its receipt is refuted.
func VerifyBundle(encoded []byte, trusted *trust.Bundle, runner Runner) (*Contents, Report) {
	return Verifier{Trust: trusted, Runner: runner}.Bundle(encoded)
}

// Bundle judges a bundle: its receipt, then each item against the receipt's
// leaf and checkpoint. Without a module, or without a runner, the re-execution
// is undecidable and the report concludes that much less.
func (v Verifier) Bundle(encoded []byte) (*Contents, Report) {
	var report Report
	b, err := ParseBundle(encoded)
	if err != nil {
		report.Steps = append(report.Steps, newStep(StepCanonicalForm, "", err))
		for _, name := range allSteps[1:] {
			report.Steps = append(report.Steps, newStep(name, "", lack("the bundle is not in its one form")))
		}
		report.conclude()
		return nil, report
	}
	r := v.receipt(b.GetReceipt(), &report)
	if r == nil {
		for _, name := range allSteps[len(report.Steps):] {
			report.Steps = append(report.Steps, newStep(name, "", lack("the receipt is not a measurement's")))
		}
		report.conclude()
		return nil, report
	}
	c := &checker{Verifier: v, bundle: b, receipt: r, checkpoint: r.Proof.Certificate.Checkpoint, contents: &Contents{Receipt: r}}
	// The meter's key comes with the registration, so that step is computed
	// late and stands early.
	configuration := c.step(StepConfiguration, c.configuration)
	registration := c.step(StepRegistration, c.registration)
	report.Steps = append(report.Steps,
		c.step(StepMeterSignature, c.meterSignature), configuration, registration,
		c.step(StepApproval, c.approval),
		c.step(StepEndorsements, c.endorsements),
		c.step(StepRawVector, c.rawVector),
		c.step(StepModule, c.module),
		c.step(StepReExecution, c.reExecution),
		c.step(StepNationalTable, c.nationalTable),
		c.step(StepHistory, c.history))
	report.conclude()
	return c.contents, report
}

var allSteps = []string{
	StepCanonicalForm, StepInclusion, StepCertificate, StepRecordForm, StepMeterSignature,
	StepConfiguration, StepRegistration, StepApproval, StepEndorsements, StepRawVector, StepModule, StepReExecution,
	StepNationalTable, StepHistory,
}

// optional are the steps for which a bundle may lack the material: a vector in
// cold storage or erased by a recorded decision, a module that is not public, a
// national table of which no version was in force yet.
var optional = map[string]bool{StepRawVector: true, StepModule: true, StepReExecution: true, StepNationalTable: true}

// checker is one bundle's verification; its steps run in order.
type checker struct {
	Verifier
	bundle     *recordv1.Bundle
	receipt    *Receipt
	checkpoint tlog.Checkpoint
	contents   *Contents
}

func (c *checker) step(name string, check func() (string, error)) Step {
	detail, err := check()
	s := newStep(name, detail, err)
	s.Optional = optional[name]
	return s
}

// configuration: the one that the measurement names.
func (c *checker) configuration() (string, error) {
	config := new(recordv1.NetworkConfig)
	e, err := openMessage(c.bundle.GetConfig(), "configuration", config, c.checkpoint)
	if err != nil {
		return "", err
	}
	if err := sameDigest("configuration", e.Digest(), c.receipt.Config); err != nil {
		return "", err
	}
	network := c.receipt.Sample.NetworkID
	sequence := config.GetHeader().GetSequence()
	if sequence == 1 { // the genesis configuration: the network's identity
		err = sameDigest("genesis configuration", e.Digest(), network)
	} else {
		err = checkHeader(config.GetHeader(), network, record.SubjectNetwork)
	}
	if err != nil {
		return "", err
	}
	origin, err := tlog.Origin(config.GetName(), network)
	if err != nil || origin != c.checkpoint.Origin {
		return "", fmt.Errorf("configuration is of %q, the checkpoint's origin is %q", origin, c.checkpoint.Origin)
	}
	c.contents.Config = config
	return fmt.Sprintf("digest %s as the measurement names; configuration %d of %s with %d organisations, at index %d",
		c.receipt.Config.Short(), sequence, config.GetName(), len(config.GetOrganisations()), c.bundle.GetConfig().GetIndex()), nil
}

// registration: the meter's, which the ledger takes once, with the parameters
// that the endorsers' claim names.
func (c *checker) registration() (string, error) {
	reg := new(recordv1.MeterRegistration)
	e, err := openMessage(c.bundle.GetRegistration(), "registration", reg, c.checkpoint)
	if err != nil {
		return "", err
	}
	s := c.receipt.Sample
	if err := checkHeader(reg.GetHeader(), s.NetworkID, record.SubjectMeter(s.MeterID)); err != nil {
		return "", err
	}
	parameters, detail, err := c.parameters(reg, e)
	switch {
	case err != nil:
		return "", err
	case reg.GetMeterId() != s.MeterID:
		return "", fmt.Errorf("registration of meter %q, the sample is of %q", reg.GetMeterId(), s.MeterID)
	case parameters.Algorithm != c.receipt.Claim.Algorithm:
		return "", fmt.Errorf("registration names module %s, the claim %s", parameters.Algorithm, c.receipt.Claim.Algorithm)
	case parameters.Channels != s.Channels || parameters.SampleRateMillihertz != s.SampleRateMillihertz:
		return "", fmt.Errorf("registration has %d channels at %d mHz, the sample %d at %d mHz",
			parameters.Channels, parameters.SampleRateMillihertz, s.Channels, s.SampleRateMillihertz)
	}
	signer, err := c.notifiedBody(e, "")
	if err != nil {
		return "", err
	}
	c.contents.Registration, c.contents.Parameters = reg, parameters
	return fmt.Sprintf("digest %s as the claim names; meter %s, at index %d, %s%s",
		c.receipt.Claim.Registration.Short(), s.MeterID, c.bundle.GetRegistration().GetIndex(), signer, detail), nil
}

// notifiedBody says who signed a statement: the named notified body, or any of
// the configuration's when id is empty. A statement older than the
// configuration may be signed by a body or a key that it no longer has; then
// the replicas' certificate alone says that it was accepted, and the detail
// tells so.
func (c *checker) notifiedBody(e *envelope.Envelope, id string) (string, error) {
	if c.contents.Config == nil {
		return "", lack("the configuration, which has the notified bodies' keys, is not verified")
	}
	for _, n := range c.contents.Config.GetNotifiedBodies() {
		if id != "" && n.GetId() != id {
			continue
		}
		signed := uint32(0)
		for _, tagged := range n.GetKeys() {
			if key, err := signature.ParseKey(tagged); err == nil && e.Verify(c.signatures(), key) == nil {
				signed++
			}
		}
		if signed > 0 && signed >= n.GetThreshold() {
			return "signed by notified body " + n.GetId(), nil
		}
	}
	return c.signedEarlier("notified body " + id)
}

// signedEarlier is the answer where no key of the configuration has signed.
func (c *checker) signedEarlier(who string) (string, error) {
	sequence := c.contents.Config.GetHeader().GetSequence()
	if sequence <= 1 {
		return "", fmt.Errorf("no signature by a %s of configuration %d", who, sequence)
	}
	return fmt.Sprintf("accepted by the ledger under a configuration before %d", sequence), nil
}

// meterSignature: the sample's, under the key in force for its counter.
func (c *checker) meterSignature() (string, error) {
	reg := c.contents.Registration
	if reg == nil {
		return "", lack("the meter's registration is not verified")
	}
	meter, err := c.meterKeys(reg)
	if err != nil {
		return "", err
	}
	s := c.receipt.Sample
	key, err := meterKeyAt(meter, s.Counter)
	if err != nil {
		return "", err
	}
	if !c.signatures().Verify(key.Kind(), key, s.Signed(), c.receipt.Message.GetSignature()) {
		return "", fmt.Errorf("the signature on sample %s does not verify under %v, the meter's for counter %d", s.Digest.Short(), key, s.Counter)
	}
	return fmt.Sprintf("sample %s is signed by %v, the meter's for counter %d", s.Digest.Short(), key, s.Counter), nil
}

// approval: the one that the measurement names, for the module of the claim.
func (c *checker) approval() (string, error) {
	e, err := openStatement(c.bundle.GetApproval(), "approval", record.TypeApproval, c.checkpoint)
	if err != nil {
		return "", err
	}
	if err := sameDigest("approval", e.Digest(), c.receipt.Approval); err != nil {
		return "", err
	}
	a, err := approval.Parse(e.Payload)
	if err != nil {
		return "", err
	}
	cl, s := c.receipt.Claim, c.receipt.Sample
	switch {
	case a.NetworkID != s.NetworkID:
		return "", fmt.Errorf("approval of network %s, the measurement is of %s", a.NetworkID, s.NetworkID)
	case a.Module != cl.Algorithm:
		return "", fmt.Errorf("approval of module %s, the claim is of %s", a.Module, cl.Algorithm)
	case a.FuelLimit != cl.FuelLimit || a.ProfileVersion != cl.ProfileVersion:
		return "", fmt.Errorf("approval has profile %d and fuel limit %d, the claim %d and %d", a.ProfileVersion, a.FuelLimit, cl.ProfileVersion, cl.FuelLimit)
	case !covers(a, s.CapturedAtUnixNano):
		return "", fmt.Errorf("approval is valid from %s until %s, the sample was captured %s",
			timeText(a.NotBeforeUnix*second), timeText(a.NotAfterUnix*second), timeText(s.CapturedAtUnixNano))
	}
	if err := a.Schema.CheckResult(c.receipt.Result); err != nil {
		return "", err
	}
	signer, err := c.notifiedBody(e, a.NotifiedBody)
	if err != nil {
		return "", err
	}
	if err := e.Verify(c.signatures(), a.Manufacturer.Key); err != nil {
		return "", fmt.Errorf("manufacturer: %w", err)
	}
	c.contents.Approval = a
	return fmt.Sprintf("digest %s as the measurement names; %s %s, policy %v, %s and by manufacturer %s",
		c.receipt.Approval.Short(), a.ModuleName, a.ModuleVersion, a.Policy, signer, a.Manufacturer.Name), nil
}

const second = 1_000_000_000

func covers(a *approval.Approval, unixNano int64) bool {
	return unixNano >= a.NotBeforeUnix*second && unixNano < a.NotAfterUnix*second
}

// rawVector: the bytes that the meter's header names.
func (c *checker) rawVector() (string, error) {
	raw, want := c.bundle.GetRawVector(), c.receipt.Sample.RawDigest
	if len(raw) == 0 {
		return "", lack("the bundle has no raw vector; the header names %s", want.Short())
	}
	if got := sample.DigestRaw(raw); got != want {
		return "", fmt.Errorf("raw vector has digest %s, the signed header names %s", got, want)
	}
	c.contents.RawVector = raw
	return fmt.Sprintf("%d bytes with digest %s, as the signed header names", len(raw), want.Short()), nil
}

// module: the bytes whose SHA-256 the approval names.
func (c *checker) module() (string, error) {
	module, want := c.bundle.GetModule(), c.receipt.Claim.Algorithm
	if len(module) == 0 {
		return "", lack("the bundle has no module; the approval names %s", want.Short())
	}
	if got := digest.Plain(module); got != want {
		return "", fmt.Errorf("module has SHA-256 %s, the claim and the approval name %s", got, want)
	}
	c.contents.Module = module
	return fmt.Sprintf("%d bytes with SHA-256 %s, as claim and approval name", len(module), want.Short()), nil
}

// reExecution: the module on the raw vector gives the claim's bytes again. That
// the claim is about this input needs no engine, so it is judged first.
func (c *checker) reExecution() (string, error) {
	cl := c.receipt.Claim
	switch {
	case c.contents.RawVector == nil:
		return "", lack("no raw vector was verified")
	case c.contents.Parameters == nil:
		return "", lack("no registration was verified, which has the parameters")
	case cl.ProfileVersion != claim.ProfileVersion:
		return "", lack("the claim is of sandbox profile %d, this program knows %d", cl.ProfileVersion, claim.ProfileVersion)
	}
	input, err := claim.Input(c.contents.Parameters, c.receipt.Sample, c.contents.RawVector)
	if err != nil {
		return "", err
	}
	if got := claim.InputDigest(input); got != cl.Input {
		return "", fmt.Errorf("the module's input has digest %s, the claim names %s", got, cl.Input)
	}
	switch {
	case c.contents.Module == nil:
		return "", lack("no module was verified")
	case c.Runner == nil:
		return "", lack("there is no engine here to run the module")
	}
	result, fuelUsed, err := c.Runner.Run(c.contents.Module, input, cl.FuelLimit)
	switch {
	case err != nil:
		return "", lack("the module could not be run: %v", err)
	case !bytes.Equal(result, cl.Result):
		return "", fmt.Errorf("the module gives %x, the endorsers claim %x", result, cl.Result)
	case fuelUsed != cl.FuelUsed:
		return "", fmt.Errorf("the module uses %d fuel, the endorsers claim %d", fuelUsed, cl.FuelUsed)
	}
	return fmt.Sprintf("the module gives the same %d result bytes with the same %d fuel", len(result), fuelUsed), nil
}
