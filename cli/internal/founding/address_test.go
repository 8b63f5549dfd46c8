package founding

import (
	"crypto/ed25519"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// An address is shown to whoever signs, and written into other organisations'
// configurations: it has one form, of plain characters.
func TestAddressesHaveOneForm(t *testing.T) {
	for _, good := range []string{
		"ledger.institute.example:7401", "localhost:1", "10.0.0.5:65535", "[fe80::1]:7401", "replica_1.internal:7401", "a-b.c1:7401", "10.example:7401",
	} {
		if err := checkAddress(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"10.0.0.5":                               "missing port",
		"10.0.0.5:0":                             "from 1 to 65535",
		"10.0.0.5:65536":                         "from 1 to 65535",
		"10.0.0.5:07401":                         `"10.0.0.5:07401"`,
		":7401":                                  "with a host",
		"Ledger.example:7401":                    `"Ledger.example"`,
		"10.0.0.05:7401":                         "no host",
		"2130706433:7401":                        "no host",
		"[FE80::1]:7401":                         `write "fe80::1"`,
		"[0:0:0:0:0:0:0:1]:7401":                 `write "::1"`,
		"[::ffff:10.0.0.5]:7401":                 `write "10.0.0.5"`,
		"[fe80::1%eth0]:7401":                    "no host",
		"x\nquorum   3 of 3:7401":                `\n`,
		"x\x1b(0:7401":                           `\x1b`,
		"x\u202e:7401":                           `\u202e`,
		"münchen.example:7401":                   "no host",
		"a b:7401":                               "no host",
		"-a:7401":                                "no host",
		"a..b:7401":                              "no host",
		"a.:7401":                                "no host",
		strings.Repeat("a", 64) + ":7401":        "no host",
		strings.Repeat("a.", 126) + "a:7401":     "",
		strings.Repeat("abc.", 63) + "abcd:7401": "no host",
	} {
		err := checkAddress(bad)
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", bad, err)
			}
			continue
		}
		want(t, strconv.Quote(bad), err, says)
	}
}

// A member whose address would draw something else on the screen of those who
// sign is in no draft.
func TestMemberFileRefusesAddressesThatDraw(t *testing.T) {
	o := initialised(t, "institute", recordv1.Role_ROLE_REPLICA)
	for _, address := range []string{"x\x1b[1A\x1b[2K:7401", "x\x1bM:7401", "x\nquorum   1 of 1 replicas:7401"} {
		m, _, err := ParseMember(o.member)
		if err != nil {
			t.Fatal(err)
		}
		m.Nodes[0].Address = address
		k := &keymaker{signers: []ed25519.PrivateKey{o.root}}
		for _, file := range []string{"tls.pem", "signing.pem", "cosigner.pem", "log.pem"} {
			key, err := identity.ReadKey(filepath.Join(NodeDir(o.dir, "institute-0"), file))
			if err != nil {
				t.Fatal(err)
			}
			k.signers = append(k.signers, key)
		}
		_, err = k.sign(m)
		want(t, strconv.Quote(address), err, strconv.Quote(address))
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("the refusal itself draws: %q", err)
		}
	}
}
