package receipt_test

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// n2of is the policy of two of the network's organisations.
func n2of(v *verdicts) policy.Policy {
	var all []policy.Policy
	for _, o := range v.Config.GetOrganisations() {
		all = append(all, policy.Organisation(o.GetId()))
	}
	return policy.OutOf(2, all...)
}

// forgeries breaks one rule of the steps at a time.
func (v *verdicts) forgeries() {
	stranger := statetest.Key("stranger")
	other := digest.Plain([]byte("other"))
	v.forge("nothing", receipt.Verified, "", -1, nil)
	for _, c := range []struct {
		name   string
		step   string
		stage  int
		change func(f *forgery)
	}{
		{"the origin of another network", receipt.StepRecordForm, atOrder, func(f *forgery) { f.origin = "test.lacre/0011223344556677" }},
		{"an origin without a name", receipt.StepRecordForm, atOrder, func(f *forgery) { f.origin = f.origin[len("test.lacre"):] }},

		{"another genesis configuration", receipt.StepConfiguration, atStatements, func(f *forgery) {
			f.config = v.nextConfig(1)
			f.config.Header.NetworkId = nil
		}},
		{"a configuration of another network", receipt.StepConfiguration, atStatements, func(f *forgery) {
			f.config = v.nextConfig(2)
			f.config.Header.NetworkId = other.Bytes()
		}},
		{"a configuration on another subject", receipt.StepConfiguration, atStatements, func(f *forgery) {
			f.config = v.nextConfig(2)
			f.config.Header.Subject = "networks"
		}},
		{"a configuration of another name", receipt.StepConfiguration, atStatements, func(f *forgery) {
			f.config = v.nextConfig(2)
			f.config.Name = "best.lacre"
		}},

		{"a registration of another type", receipt.StepRegistration, atStatements, func(f *forgery) { f.payloadType = record.TypeMeterStatus }},
		{"a registration on another subject", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.Header.Subject = "meter/m-8" }},
		{"a registration of another meter", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.MeterId = "m-8" }},
		{"a registration of another network", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.Header.NetworkId = other.Bytes() }},
		{"a registration for another module", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.Algorithm = other.Bytes() }},
		{"a registration of other channels", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.Channels = 3 }},
		{"a registration of another rate", receipt.StepRegistration, atStatements, func(f *forgery) { f.registration.SampleRateMillihertz++ }},
		{"a registration and an approval by a stranger", receipt.StepRegistration, atStatements, func(f *forgery) { f.body = stranger }},

		{"another key's sample", receipt.StepMeterSignature, atHeader, func(f *forgery) { f.key = stranger }},
		{"a counter below the first", receipt.StepMeterSignature, atStatements, func(f *forgery) { f.registration.FirstCounter = 6 }},
		{"a rollover for the same counter", receipt.StepMeterSignature, atStatements, func(f *forgery) { f.rollover(v, 1, stranger) }},
		{"a rollover for the same counter, whose key signs", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 1, stranger)
			f.key = stranger
		}},
		{"rollovers that descend by counter", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 8, statetest.Key("8"))
			f.rollover(v, 7, statetest.Key("7"))
		}},
		{"a rollover on another subject", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 9, stranger)
			f.rollovers[0].Header.Subject = "meter/m-8"
		}},
		{"a rollover of another network", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 9, stranger)
			f.rollovers[0].Header.NetworkId = other.Bytes()
		}},
		{"a rollover without the old key's signature", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 9, stranger)
			f.old = stranger
		}},
		{"a rollover before the registration", receipt.StepMeterSignature, atStatements, func(f *forgery) {
			f.rollover(v, 9, stranger)
			f.order = []string{"config", "node0", "node1", "approval", "rollover0", "registration", "set", "measurement"}
		}},

		{"an approval of another network", receipt.StepApproval, atStatements, func(f *forgery) { f.approval.NetworkID = other }},
		{"an approval of another module", receipt.StepApproval, atStatements, func(f *forgery) { f.approval.Module = other }},
		{"another profile than the claim's", receipt.StepApproval, atClaim, func(f *forgery) { f.claim.ProfileVersion++ }},
		{"an approval for later", receipt.StepApproval, atStatements, func(f *forgery) { f.approval.NotBeforeUnix = v.NowUnix + 1 }},
		{"an approval in the name of another body", receipt.StepApproval, atStatements, func(f *forgery) { f.approval.NotifiedBody = "nb-2" }},
		{"an approval without its manufacturer", receipt.StepApproval, atStatements, func(f *forgery) { f.maker = stranger }},
		{"a valid result without values", receipt.StepApproval, atClaim, func(f *forgery) { f.claim.Result = statetest.Result(0) }},

		{"a set of another network", receipt.StepEndorsements, atSet, func(f *forgery) { f.set.NetworkId = other.Bytes() }},
		{"a set of another module", receipt.StepEndorsements, atSet, func(f *forgery) { f.set.Algorithm = other.Bytes() }},
		{"a set of another claim", receipt.StepEndorsements, atSet, func(f *forgery) { f.set.Claims[0] = other.Bytes() }},
		{"a leaf hash of 31 bytes beside it", receipt.StepEndorsements, atSet, func(f *forgery) { f.set.Claims = append(f.set.Claims, make([]byte, 31)) }},
		{"another set than the measurement names", receipt.StepEndorsements, atMeasurement, func(f *forgery) { f.measurement.EndorsementSet = other.Bytes() }},
		{"a claim index beyond the set", receipt.StepEndorsements, atMeasurement, func(f *forgery) { f.measurement.ClaimIndex = 1 }},
		{"endorsers that descend", receipt.StepEndorsements, atEndorsed, func(f *forgery) { slices.Reverse(f.set.Endorsements) }},
		{"an endorser twice", receipt.StepEndorsements, atEndorsed, func(f *forgery) { f.set.Endorsements[1] = f.set.Endorsements[0] }},
		{"an endorsement that does not verify", receipt.StepEndorsements, atEndorsed, func(f *forgery) { f.set.Endorsements[1].Signature[0] ^= 1 }},
		{"an endorsement cut short", receipt.StepEndorsements, atEndorsed, func(f *forgery) { f.set.Endorsements[1].Signature = f.set.Endorsements[1].Signature[:63] }},
		{"a set behind its measurement", receipt.StepEndorsements, atOrder, func(f *forgery) {
			f.order = []string{"config", "node0", "node1", "approval", "registration", "measurement", "set"}
		}},
		{"a node of another network", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].Header.NetworkId = other.Bytes() }},
		{"a node on another subject", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].Header.Subject = "node/other" }},
		{"a node of another id", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].NodeId = "other" }},
		{"a gateway that endorses", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].Role = recordv1.Role_ROLE_GATEWAY }},
		{"a node of another organisation's root", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].Organisation = "org-02" }},
		{"a node of no organisation", receipt.StepEndorsements, atStatements, func(f *forgery) { f.nodes[1].Organisation = "org-99" }},
		{"nodes by a stranger", receipt.StepEndorsements, atStatements, func(f *forgery) { f.root = stranger }},
		{"two endorsers of one organisation", receipt.StepEndorsements, atStatements, func(f *forgery) {
			f.nodes[0].Organisation, f.nodes[1].Organisation, f.root = "org-00", "org-00", statetest.Root("org-00")
		}},

		{"a raw vector that does not decode", receipt.StepReExecution, atStatements, func(f *forgery) {
			f.raw = f.raw[1:]
			f.header.RawDigest = sample.DigestRaw(f.raw)
		}},
	} {
		v.forge(c.name, receipt.Refuted, c.step, c.stage, c.change)
	}
	v.forgedKeys()
	v.forgedTables()
	v.forgedHistories()
	v.forgedUndecided()
}

// forgedKeys are keys and signatures that are right in other ways.
func (v *verdicts) forgedKeys() {
	identity := append([]byte{2, 1}, make([]byte, 31)...)
	// R is the identity and S is 0: under the identity as key ZIP-215 takes it for any message.
	anything := append(append([]byte{1}, make([]byte, 31)...), make([]byte, 32)...)
	b := v.forgedWith(map[int]func(f *forgery){
		atStatements: func(f *forgery) { f.registration.Key = identity },
		atSignature:  func(f *forgery) { f.signature = anything },
	})
	v.bundle("forged: a signature that a weak key takes for any message", b, receipt.Refuted, receipt.StepMeterSignature, func(*recordv1.Bundle) {})
	v.forge("a rollover that is not yet in force", receipt.Verified, "", atStatements, func(f *forgery) { f.rollover(v, 6, statetest.Key("6")) })
	v.forge("the newest of two rollovers", receipt.Verified, "", atStatements, func(f *forgery) {
		f.rollover(v, 2, statetest.Key("2"))
		f.key = statetest.Key("2")
	})
	v.forge("the key before a rollover in force", receipt.Refuted, receipt.StepMeterSignature, atStatements, func(f *forgery) { f.rollover(v, 5, statetest.Key("5")) })
	v.forge("a later configuration, signed by strangers", receipt.Verified, "", atStatements, func(f *forgery) {
		f.config, f.body, f.root = v.nextConfig(2), statetest.Key("stranger"), statetest.Key("stranger")
	})
	v.forge("a later configuration, no manufacturer", receipt.Refuted, receipt.StepApproval, atStatements, func(f *forgery) {
		f.config, f.maker = v.nextConfig(2), statetest.Key("stranger")
	})
	v.forge("a later configuration, no old key", receipt.Refuted, receipt.StepMeterSignature, atStatements, func(f *forgery) {
		f.config, f.old = v.nextConfig(2), statetest.Key("stranger")
		f.rollover(v, 9, statetest.Key("9"))
	})
	v.forge("a refusal with all values", receipt.Verified, "", atClaim, func(f *forgery) { f.claim.Result = statetest.Result(8, 0, 0) })
	v.forge("a failed execution", receipt.Verified, "", atClaim, func(f *forgery) { f.claim.Result = statetest.Result(100) })
	v.forge("a refusal with one value of two", receipt.Refuted, receipt.StepApproval, atClaim, func(f *forgery) { f.claim.Result = statetest.Result(8, 0) })
	v.forge("a name of two schemas", receipt.Verified, "", atStatements, func(f *forgery) {
		f.approval.Schema.Parameters = []approval.Field{{Name: "sum", Unit: "1"}}
	})
}

// forgedUndecided is what is missing beside what is wrong: an item that is
// wrong in itself is refuted even where another is not there.
func (v *verdicts) forgedUndecided() {
	wrong := v.forged(atStatements, func(f *forgery) { f.registration.Channels = 3 })
	v.bundle("forged: a wrong registration without a configuration", wrong, receipt.Refuted, receipt.StepRegistration, func(b *recordv1.Bundle) { b.Config = nil })
	wrong = v.forged(atSet, func(f *forgery) { f.set.Algorithm = bytes.Repeat([]byte{1}, 32) })
	v.bundle("forged: a wrong set without an approval", wrong, receipt.Refuted, receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Approval = nil })
	v.forge("another profile everywhere", receipt.Verified, "", atStatements, func(f *forgery) { f.approval.ProfileVersion = 2 })
}

// forgedWith makes changes at several stages.
func (v *verdicts) forgedWith(changes map[int]func(f *forgery)) *recordv1.Bundle {
	v.Helper()
	return v.forgedAt(func(stage int, f *forgery) {
		if change := changes[stage]; change != nil {
			change(f)
		}
	})
}

// nextConfig is the configuration in force at a place of its chain, with other limits.
func (v *verdicts) nextConfig(sequence uint64) *recordv1.NetworkConfig {
	c := proto.CloneOf(v.Config)
	c.Header = &recordv1.StatementHeader{NetworkId: v.ID.Bytes(), Subject: record.SubjectNetwork, Sequence: sequence, Predecessor: make([]byte, 32)}
	c.Limits.MaxMissingRanges++
	return c
}
