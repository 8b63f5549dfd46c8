package founding

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Body is a notified body: its keys, and how many of them a statement takes.
type Body struct {
	ID        string      `json:"id"`
	Keys      []PublicKey `json:"keys"` // ascending by tag and bytes, each once
	Threshold uint32      `json:"threshold"`
	// Organisation is that of the network whose approval nodes act for it, or "".
	Organisation string `json:"organisation,omitempty"`
}

// ParseBody reads a body of the command line: ID=KEY, or ID=KEY,KEY,..:M of
// which M must sign, or ID@ORGANISATION=.. for which an organisation acts.
// Whether that can be is the ledger's to say.
func ParseBody(text string) (Body, error) {
	who, rest, _ := strings.Cut(text, "=")
	id, organisation, named := strings.Cut(who, "@")
	if named && organisation == "" {
		return Body{}, fmt.Errorf("%q names no organisation after the @", who)
	}
	list, needed, counted := strings.Cut(rest, ":")
	b := Body{ID: id, Threshold: 1, Organisation: organisation}
	for _, key := range strings.Split(list, ",") {
		public, err := ParsePublicKey(key)
		if err != nil {
			return Body{}, err
		}
		b.Keys = append(b.Keys, public)
	}
	if counted {
		m, err := strconv.ParseUint(needed, 10, 32)
		if err != nil {
			return Body{}, fmt.Errorf("%q of its %d keys must sign: want a number after the colon", needed, len(b.Keys))
		}
		b.Threshold = uint32(m)
	} else if len(b.Keys) > 1 {
		return Body{}, fmt.Errorf("%d keys: say how many must sign, as in %s=KEY,KEY:2", len(b.Keys), who)
	}
	return b, nil
}

// sorted is the body with its keys in the order that the ledger asks for.
func (b Body) sorted() Body {
	b.Keys = slices.SortedFunc(slices.Values(b.Keys), func(a, c PublicKey) int { return bytes.Compare(a.Bytes(), c.Bytes()) })
	return b
}

// Message is the body as a configuration lists it.
func (b Body) Message() *recordv1.NotifiedBody {
	m := &recordv1.NotifiedBody{Id: b.ID, Threshold: b.Threshold, Organisation: b.Organisation}
	for _, key := range b.sorted().Keys {
		m.Keys = append(m.Keys, key.Bytes())
	}
	return m
}

// text is the body for people.
func (b *Body) text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "\nnotified body %s\n", b.ID)
	for _, key := range b.Keys {
		fmt.Fprintf(&t, "  key %s %x\n", key.Kind(), key.Raw())
	}
	if len(b.Keys) > 1 || b.Threshold != 1 {
		fmt.Fprintf(&t, "  %d of its %d keys must sign\n", b.Threshold, len(b.Keys))
	}
	if b.Organisation != "" {
		fmt.Fprintf(&t, "  organisation %s acts for it: its approval nodes are given withheld modules\n", b.Organisation)
	} else {
		t.WriteString("  no organisation acts for it: no endorser gives it a module that it approved as withheld\n")
	}
	return t.String()
}
