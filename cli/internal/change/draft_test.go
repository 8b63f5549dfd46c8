package change_test

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

var issued = time.Unix(statetest.GenesisUnix+60, 0)

func founded(t *testing.T) *state.Config {
	t.Helper()
	config, err := state.GetConfig(statetest.New(t, statetest.Options{}).Store)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func public(t *testing.T, key crypto.Signer) founding.PublicKey {
	t.Helper()
	k, err := signature.KeyOf(signature.Ed25519, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return founding.PublicKey{Key: k}
}

// member is what a member file says of an organisation and its replicas.
func member(t *testing.T, organisation string, replicas ...string) *founding.Member {
	t.Helper()
	m := &founding.Member{Organisation: organisation, RootKey: public(t, statetest.Root(organisation))}
	for _, id := range replicas {
		r := statetest.NewReplica(id, organisation)
		m.Nodes = append(m.Nodes, founding.MemberNode{ID: id, Role: founding.RoleName(recordv1.Role_ROLE_REPLICA),
			CosignerKey: public(t, r.Cosigner), LogKey: public(t, r.Log)})
	}
	m.Nodes = append(m.Nodes, founding.MemberNode{ID: "endorser-x", Role: founding.RoleName(recordv1.Role_ROLE_ENDORSER)}) // never a replica
	return m
}

func TestDraftChangesWhatIsAskedAndNothingElse(t *testing.T) {
	body := founding.Body{ID: "second", Keys: []founding.PublicKey{public(t, statetest.Key("second body"))}, Threshold: 1}
	evidence := strings.Repeat("0a", 32)
	for name, c := range map[string]struct {
		order change.Order
		want  []string // the lines of Difference, each a part of one
	}{
		"an organisation joins":            {change.Order{AddOrganisations: []*founding.Member{member(t, "org-04")}}, []string{"+ organisation org-04"}},
		"an organisation and its replica":  {change.Order{AddOrganisations: []*founding.Member{member(t, "org-04", "replica-04")}, AddReplicas: []*founding.Member{member(t, "org-04", "replica-04")}}, []string{"quorum  3 of 4 replicas  ->  4 of 5 replicas", "+ organisation org-04", "+ replica replica-04"}},
		"a replica takes another's place":  {change.Order{AddReplicas: []*founding.Member{member(t, "org-03", "replica-04")}, RemoveReplicas: []string{"replica-01"}}, []string{"- replica replica-01", "+ replica replica-04"}},
		"an organisation leaves":           {change.Order{RemoveOrganisations: []string{"org-03"}, RemoveReplicas: []string{"replica-03"}}, []string{"quorum  3 of 4 replicas  ->  2 of 3 replicas", "- organisation org-03", "- replica replica-03"}},
		"a replica leaves, with a quorum":  {change.Order{RemoveReplicas: []string{"replica-03"}, Quorum: 3}, []string{"quorum  3 of 4 replicas  ->  3 of 3 replicas", "- replica replica-03"}},
		"a notified body joins":            {change.Order{Bodies: []founding.Body{body}}, []string{"+ notified body second"}},
		"a notified body in another place": {change.Order{Bodies: []founding.Body{{ID: "nb", Keys: body.Keys, Threshold: 1}}}, []string{"  notified body nb"}},
		"limits": {change.Order{Limits: []string{"lateness=96h", "future-bound=20s", "max-missing-ranges=128", "max-uncertified-blocks=7", "raw-vector-retention=720h"}},
			[]string{"limit lateness  24h0m0s  ->  96h0m0s", "limit future-bound  10s  ->  20s", "limit max-missing-ranges  8  ->  128", "limit max-uncertified-blocks  8  ->  7", "limit raw-vector-retention  for ever  ->  720h0m0s"}},
		"an evidence key":        {change.Order{EvidenceKeys: []string{"org-00=" + evidence}}, []string{"  organisation org-00"}},
		"a later record version": {change.Order{RecordVersion: state.RecordVersion + 1}, []string{"record version"}},
	} {
		t.Run(name, func(t *testing.T) {
			inForce := founded(t)
			before := proto.CloneOf(inForce.Message)
			next, err := change.Draft(inForce, c.order, issued)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(before, inForce.Message) {
				t.Error("the configuration in force was written to")
			}
			h := next.GetHeader()
			if h.GetSequence() != 2 || !bytes.Equal(h.GetPredecessor(), inForce.Digest.Bytes()) || !bytes.Equal(h.GetNetworkId(), inForce.NetworkID.Bytes()) || h.GetIssuedAtUnixNano() != issued.UnixNano() {
				t.Errorf("header %v", h)
			}
			lines := change.Difference(before, next)
			for _, want := range c.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("no line has %q:\n%s", want, strings.Join(lines, "\n"))
				}
			}
			if len(lines) != len(c.want) {
				t.Errorf("%d lines differ, want %d:\n%s", len(lines), len(c.want), strings.Join(lines, "\n"))
			}
		})
	}
}

func TestDraftRefusesWhatTheLedgerWould(t *testing.T) {
	for name, c := range map[string]struct {
		order change.Order
		says  string
	}{
		"nothing":                          {change.Order{}, "nothing changes"},
		"an organisation that is there":    {change.Order{AddOrganisations: []*founding.Member{member(t, "org-00")}}, "already"},
		"an organisation that is not":      {change.Order{RemoveOrganisations: []string{"nobody"}}, `"nobody"`},
		"a replica that is not":            {change.Order{RemoveReplicas: []string{"nobody"}}, `"nobody"`},
		"a member without a new replica":   {change.Order{AddReplicas: []*founding.Member{member(t, "org-00", "replica-00")}}, "no replica that is not"},
		"a replica of no organisation":     {change.Order{AddReplicas: []*founding.Member{member(t, "strangers", "replica-04")}}, "strangers"},
		"an organisation with its replica": {change.Order{RemoveOrganisations: []string{"org-03"}}, "org-03"},
		"a quorum that is too small":       {change.Order{Quorum: 2}, "2q-n > F"},
		"a body that is not":               {change.Order{RemoveBodies: []string{"nobody"}}, `"nobody"`},
		"a limit that is none":             {change.Order{Limits: []string{"patience=3h"}}, "patience"},
		"a limit without a value":          {change.Order{Limits: []string{"lateness"}}, "lateness"},
		"a number that is none":            {change.Order{Limits: []string{"max-missing-ranges=-1"}}, "-1"},
		"an evidence key of nobody":        {change.Order{EvidenceKeys: []string{"nobody=00"}}, "nobody=00"},
		"an evidence key that is none":     {change.Order{EvidenceKeys: []string{"org-00=xx"}}, "org-00"},
	} {
		if next, err := change.Draft(founded(t), c.order, issued); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v, want %q", name, next, err, c.says)
		}
	}
}

// A recovery is one configuration's and never the next one's.
func TestDraftAfterARecovery(t *testing.T) {
	inForce := founded(t)
	inForce.Message.Recovery = &recordv1.Recovery{Height: 7}
	next, err := change.Draft(inForce, change.Order{Limits: []string{"lateness=96h"}}, issued)
	if err != nil {
		t.Fatal(err)
	}
	if next.Recovery != nil {
		t.Errorf("the draft is a recovery of block %d", next.GetRecovery().GetHeight())
	}
	if lines := change.Difference(next, inForce.Message); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "+ RECOVERY  continues block 7") }) {
		t.Errorf("the difference does not say RECOVERY: %q", lines)
	}
}

// An evidence key goes as it came.
func TestDraftTakesAnEvidenceKeyAway(t *testing.T) {
	inForce := founded(t)
	raw, err := hex.DecodeString(strings.Repeat("0a", 32))
	if err != nil {
		t.Fatal(err)
	}
	inForce.Message.Organisations[1].EvidenceKey = raw
	next, err := change.Draft(inForce, change.Order{EvidenceKeys: []string{"org-01="}}, issued)
	if err != nil || next.GetOrganisations()[1].EvidenceKey != nil {
		t.Errorf("%v, evidence key %x", err, next.GetOrganisations()[1].GetEvidenceKey())
	}
}
