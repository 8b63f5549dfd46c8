package state_test

import (
	"crypto"
	"testing"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// B3: keys that would verify more than they should are not registered.
func TestB3_KeysAreCheckedAtRegistration(t *testing.T) {
	n, _ := ready(t)
	point := statetest.Tagged(2, statetest.Key("m"))
	for name, c := range map[string]struct {
		key    []byte
		want   reason.Reason
		holder []crypto.Signer
	}{
		"identity":               {append([]byte{2, 1}, make([]byte, 31)...), reason.WeakKey, nil},
		"order 2":                {append(append([]byte{2, 0xec}, repeat(0xff, 30)...), 0x7f), reason.WeakKey, nil},
		"not canonical":          {append(append([]byte{2, 0xee}, repeat(0xff, 30)...), 0x7f), reason.WeakKey, nil},
		"statement kind":         {append([]byte{1}, point[1:]...), reason.WeakKey, nil},
		"unknown kind":           {append([]byte{9}, point[1:]...), reason.Malformed, nil},
		"short":                  {point[:32], reason.Malformed, nil},
		"P-256 not on the curve": {append([]byte{3, 4}, repeat(7, 64)...), reason.WeakKey, nil},
		"good":                   {point, "", []crypto.Signer{statetest.Key("m")}},
	} {
		r := n.MeterRegistration("meter-2", statetest.Key("m"))
		r.Key = c.key
		if o := try(t, n, [][]byte{n.Sign(r, statetest.Body())}, nil)[0]; o.Reason != c.want {
			t.Errorf("meter, %s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
		node := n.Registration(statetest.Node{ID: "node-9", Organisation: "org-00", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Key("m")}, 1, digest.Zero)
		node.Key = c.key
		if o := try(t, n, [][]byte{n.Sign(node, append([]crypto.Signer{statetest.Root("org-00")}, c.holder...)...)}, nil)[0]; o.Reason != c.want {
			t.Errorf("node, %s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
}

func repeat(b byte, n int) []byte {
	s := make([]byte, n)
	for i := range s {
		s[i] = b
	}
	return s
}

// B4: what Checks lists is exactly what Submit will ask, so a host can have all
// answers before it applies.
func TestB4_ChecksListsWhatSubmitVerifies(t *testing.T) {
	n, m := ready(t)
	n.RegisterWith("meter-p256", statetest.P256Key("p"))
	batch := n.Batch(m.Capture(), m.Capture())
	for name, s := range map[string]*state.Submission{
		"measurements": statetest.Parse(batch.Records(), batch.Raw),
		"statement":    statetest.Parse([][]byte{status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)}, nil),
		"approval":     statetest.Parse([][]byte{n.SignApproval(renewed(n), statetest.Body(), statetest.Maker())}, nil),
		"config":       statetest.Parse([][]byte{signConfig(n, nextConfig(n))}, nil),
		"event":        statetest.Parse([][]byte{equivocation(n, m, nil)}, nil),
		"rollover": statetest.Parse([][]byte{n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID,
			Key: statetest.Tagged(3, statetest.P256Key("q")), FirstCounter: 9}, statetest.Body(), m.Key)}, nil),
	} {
		checks, err := state.Checks(n.Store, s)
		if err != nil {
			t.Fatal(err)
		}
		known := &listed{}
		for _, c := range checks {
			known.add(c.Key.Bytes(), c.Message, c.Signature)
		}
		head := n.Store.Head()
		b, err := state.Begin(n.Store, head, state.Options{Verifier: known}, head.CertifiedHeight, nil)
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := b.Submit(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range outcomes {
			if !o.Accepted {
				t.Errorf("%s, record %d: %s: %s", name, i, o.Reason, o.Detail)
			}
		}
		if len(checks) == 0 || known.asked != len(checks) {
			t.Errorf("%s: %d checks listed, %d asked", name, len(checks), known.asked)
		}
	}
}

func renewed(n *statetest.Network) *approval.Approval {
	a := n.Terms()
	a.NotAfterUnix++
	return a
}
