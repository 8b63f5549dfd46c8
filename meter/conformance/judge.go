package conformance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Judge checks a submission by itself.
func Judge(s *Submission) *Report { return judge(*s, nil) }

// JudgeVectors also checks that the samples are what the built-in inputs give.
func JudgeVectors(s *Submission) *Report { return judge(*s, Vectors()) }

// judging is the state along the chain.
type judging struct {
	submission *Submission
	vectors    *Submission // nil without
	key        signature.Key
	keyGood    bool

	expected uint64         // counter of the next sample
	before   *sample.Sample // the last sample; nil before the first and after one that does not parse
	lost     bool           // the last sample does not parse, so its digest is not known
	checks   *[]Check       // of what is being judged
}

func (j *judging) add(name string, v Verdict, format string, args ...any) {
	*j.checks = append(*j.checks, Check{Name: name, Requirement: requirements[name], Verdict: v, Detail: fmt.Sprintf(format, args...)})
}

// say is OK or Failed.
func (j *judging) say(name string, ok bool, format string, args ...any) {
	v := OK
	if !ok {
		v = Failed
	}
	j.add(name, v, format, args...)
}

// optional marks a check that is not made because nothing was told.
func (j *judging) optional(name, detail string) {
	*j.checks = append(*j.checks, Check{Name: name, Requirement: requirements[name], Verdict: NotChecked, Detail: detail, Optional: true})
}

func judge(s Submission, vectors *Submission) *Report {
	r := &Report{Checks: []Check{}, Samples: []SampleReport{}}
	j := &judging{submission: &s, vectors: vectors, expected: s.FirstCounter, checks: &r.Checks}
	j.meter()
	for i := range s.Samples {
		name := strconv.Itoa(i + 1)
		if s.Samples[i].Name != "" {
			name += ", " + s.Samples[i].Name
		}
		report := SampleReport{Name: name}
		j.checks = &report.Checks
		j.sample(i)
		r.Samples = append(r.Samples, report)
	}
	r.conclude()
	return r
}

// meter judges what holds for the whole chain.
func (j *judging) meter() {
	s := j.submission
	key, err := signature.ParseKey(s.PublicKey)
	if err == nil {
		err = signature.CheckKey(key)
	}
	switch {
	case err != nil:
		j.say(CheckKey, false, "%v", err)
	case key.Kind() == signature.Ed25519:
		j.say(CheckKey, false, "tag %d, want %d or %d: what a meter signs is judged by ZIP-215 or as P-256", key.Kind(), signature.Ed25519ZIP215, signature.P256)
	default:
		j.key, j.keyGood = key, true
		j.say(CheckKey, true, "%v, fit to be registered", key)
	}
	j.say(CheckFirst, s.FirstCounter > 0, "%d, want at least 1", s.FirstCounter)
	if len(s.Samples) == 0 {
		j.add(CheckChain, NotChecked, "there are none")
	} else {
		j.say(CheckChain, true, "%d", len(s.Samples))
	}
	if j.vectors != nil {
		j.say(CheckAgainstAll, len(s.Samples) == len(j.vectors.Samples), "%d samples, the vectors are %d", len(s.Samples), len(j.vectors.Samples))
		s.NetworkID, s.MeterID, s.FirstCounter = j.vectors.NetworkID, j.vectors.MeterID, j.vectors.FirstCounter
		s.Channels, s.SampleRateMillihertz = j.vectors.Channels, j.vectors.SampleRateMillihertz
		j.expected = s.FirstCounter
	}
}

// afterHeader are the checks that need a header that could be read.
var afterHeader = []string{
	CheckNetwork, CheckMeter, CheckShape, CheckCounter, CheckPrevious, CheckTime, CheckKnown,
	CheckRawDigest, CheckRawVector, CheckSigned, CheckSampleDigest, CheckSignatureForm, CheckSignature,
}

// sample judges one sample.
func (j *judging) sample(i int) {
	given := &j.submission.Samples[i]
	inputs := given
	if j.vectors != nil && i < len(j.vectors.Samples) {
		inputs = &j.vectors.Samples[i]
	}
	parsed := j.header(given.Header)
	if parsed == nil {
		for _, name := range afterHeader {
			j.add(name, NotChecked, "the header could not be read")
		}
		j.before, j.lost = nil, true
		j.expected++
		return
	}
	j.place(parsed)
	j.raw(given, parsed)
	j.signature(given, parsed)
	j.inputs(given, inputs, parsed)
	j.before, j.lost, j.expected = parsed, false, parsed.Counter+1
}

// header reads a header; nil if it is none.
func (j *judging) header(b []byte) *sample.Sample {
	parsed, err := sample.Parse(b)
	why := reason.Of(err)
	j.say(CheckHeaderSize, why != reason.TooLarge && len(b) > 0, "%d bytes, want 1 to %d", len(b), sample.MaxHeaderBytes)
	if why == reason.TooLarge || len(b) == 0 {
		j.add(CheckHeaderEncoding, NotChecked, "the header's size is wrong")
		j.add(CheckHeaderFields, NotChecked, "the header's size is wrong")
		return nil
	}
	if why == reason.NotCanonical {
		j.say(CheckHeaderEncoding, false, "%v", err)
		j.add(CheckHeaderFields, NotChecked, "the header is not canonical protobuf")
		return nil
	}
	j.say(CheckHeaderEncoding, true, "canonical protobuf")
	if err != nil {
		j.say(CheckHeaderFields, false, "%v", err)
		return nil
	}
	j.say(CheckHeaderFields, true, "all there and within bounds; status flags %#x, clock %s", parsed.StatusFlags, parsed.ClockSync)
	return parsed
}

// place judges whose sample it is and where it stands in the chain.
func (j *judging) place(h *sample.Sample) {
	s := j.submission
	j.say(CheckNetwork, bytes.Equal(h.NetworkID[:], s.NetworkID), "header %x, registered %x", h.NetworkID[:], []byte(s.NetworkID))
	j.say(CheckMeter, h.MeterID == s.MeterID, "header %q, registered %q", h.MeterID, s.MeterID)
	j.say(CheckShape, h.Channels == s.Channels && h.SampleRateMillihertz == s.SampleRateMillihertz,
		"header %d at %d mHz, registered %d at %d mHz", h.Channels, h.SampleRateMillihertz, s.Channels, s.SampleRateMillihertz)
	j.say(CheckCounter, h.Counter == j.expected, "%d, want %d", h.Counter, j.expected)
	switch {
	case j.lost:
		j.add(CheckPrevious, NotChecked, "the sample before could not be read, so its digest is not known")
	case j.before == nil:
		j.say(CheckPrevious, h.Previous.IsZero(), "%s, want it absent in the first sample", orAbsent(h.Previous))
	default:
		j.say(CheckPrevious, h.Previous == j.before.Digest, "%s, the sample before has %s", orAbsent(h.Previous), j.before.Digest)
	}
	if j.before == nil {
		j.say(CheckTime, true, "%d ns", h.CapturedAtUnixNano)
		j.say(CheckKnown, !h.KnownBlock.IsZero(), "height %d, block %s, want a digest that is not zero", h.KnownHeight, h.KnownBlock)
		return
	}
	before := j.before.Header
	j.say(CheckTime, h.CapturedAtUnixNano >= before.CapturedAtUnixNano, "%d ns after %d ns, want it not to decrease with the counter", h.CapturedAtUnixNano, before.CapturedAtUnixNano)
	// A meter that forgot the newest blocks in a restart names an older one: that
	// is allowed, two blocks at one height are not.
	known := !h.KnownBlock.IsZero() && (h.KnownHeight == before.KnownHeight) == (h.KnownBlock == before.KnownBlock)
	j.say(CheckKnown, known, "height %d, block %s after height %d, block %s; want a digest that is not zero, and one block for each height",
		h.KnownHeight, h.KnownBlock.Short(), before.KnownHeight, before.KnownBlock.Short())
}

func orAbsent(d digest.Digest) string {
	if d.IsZero() {
		return "absent"
	}
	return d.String()
}

// raw judges the raw vector.
func (j *judging) raw(given *Sample, h *sample.Sample) {
	if len(given.RawVector) == 0 {
		j.add(CheckRawDigest, NotChecked, "no raw vector was given")
		j.add(CheckRawVector, NotChecked, "no raw vector was given")
		return
	}
	d := sample.DigestRaw(given.RawVector)
	told := len(given.RawDigest) == 0 || bytes.Equal(given.RawDigest, d[:])
	j.say(CheckRawDigest, told && h.RawDigest == d, "header %s, submission %x, of the %d bytes %s", h.RawDigest, []byte(given.RawDigest), len(given.RawVector), d)
	if _, err := vector.Decode(h.Encoding, h.Channels, h.SamplesPerChannel, given.RawVector); err != nil {
		j.say(CheckRawVector, false, "%v", err)
		return
	}
	j.say(CheckRawVector, true, "%s of %d channels of %d samples in %d bytes", h.Encoding, h.Channels, h.SamplesPerChannel, len(given.RawVector))
}

// signature judges what was signed, and the signature.
func (j *judging) signature(given *Sample, h *sample.Sample) {
	if len(given.Signed) == 0 {
		j.optional(CheckSigned, "the submission does not say what it signed")
	} else {
		j.say(CheckSigned, bytes.Equal(given.Signed, h.Signed()), "submission %d bytes with SHA-256 %s, PAE(%s, header) %d with %s",
			len(given.Signed), digest.Plain(given.Signed).Short(), sample.PayloadType, len(h.Signed()), digest.Plain(h.Signed()).Short())
	}
	if len(given.Digest) == 0 {
		j.optional(CheckSampleDigest, "the submission does not say its digest")
	} else {
		j.say(CheckSampleDigest, bytes.Equal(given.Digest, h.Digest[:]), "submission %x, of the PAE %s", []byte(given.Digest), h.Digest)
	}
	if err := sample.CheckSignatureForm(given.Signature); err != nil {
		hint := ""
		if len(given.Signature) > 2 && given.Signature[0] == 0x30 {
			hint = "; it looks like DER, want r and s of 32 bytes each"
		}
		j.say(CheckSignatureForm, false, "%v%s", err, hint)
		j.add(CheckSignature, NotChecked, "the signature has no form that could be checked")
		return
	}
	if !j.keyGood {
		j.say(CheckSignatureForm, true, "%d bytes", signature.Size)
		j.add(CheckSignature, NotChecked, "the public key is not one that could be registered")
		return
	}
	verifies := func(message, sig []byte) bool { return signature.Verify(j.key.Kind(), j.key, message, sig) }
	good := verifies(h.Signed(), given.Signature)
	if !good && j.key.Kind() == signature.P256 {
		if low, ok := withOtherS(given.Signature); ok && verifies(h.Signed(), low) {
			j.say(CheckSignatureForm, false, "s is above half the group order; write n - s instead")
			j.add(CheckSignature, NotChecked, "it would verify with the other s")
			return
		}
	}
	j.say(CheckSignatureForm, true, "%d bytes", signature.Size)
	hint := ""
	switch {
	case good:
	case verifies(h.Bytes, given.Signature):
		hint = "; it verifies over the header alone: sign its PAE"
	default:
		if d := digest.Plain(h.Signed()); verifies(d[:], given.Signature) {
			hint = "; it verifies over the SHA-256 of the PAE: sign the PAE itself"
		} else if verifies(h.Digest[:], given.Signature) {
			hint = "; it verifies over the sample digest: sign the PAE itself"
		}
	}
	verb := "verifies"
	if !good {
		verb = "does not verify"
	}
	j.say(CheckSignature, good, "under the %v over the PAE it %s%s", j.key, verb, hint)
}

// inputs compares with what the firmware was given.
func (j *judging) inputs(given, inputs *Sample, h *sample.Sample) {
	if inputs.Values == "" {
		j.optional(CheckValues, "the submission does not say what was sampled")
	} else {
		j.values(given, inputs, h)
	}
	want, told := expected(inputs, h)
	switch {
	case !told:
		j.optional(CheckInputs, "the submission does not say what it was given")
	default:
		same := reflect.DeepEqual(want, h.Header)
		j.say(CheckInputs, same, "header %s, inputs give %s", brief(h.Header, want), brief(want, h.Header))
	}
	if j.vectors == nil {
		return
	}
	seed := j.vectors.Seed
	if len(given.Signature) != signature.Size || len(seed) != ed25519.SeedSize || j.key.Kind() != signature.Ed25519ZIP215 || !bytes.Equal(j.submission.PublicKey, j.vectors.PublicKey) {
		j.optional(CheckDeterministic, "the key is not the vectors' own, or there is no signature")
		return
	}
	sig := ed25519.Sign(ed25519.NewKeyFromSeed(seed), h.Signed())
	j.say(CheckDeterministic, bytes.Equal(sig, given.Signature), "%.16x.., RFC 8032 gives %.16x.. for this header under the vectors' key", []byte(given.Signature), sig)
}

func (j *judging) values(given, inputs *Sample, h *sample.Sample) {
	var want [][]int16
	if err := json.Unmarshal([]byte(inputs.Values), &want); err != nil {
		j.say(CheckValues, false, "values are not [channel][sample]: %v", err)
		return
	}
	got, err := vector.Decode(h.Encoding, h.Channels, h.SamplesPerChannel, given.RawVector)
	if err != nil {
		j.add(CheckValues, NotChecked, "the raw vector could not be read")
		return
	}
	for c := range got {
		if c >= len(want) || len(want[c]) != len(got[c]) {
			j.say(CheckValues, false, "decoded are %d channels of %d samples, given were %s", len(got), len(got[c]), shape(want))
			return
		}
		for i := range got[c] {
			if got[c][i] != want[c][i] {
				j.say(CheckValues, false, "channel %d, sample %d: decoded %d, given %d", c, i, got[c][i], want[c][i])
				return
			}
		}
	}
	j.say(CheckValues, len(got) == len(want), "%d channels decoded, %d given; all samples equal", len(got), len(want))
}

// shape says how many values were given.
func shape(values [][]int16) string {
	if len(values) > sample.MaxChannels {
		return fmt.Sprintf("%d channels", len(values))
	}
	lengths := make([]int, len(values))
	for c := range values {
		lengths[c] = len(values[c])
	}
	return fmt.Sprintf("%d channels of %v samples", len(values), lengths)
}

// expected is the header that the inputs give, with what the chain and the
// encoder decide taken from the header itself; told is false without any input.
func expected(inputs *Sample, h *sample.Sample) (want sample.Header, told bool) {
	want = h.Header
	set := func(given bool, to func()) {
		if given {
			told = true
			to()
		}
	}
	set(inputs.CapturedAtUnixNano != nil, func() { want.CapturedAtUnixNano = *inputs.CapturedAtUnixNano })
	set(inputs.ClockSync != nil, func() { want.ClockSync = recordv1.ClockSync(*inputs.ClockSync) })
	set(inputs.KnownHeight != nil, func() { want.KnownHeight = *inputs.KnownHeight })
	set(inputs.KnownBlock != nil, func() { want.KnownBlock = digestOf(inputs.KnownBlock) })
	set(inputs.Encoding != nil, func() { want.Encoding = recordv1.Encoding(*inputs.Encoding) })
	set(inputs.StatusFlags != nil, func() { want.StatusFlags = *inputs.StatusFlags })
	set(inputs.Counter != nil, func() { want.Counter = *inputs.Counter })
	set(inputs.Evidence != nil, func() {
		want.Evidence = nil
		for i := range *inputs.Evidence {
			want.Evidence = append(want.Evidence, (*inputs.Evidence)[i].evidence())
		}
	})
	return want, told
}

// digestOf is 32 given bytes; anything else is a digest that nothing has.
func digestOf(h *Hex) digest.Digest {
	if h == nil {
		return digest.Zero
	}
	d, err := digest.FromBytes(*h)
	if err != nil {
		return digest.Zero
	}
	return d
}

// brief shows the fields of a that differ from b's.
func brief(a, b sample.Header) string {
	out := ""
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if x, y := va.Field(i).Interface(), vb.Field(i).Interface(); !reflect.DeepEqual(x, y) {
			out += fmt.Sprintf("%s %v ", va.Type().Field(i).Name, x)
		}
	}
	if out == "" {
		return "the same"
	}
	return out[:len(out)-1]
}
