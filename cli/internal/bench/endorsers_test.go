package bench

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
)

// TestEndorsementCountsWhenItVerifies: only claims under a good signature count,
// and a refused sample is a failure.
func TestEndorsementCountsWhenItVerifies(t *testing.T) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	key, err := signature.KeyOf(signature.Ed25519ZIP215, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	network, module := digest.Plain([]byte("network")), digest.Plain([]byte("module"))
	made := func(claims ...string) *computev1.EndorseResponse {
		r := new(computev1.EndorseResponse)
		var hashes []digest.Digest
		for _, c := range claims {
			if c == "" {
				r.Outcomes = append(r.Outcomes, &computev1.SampleOutcome{Reason: "BAD_SIGNATURE"})
				continue
			}
			r.Outcomes = append(r.Outcomes, &computev1.SampleOutcome{Claim: []byte(c)})
			hashes = append(hashes, claim.Hash([]byte(c)))
		}
		r.Signature = ed25519.Sign(private, claim.EndorsementMessage(network, module, hashes))
		return r
	}
	altered := made("a", "b")
	altered.Outcomes[1].Claim = []byte("c")
	for _, c := range []struct {
		name   string
		answer *computev1.EndorseResponse
		claims int
		wrong  string
	}{
		{"good", made("a", "b"), 2, ""},
		{"one refused", made("a", ""), 1, "sample 2 of 2 is refused with BAD_SIGNATURE"},
		{"one missing", made("a"), 0, "1 outcomes for 2 samples"},
		{"altered", altered, 0, "does not verify"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &endorsing{run: &run{networkID: network}}
			claims, err := e.judge(&endorser{key: key}, module, 2, c.answer)
			if claims != c.claims || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%d claims and %v, want %d and %q", claims, err, c.claims, c.wrong)
			}
		})
	}
}

// TestEndorsersAndOverloadThatMeasuredNothingFail: nothing wrong of nothing is no
// result.
func TestEndorsersAndOverloadThatMeasuredNothingFail(t *testing.T) {
	good, bad := &Report{Verified: 1}, &Report{Verified: 1, Losses: Losses{Gaps: 1}}
	for name, c := range map[string]struct{ got, want bool }{
		"no claims":            {(&EndorsersReport{}).Failed(), true},
		"claims":               {(&EndorsersReport{Claims: 1}).Failed(), false},
		"a failure":            {(&EndorsersReport{Claims: 1, Failures: 1}).Failed(), true},
		"a peak and no more":   {(&OverloadReport{Peak: good, Overload: &Report{}}).Failed(), true},
		"both":                 {(&OverloadReport{Peak: good, Overload: good}).Failed(), false},
		"a gap under overload": {(&OverloadReport{Peak: good, Overload: bad}).Failed(), true},
		"a gap at the peak":    {(&OverloadReport{Peak: bad, Overload: good}).Failed(), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: failed is %v, want %v", name, c.got, c.want)
		}
	}
	if (EndorserOptions{}).Check() == nil || EndorserDefaults().Check() != nil {
		t.Errorf("no options are checked as %v, the defaults as %v", (EndorserOptions{}).Check(), EndorserDefaults().Check())
	}
}
