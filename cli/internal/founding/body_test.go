package founding

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
)

func seeded(b byte) PublicKey {
	return publicOf(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)))
}

// A body of several keys is drafted with them in order, whichever way they were
// given, and the draft says how many must sign.
func TestBodyOfSeveralKeys(t *testing.T) {
	list, _ := four(t)
	var networks []string
	for _, order := range [][]byte{{1, 2, 3}, {3, 1, 2}} {
		parts := make([]string, len(order))
		for i, b := range order {
			parts[i] = fmt.Sprintf("%x", seeded(b).Raw())
		}
		body, err := ParseBody("inspection=" + strings.Join(parts, ",") + ":2")
		if err != nil {
			t.Fatal(err)
		}
		asked := terms(t)
		asked.NotifiedBodies = []Body{body}
		d, err := NewDraft(asked, members(list)...)
		if err != nil {
			t.Fatal(err)
		}
		networks = append(networks, d.NetworkID().String())
		text := d.Text()
		for _, part := range append([]string{"2 of its 3 keys must sign"}, parts...) {
			if !strings.Contains(text, part) {
				t.Errorf("the draft's text does not say %q:\n%s", part, text)
			}
		}
		config := d.config().GetNotifiedBodies()[0]
		if len(config.GetKeys()) != 3 || config.GetThreshold() != 2 || bytes.Compare(config.GetKeys()[0], config.GetKeys()[1]) >= 0 {
			t.Errorf("the configuration has %v", config)
		}
		signatures := signed(t, d, list)
		if _, err := Assemble(d, signatures...); err != nil {
			t.Errorf("it does not found a network: %v", err)
		}
	}
	if networks[0] != networks[1] {
		t.Errorf("the order of the keys makes two networks: %v", networks)
	}
}

func TestParseBody(t *testing.T) {
	key, other := fmt.Sprintf("%x", seeded(1).Raw()), fmt.Sprintf("%x", seeded(2).Raw())
	short, err := ParseBody("nb=" + key)
	if err != nil || short.ID != "nb" || short.Threshold != 1 || len(short.Keys) != 1 {
		t.Errorf("the short form gives %+v, %v", short, err)
	}
	acting, err := ParseBody("nb@institute=" + key)
	if err != nil || acting.ID != "nb" || acting.Organisation != "institute" || acting.Message().GetOrganisation() != "institute" {
		t.Errorf("with an organisation that acts for it: %+v, %v", acting, err)
	}
	if text := acting.text(); !strings.Contains(text, "organisation institute acts for it") || !strings.Contains(short.text(), "no organisation acts for it") {
		t.Errorf("the text says\n%s%s", text, short.text())
	}
	for text, says := range map[string]string{
		"nb@=" + key:                      "names no organisation",
		"nb":                              "public key",
		"nb=xyz":                          "hexadecimal",
		"nb=" + key + "," + other:         "say how many must sign",
		"nb=" + key + "," + other + ":":   "want a number",
		"nb=" + key + "," + other + ":-1": "want a number",
		"nb=" + key + ",:1":               "public key",
	} {
		_, err := ParseBody(text)
		want(t, text, err, says)
	}
}
