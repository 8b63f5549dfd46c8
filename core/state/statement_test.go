package state_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestS4_NetworkConfigs(t *testing.T) {
	base := statetest.New(t, statetest.Options{})
	for _, c := range []struct {
		name    string
		change  func(c *recordv1.NetworkConfig)
		want    reason.Reason
		newKeys []crypto.Signer // which must sign along
	}{
		{"nothing but the sequence", func(*recordv1.NetworkConfig) {}, "", nil},
		{"other limits", func(c *recordv1.NetworkConfig) { c.Limits.MaxMissingRanges = 3 }, "", nil},
		{"renamed", func(c *recordv1.NetworkConfig) { c.Name = "other" }, reason.InvalidStatement, nil},
		{"a later record version", func(c *recordv1.NetworkConfig) { c.RecordVersion = 2 }, "", nil}, // TestC5_ALaterRecordVersionStopsThisCode
		{"no record version", func(c *recordv1.NetworkConfig) { c.RecordVersion = 0 }, reason.InvalidStatement, nil},
		{"future bound below 10 s", func(c *recordv1.NetworkConfig) { c.Limits.FutureBoundNano = 10*second - 1 }, reason.InvalidStatement, nil},
		{"no lateness bound", func(c *recordv1.NetworkConfig) { c.Limits.LatenessBoundNano = 0 }, reason.InvalidStatement, nil},
		{"no gaps", func(c *recordv1.NetworkConfig) { c.Limits.MaxMissingRanges = 0 }, reason.InvalidStatement, nil},
		{"too many gaps", func(c *recordv1.NetworkConfig) { c.Limits.MaxMissingRanges = 1025 }, reason.InvalidStatement, nil},
		{"nothing uncertified", func(c *recordv1.NetworkConfig) { c.Limits.MaxUncertifiedBlocks = 0 }, reason.InvalidStatement, nil},
		{"too much uncertified", func(c *recordv1.NetworkConfig) { c.Limits.MaxUncertifiedBlocks = 1025 }, reason.InvalidStatement, nil},
		{"no limits", func(c *recordv1.NetworkConfig) { c.Limits = nil }, reason.InvalidStatement, nil},
		{"no organisations", func(c *recordv1.NetworkConfig) { c.Organisations = nil }, reason.InvalidStatement, nil},
		{"no replicas", func(c *recordv1.NetworkConfig) { c.Replicas = nil }, reason.InvalidStatement, nil},
		{"no notified body", func(c *recordv1.NetworkConfig) { c.NotifiedBodies = nil }, reason.InvalidStatement, nil},
		{"unsorted organisations", func(c *recordv1.NetworkConfig) {
			c.Organisations[0], c.Organisations[1] = c.Organisations[1], c.Organisations[0]
		}, reason.InvalidStatement, nil},
		{"replica twice", func(c *recordv1.NetworkConfig) { c.Replicas[1] = c.Replicas[0] }, reason.InvalidStatement, nil},
		{"root key twice", func(c *recordv1.NetworkConfig) { c.Organisations[1].RootKey = c.Organisations[0].RootKey }, reason.InvalidStatement, nil},
		{"cosigner key twice", func(c *recordv1.NetworkConfig) { c.Replicas[3].CosignerKey = c.Replicas[2].CosignerKey }, reason.InvalidStatement, nil},
		{"cosigner key changed", func(c *recordv1.NetworkConfig) {
			c.Replicas[3].CosignerKey = statetest.Tagged(signature.Ed25519, statetest.Key("another"))
		}, reason.InvalidStatement, []crypto.Signer{statetest.Key("another")}},
		{"log key changed", func(c *recordv1.NetworkConfig) {
			c.Replicas[3].LogKey = statetest.Tagged(signature.Ed25519, statetest.Key("another"))
		}, "", []crypto.Signer{statetest.Key("another")}},
		{"one key for log and cosigner", func(c *recordv1.NetworkConfig) { c.Replicas[3].LogKey = c.Replicas[3].CosignerKey }, reason.InvalidStatement, nil},
		{"cosigner of another kind", func(c *recordv1.NetworkConfig) {
			c.Replicas[3].CosignerKey = statetest.Tagged(signature.P256, statetest.P256Key("x"))
		}, reason.InvalidStatement, nil},
		{"weak cosigner key", func(c *recordv1.NetworkConfig) {
			c.Replicas[3].LogKey = append([]byte{1, 1}, make([]byte, 31)...)
		}, reason.WeakKey, nil},
		{"weak root key", func(c *recordv1.NetworkConfig) {
			c.Organisations[3].RootKey = append([]byte{1, 1}, make([]byte, 31)...)
		}, reason.WeakKey, nil},
		{"root key for samples", func(c *recordv1.NetworkConfig) { c.Organisations[3].RootKey[0] = 2 }, reason.WeakKey, nil},
		{"no body key", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Keys = nil }, reason.InvalidStatement, nil},
		{"an empty body key", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Keys[0] = []byte{} }, reason.Malformed, nil},
		{"17 body keys", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Keys = bodyKeys(17) }, reason.InvalidStatement, nil},
		{"16 body keys", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Keys = bodyKeys(16) }, "", bodySigners(16)},
		{"body keys out of order", func(c *recordv1.NetworkConfig) {
			c.NotifiedBodies[0].Keys = bodyKeys(2)
			slices.Reverse(c.NotifiedBodies[0].Keys)
		}, reason.InvalidStatement, nil},
		{"one body key twice", func(c *recordv1.NetworkConfig) {
			c.NotifiedBodies[0].Keys = slices.Repeat(c.NotifiedBodies[0].Keys, 2)
		}, reason.InvalidStatement, nil},
		{"threshold 0", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Threshold = 0 }, reason.InvalidStatement, nil},
		{"threshold 2 of 1", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Threshold = 2 }, reason.InvalidStatement, nil},
		{"a key of two bodies", func(c *recordv1.NetworkConfig) {
			c.NotifiedBodies = append(c.NotifiedBodies, &recordv1.NotifiedBody{Id: "nc", Keys: c.NotifiedBodies[0].Keys, Threshold: 1})
		}, reason.InvalidStatement, nil},
		{"a body for which a stranger acts", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Organisation = "nobody" }, reason.InvalidStatement, nil},
		{"a body for which an organisation acts", func(c *recordv1.NetworkConfig) { c.NotifiedBodies[0].Organisation = "org-02" }, "", nil},
		{"P-256 body", func(c *recordv1.NetworkConfig) {
			c.NotifiedBodies[0].Keys[0] = statetest.Tagged(signature.P256, statetest.P256Key("x"))
		}, "", []crypto.Signer{statetest.P256Key("x")}},
		{"replica of nobody", func(c *recordv1.NetworkConfig) { c.Replicas[3].Organisation = "nobody" }, reason.InvalidStatement, nil},
		{"replica of another", func(c *recordv1.NetworkConfig) { c.Replicas[3].Organisation = "org-00" }, reason.InvalidStatement, nil},
		{"unregistered replica", func(c *recordv1.NetworkConfig) {
			c.Replicas[3] = statetest.NewReplica("replica-09", "org-03").Message()
		}, reason.InvalidStatement, []crypto.Signer{statetest.Key("cosigner/replica-09"), statetest.Key("log/replica-09")}},
		{"an endorser as replica", func(c *recordv1.NetworkConfig) {
			c.Replicas = append([]*recordv1.Replica{statetest.NewReplica("endorser-03", "org-03").Message()}, c.Replicas[:3]...)
		}, reason.InvalidStatement, []crypto.Signer{statetest.Key("cosigner/endorser-03"), statetest.Key("log/endorser-03")}},
		{"bad id", func(c *recordv1.NetworkConfig) { c.Organisations[0].Id = "Org" }, reason.InvalidStatement, nil},
		{"bad subject", func(c *recordv1.NetworkConfig) { c.Header.Subject = "networks" }, reason.Malformed, nil},
		{"no sequence", func(c *recordv1.NetworkConfig) { c.Header.Sequence = 0 }, reason.Malformed, nil},
		{"no predecessor", func(c *recordv1.NetworkConfig) { c.Header.Predecessor = nil }, reason.Malformed, nil},
		{"second genesis", func(c *recordv1.NetworkConfig) {
			c.Header.Sequence, c.Header.Predecessor, c.Header.NetworkId, c.Name = 1, nil, nil, "other"
		}, reason.WrongNetwork, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := nextConfig(base)
			c.change(config)
			refuseStatement(t, base, signConfig(base, config, c.newKeys...), c.want)
		})
	}
	two := base.Sign(nextConfig(base), statetest.Root("org-00"), statetest.Root("org-01"))
	refuseStatement(t, base, two, reason.NotAuthorised) // half is no majority
	body := base.Sign(nextConfig(base), statetest.Root("org-00"), statetest.Root("org-01"), statetest.Body())
	refuseStatement(t, base, body, reason.NotAuthorised)
	// A new organisation signs along, and does not count.
	config := nextConfig(base)
	config.Organisations = append(config.Organisations, &recordv1.Organisation{Id: "org-99", RootKey: statetest.Tagged(signature.Ed25519, statetest.Root("org-99"))})
	refuseStatement(t, base, base.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-99")), reason.NotAuthorised)
	refuseStatement(t, base, base.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), statetest.Root("org-99")), "")
}

func TestS4_Nodes(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	node := statetest.Node{ID: "node-9", Organisation: "org-01", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Key("node-9")}
	register := func(change func(*recordv1.NodeRegistration), root string) []byte {
		r := n.Registration(node, 1, digest.Zero)
		r.Header = n.Header("node/node-9")
		change(r)
		holder := node.Key
		for _, name := range []string{"endorser-00", "z"} { // the keys that a change may name
			for _, key := range []ed25519.PrivateKey{statetest.Key("node/" + name), statetest.Key(name)} {
				if bytes.Equal(r.Key, statetest.Tagged(2, key)) {
					holder = key
				}
			}
		}
		return n.Sign(r, statetest.Root(root), holder)
	}
	same := func(*recordv1.NodeRegistration) {}
	refuseStatement(t, n, register(same, "org-00"), reason.NotAuthorised)
	for name, c := range map[string]struct {
		change func(*recordv1.NodeRegistration)
		want   reason.Reason
	}{
		"no role":               {func(r *recordv1.NodeRegistration) { r.Role = 0 }, reason.Malformed},
		"no TLS key":            {func(r *recordv1.NodeRegistration) { r.TlsSpki = nil }, reason.Malformed},
		"another's TLS key":     {func(r *recordv1.NodeRegistration) { r.TlsSpki = statetest.SPKI("replica-00").Bytes() }, reason.KeyInUse},
		"another's key":         {func(r *recordv1.NodeRegistration) { r.Key = statetest.Tagged(2, n.Endorsers[0].Key) }, reason.KeyInUse},
		"another subject":       {func(r *recordv1.NodeRegistration) { r.NodeId = "node-8" }, reason.Malformed},
		"unknown organisation":  {func(r *recordv1.NodeRegistration) { r.Organisation = "nobody" }, reason.NotAuthorised},
		"organisation's bad id": {func(r *recordv1.NodeRegistration) { r.Organisation = "" }, reason.NotAuthorised},
	} {
		if o := try(t, n, [][]byte{register(c.change, "org-01")}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
	revoke := func(root string) []byte {
		return n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/node-9"), NodeId: "node-9", Reason: "stolen"}, statetest.Root(root))
	}
	refuseStatement(t, n, revoke("org-01"), reason.InvalidStatement) // not registered yet
	index := n.Accept(register(same, "org-01"))
	value, err := state.GetNode(n.Store, "node-9")
	if err != nil || value.GetRegistrationIndex() != index || value.GetRole() != int32(recordv1.Role_ROLE_ENDORSER) {
		t.Errorf("node is %v (%v)", value, err)
	}
	// A second registration changes the TLS key, and nothing else.
	refuseStatement(t, n, register(func(r *recordv1.NodeRegistration) { r.Key = statetest.Tagged(2, statetest.Key("z")) }, "org-01"), reason.InvalidStatement)
	refuseStatement(t, n, register(func(r *recordv1.NodeRegistration) { r.Role = recordv1.Role_ROLE_REPLICA }, "org-01"), reason.InvalidStatement)
	refuseStatement(t, n, register(func(r *recordv1.NodeRegistration) { r.Organisation = "org-00" }, "org-00"), reason.InvalidStatement)
	spki := statetest.SPKI("new").Bytes()
	n.Accept(register(func(r *recordv1.NodeRegistration) { r.TlsSpki = spki }, "org-01"))
	for _, s := range [][]byte{spki, statetest.SPKI("node-9").Bytes()} {
		if subject, err := state.TLSSubject(n.Store, s); subject != "node/node-9" || err != nil {
			t.Errorf("TLS key is of %q (%v)", subject, err)
		}
	}
	refuseStatement(t, n, revoke("org-00"), reason.NotAuthorised)
	n.Accept(revoke("org-01"))
	refuseStatement(t, n, revoke("org-01"), reason.InvalidStatement)
	refuseStatement(t, n, register(same, "org-01"), reason.InvalidStatement)
}

func TestS4_Approvals(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	sign := func(change func(*approval.Approval)) []byte {
		a := n.Terms()
		change(a)
		return n.SignApproval(a, statetest.Body(), statetest.Maker())
	}
	refuseStatement(t, n, n.SignApproval(n.Terms(), statetest.Body()), reason.NotAuthorised)
	refuseStatement(t, n, n.SignApproval(n.Terms(), statetest.Maker()), reason.NotAuthorised)
	refuseStatement(t, n, n.SignApproval(n.Terms(), statetest.Maker(), statetest.Root("org-00")), reason.NotAuthorised)
	refuseStatement(t, n, sign(func(a *approval.Approval) { a.NotifiedBody = "other" }), reason.NotAuthorised)
	refuseStatement(t, n, sign(func(a *approval.Approval) { a.NetworkID = stranger }), reason.WrongNetwork)
	refuseStatement(t, n, sign(func(a *approval.Approval) { a.ProfileVersion = 2 }), reason.InvalidStatement)
	refuseStatement(t, n, sign(func(a *approval.Approval) { a.Policy = policy.Organisation("nobody") }), reason.UnknownOrganisation)
	payload, err := n.Terms().Encode()
	if err != nil {
		t.Fatal(err)
	}
	e, err := record.SignStatement(record.TypeApproval, append(payload, ' '), statetest.Body(), statetest.Maker())
	if err != nil {
		t.Fatal(err)
	}
	spaced, err := record.FromEnvelope(e)
	if err != nil {
		t.Fatal(err)
	}
	refuseStatement(t, n, spaced, reason.NotCanonical)
	one := n.Terms()
	one.Manufacturer.Key, _ = signature.KeyOf(signature.Ed25519, statetest.Body().Public())
	refuseStatement(t, n, n.SignApproval(one, statetest.Body()), reason.NotAuthorised) // one key is not two parties
	refuseStatement(t, n, algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, 1), reason.UnknownAlgorithm)
	n.Approve()

	// A renewal keeps what the module is.
	refuseStatement(t, n, sign(func(a *approval.Approval) { a.NotAfterUnix++; a.Policy = policy.Organisation("org-00") }), "")
	for name, change := range map[string]func(*approval.Approval){
		"fuel":    func(a *approval.Approval) { a.FuelLimit++ },
		"schema":  func(a *approval.Approval) { a.Schema.Values = a.Schema.Values[:2] },
		"name":    func(a *approval.Approval) { a.ModuleName = "other" },
		"version": func(a *approval.Approval) { a.ModuleVersion = "2" },
		"begin":   func(a *approval.Approval) { a.NotBeforeUnix++ },
		"maker":   func(a *approval.Approval) { a.Manufacturer.Name = "other" },
	} {
		if o := try(t, n, [][]byte{sign(change)}, nil)[0]; o.Reason != reason.InvalidStatement {
			t.Errorf("renewal with another %s: %q", name, o.Reason)
		}
	}
	const suspend, resume, withdraw = recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW
	refuseStatement(t, n, algorithmStatus(n, 0, 1), reason.Malformed)
	refuseStatement(t, n, algorithmStatus(n, suspend, 0), reason.InvalidStatement)
	refuseStatement(t, n, algorithmStatus(n, withdraw, 1), reason.InvalidStatement)
	refuseStatement(t, n, algorithmStatus(n, resume, 1), reason.InvalidStatement)
	n.Accept(algorithmStatus(n, suspend, 100))
	refuseStatement(t, n, algorithmStatus(n, suspend, 200), reason.InvalidStatement)
	refuseStatement(t, n, algorithmStatus(n, resume, 99), reason.InvalidStatement)
	n.Approve() // a renewal while suspended leaves it suspended
	n.Accept(algorithmStatus(n, resume, 200))
	refuseStatement(t, n, algorithmStatus(n, suspend, 199), reason.Overlapping)
	refuseStatement(t, n, algorithmStatus(n, suspend, 200), "")
	n.Accept(algorithmStatus(n, withdraw, 0))
	refuseStatement(t, n, algorithmStatus(n, suspend, 300), reason.InvalidStatement)
	refuseStatement(t, n, sign(func(*approval.Approval) {}), reason.InvalidStatement)
	refuseStatement(t, n, n.Sign(n.MeterRegistration("meter-1", statetest.Key("m")), statetest.Body()), reason.AlgorithmNotInForce)
}

func TestS4_Meters(t *testing.T) {
	n, m := ready(t)
	register := func(change func(*recordv1.MeterRegistration)) []byte {
		r := n.MeterRegistration("meter-2", statetest.Key("m2"))
		change(r)
		return n.Sign(r, statetest.Body())
	}
	for name, c := range map[string]struct {
		change func(*recordv1.MeterRegistration)
		want   reason.Reason
	}{
		"good":               {func(*recordv1.MeterRegistration) {}, ""},
		"unknown module":     {func(r *recordv1.MeterRegistration) { r.Algorithm = stranger.Bytes() }, reason.UnknownAlgorithm},
		"no module":          {func(r *recordv1.MeterRegistration) { r.Algorithm = nil }, reason.Malformed},
		"too few parameters": {func(r *recordv1.MeterRegistration) { r.Parameters = r.Parameters[:1] }, reason.InvalidStatement},
		"one channel":        {func(r *recordv1.MeterRegistration) { r.Channels = 1 }, reason.InvalidStatement},
		"16 channels":        {func(r *recordv1.MeterRegistration) { r.Channels = 16 }, ""},
		"at the pole": {func(r *recordv1.MeterRegistration) {
			r.Site.LatitudeE7, r.Site.LongitudeE7 = 900_000_000, -1_800_000_000
		}, ""},
		"beyond the pole":  {func(r *recordv1.MeterRegistration) { r.Site.LatitudeE7 = -900_000_001 }, reason.InvalidStatement},
		"beyond the line":  {func(r *recordv1.MeterRegistration) { r.Site.LongitudeE7 = 1_800_000_001 }, reason.InvalidStatement},
		"17 channels":      {func(r *recordv1.MeterRegistration) { r.Channels = 17 }, reason.InvalidStatement},
		"no rate":          {func(r *recordv1.MeterRegistration) { r.SampleRateMillihertz = 0 }, reason.InvalidStatement},
		"no first counter": {func(r *recordv1.MeterRegistration) { r.FirstCounter = 0 }, reason.InvalidStatement},
		"no verification":  {func(r *recordv1.MeterRegistration) { r.Verification = nil }, reason.InvalidStatement},
		"verified backwards": {func(r *recordv1.MeterRegistration) {
			r.Verification.ValidUntilUnixNano = r.Verification.ValidFromUnixNano
		}, reason.InvalidStatement},
		"not on Earth":     {func(r *recordv1.MeterRegistration) { r.Site.LatitudeE7 = 900_000_001 }, reason.InvalidStatement},
		"long model":       {func(r *recordv1.MeterRegistration) { r.Model = strings.Repeat("x", 129) }, reason.TooLarge},
		"short TLS key":    {func(r *recordv1.MeterRegistration) { r.TlsSpki = []byte{1} }, reason.Malformed},
		"a node's TLS key": {func(r *recordv1.MeterRegistration) { r.TlsSpki = statetest.SPKI("replica-00").Bytes() }, reason.KeyInUse},
		"another's key":    {func(r *recordv1.MeterRegistration) { r.Key = statetest.Tagged(2, m.Key) }, reason.KeyInUse},
		"bad id":           {func(r *recordv1.MeterRegistration) { r.MeterId = "meter/2" }, reason.Malformed},
		"no key":           {func(r *recordv1.MeterRegistration) { r.Key = nil }, reason.Malformed},
	} {
		if o := try(t, n, [][]byte{register(c.change)}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
	// Never overwritten, whatever the sequence says.
	again := n.MeterRegistration(m.ID, statetest.Key("new"))
	refuseStatement(t, n, n.Sign(again, statetest.Body()), reason.AlreadyRegistered)
	again.Header.Sequence, again.Header.Predecessor = 1, nil
	refuseStatement(t, n, n.Sign(again, statetest.Body()), reason.OutOfSequence)

	const (
		suspend      = recordv1.MeterAction_METER_ACTION_SUSPEND
		broken       = recordv1.MeterAction_METER_ACTION_SEAL_BROKEN
		verified     = recordv1.MeterAction_METER_ACTION_VERIFIED
		decommission = recordv1.MeterAction_METER_ACTION_DECOMMISSION
	)
	verify := func(from, until int64) []byte {
		return n.Sign(&recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: verified,
			Verification: &recordv1.Verification{Certificate: "next", ValidFromUnixNano: from, ValidUntilUnixNano: until}}, statetest.Body())
	}
	refuseStatement(t, n, status(n, &statetest.Meter{ID: "meter-9"}, broken, 0), reason.UnknownMeter)
	refuseStatement(t, n, status(n, m, 0, 0), reason.Malformed)
	refuseStatement(t, n, status(n, m, suspend, 0), reason.InvalidStatement)
	refuseStatement(t, n, status(n, m, broken, 1), reason.InvalidStatement)
	refuseStatement(t, n, status(n, m, verified, 0), reason.InvalidStatement)
	refuseStatement(t, n, verify(1, 2), reason.Overlapping) // before the one in force
	refuseStatement(t, n, verify((statetest.GenesisUnix-86_400)*second, 1<<62), reason.Overlapping)
	refuseStatement(t, n, verify(2, 1), reason.InvalidStatement)
	at := statetest.GenesisUnix * second
	n.Accept(verify(at+100, at+200))
	for captured, want := range map[int64]reason.Reason{at + 99: "", at + 100: "", at + 199: "", at + 200: reason.OutOfVerification} {
		if o := n.Batch(m.Peek(atNano(captured))); o != nil {
			wantReason(t, try(t, n, o.Records(), o.Raw)[1], want)
		}
	}
	n.Accept(status(n, m, decommission, at+150))
	roll := func() []byte {
		return n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID,
			Key: statetest.Tagged(2, statetest.Key("new")), FirstCounter: 9}, statetest.Body(), m.Key)
	}
	refuseStatement(t, n, roll(), reason.InvalidStatement)
	refuseStatement(t, n, status(n, m, decommission, at+150), reason.InvalidStatement)
	refuseStatement(t, n, status(n, m, suspend, at), reason.InvalidStatement)
	refuseStatement(t, n, verify(at+300, at+400), reason.InvalidStatement)
	n.Accept(status(n, m, broken, 0))
	refuseStatement(t, n, status(n, m, broken, 0), reason.InvalidStatement)
	refuseStatement(t, n, roll(), reason.InvalidStatement)
}

func TestGenesisNeedsAWholeNetwork(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	records := n.GenesisRecords()
	at := statetest.GenesisUnix * second
	for name, c := range map[string]struct {
		records [][]byte
		at      int64
	}{
		"nothing":                {nil, at},
		"no time":                {records, 0},
		"replicas missing":       {records[:3], at},
		"registrations first":    {append([][]byte{records[1]}, records...), at},
		"configuration twice":    {append([][]byte{records[0]}, records...), at},
		"signed by half of them": {append([][]byte{n.Sign(n.Config, statetest.Root("org-00"), statetest.Root("org-01"))}, records[1:]...), at},
		"an event in it":         {append(records[:len(records):len(records)], signReport(n, &recordv1.EventReport{NetworkId: n.ID.Bytes(), Reporter: "endorser-00", Kind: 3}, statetest.Key("node/endorser-00"))), at},
	} {
		if _, err := state.Genesis(c.records, c.at, state.Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := state.Genesis(records, at, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if want := n.Store.Blocks[0]; sealed.Complete(want.Root) != want {
		t.Errorf("genesis is %+v, was %+v", sealed.Ref, n.Store.Blocks[0])
	}
	config, err := state.GetConfig(n.Store)
	if err != nil || config.NetworkID != n.ID || config.Digest != n.ID || config.Origin() != fmt.Sprintf("test.lacre/%.16s", n.ID) {
		t.Errorf("network %s, origin %s (%v)", config.NetworkID.Short(), config.Origin(), err)
	}
}

func TestNextStatement(t *testing.T) {
	n, m := ready(t)
	for subject, want := range map[string]uint64{
		"network": 2, "node/replica-00": 2, "node/none": 1, "meter/" + m.ID: 2, "meter/none": 1,
		record.SubjectAlgorithm(n.Algorithm): 2, record.SubjectAlgorithm(stranger): 1,
	} {
		got, predecessor, err := state.NextStatement(n.Store, subject)
		if err != nil || got != want || predecessor.IsZero() != (want == 1) {
			t.Errorf("%s: next is %d after %s (%v), want %d", subject, got, predecessor.Short(), err, want)
		}
	}
	for _, subject := range []string{"", "networks", "node/", "node/A", "algorithm/12", "meter/a/b", "meter"} {
		if _, _, err := state.NextStatement(n.Store, subject); reason.Of(err) != reason.Malformed {
			t.Errorf("%q: %v", subject, err)
		}
	}
}

// A statement that nobody has signed is judged by the same checks as a signed
// one, so that founders learn of a fault before they sign.
func TestC6_DraftsAreCheckedBeforeTheyAreSigned(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	founding := func() *recordv1.NetworkConfig { return proto.CloneOf(n.Config) }
	if err := state.CheckStatement(founding()); err != nil {
		t.Fatalf("the configuration that founds the network: %v", err)
	}
	for name, change := range map[string]func(*recordv1.NetworkConfig){
		"quorum too small":   func(c *recordv1.NetworkConfig) { c.Quorum = 2 },
		"quorum too large":   func(c *recordv1.NetworkConfig) { c.Quorum = 4 },
		"no notified body":   func(c *recordv1.NetworkConfig) { c.NotifiedBodies = nil },
		"another subject":    func(c *recordv1.NetworkConfig) { c.Header.Subject = "node/a" },
		"names a network":    func(c *recordv1.NetworkConfig) { c.Header.NetworkId = make([]byte, 32) },
		"ids out of order":   func(c *recordv1.NetworkConfig) { slices.Reverse(c.Organisations) },
		"replica of nobody":  func(c *recordv1.NetworkConfig) { c.Replicas[0].Organisation = "nobody" },
		"a later version":    func(c *recordv1.NetworkConfig) { c.RecordVersion = state.RecordVersion + 1 },
		"a root key of junk": func(c *recordv1.NetworkConfig) { c.Organisations[0].RootKey = make([]byte, 33) },
	} {
		config := founding()
		change(config)
		if err := state.CheckStatement(config); reason.Of(err) == "" {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	node := n.Registration(n.Replicas[0].Node, 1, digest.Zero)
	if err := state.CheckStatement(node); err != nil {
		t.Errorf("a registration: %v", err)
	}
	node.TlsSpki = node.TlsSpki[:31]
	if err := state.CheckStatement(node); reason.Of(err) == "" {
		t.Errorf("a short SPKI digest: %v, want a refusal", err)
	}
}

// bodyKeys are n keys of a notified body, as a configuration lists them.
func bodyKeys(n int) [][]byte {
	var keys [][]byte
	for i := range n {
		keys = append(keys, statetest.Tagged(signature.Ed25519, bodyKey(i)))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func bodySigners(n int) []crypto.Signer {
	var signers []crypto.Signer
	for i := range n {
		signers = append(signers, bodyKey(i))
	}
	return signers
}

func bodyKey(i int) ed25519.PrivateKey { return statetest.Key("body/" + strconv.Itoa(i)) }

// A notified body of several keys speaks only by as many of them as its threshold,
// and keys of two bodies do not add up.
func TestS4_ANotifiedBodySpeaksByItsThreshold(t *testing.T) {
	base := statetest.New(t, statetest.Options{})
	base.Approve()
	config := proto.CloneOf(base.Config)
	config.Header = base.Header(record.SubjectNetwork)
	config.NotifiedBodies[0].Keys, config.NotifiedBodies[0].Threshold = bodyKeys(3), 2
	config.NotifiedBodies = append(config.NotifiedBodies, &recordv1.NotifiedBody{
		Id: "nc", Keys: [][]byte{statetest.Tagged(signature.Ed25519, bodyKey(9))}, Threshold: 1,
	})
	base.Accept(signConfig(base, config, append(bodySigners(3), bodyKey(9))...))
	for name, c := range map[string]struct {
		keys []int
		want reason.Reason
	}{
		"one of three":              {[]int{0}, reason.NotAuthorised},
		"one and a stranger":        {[]int{0, 5}, reason.NotAuthorised},
		"one key twice is one":      {[]int{1, 1}, reason.NotAuthorised},
		"two of three":              {[]int{0, 2}, ""},
		"all":                       {[]int{0, 1, 2}, ""},
		"another body":              {[]int{9}, ""},
		"another body, and one key": {[]int{1, 9}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := base.Clone(t)
			var signers []crypto.Signer
			for _, i := range c.keys {
				signers = append(signers, bodyKey(i))
			}
			leaf := n.Sign(n.MeterRegistration("m-1", statetest.Key("meter")), signers...)
			if got := n.Submit([][]byte{leaf}, nil)[0]; got.Accepted != (c.want == "") || got.Reason != c.want {
				t.Errorf("%+v, want %q", got, c.want)
			}
		})
	}
}

// What the records call a statement, the transition knows as one.
func TestTransitionKnowsEveryStatement(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	for _, payloadType := range append(record.MessageTypes(), record.TypeApproval) {
		e, err := record.SignStatement(payloadType, []byte("x"), statetest.Body())
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := record.FromEnvelope(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Submit([][]byte{leaf}, nil)[0]; got.Accepted || strings.Contains(got.Detail, "no statement has the type") {
			t.Errorf("%s: %+v", payloadType, got)
		}
	}
}
