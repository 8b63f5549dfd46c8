package founding

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// An evidence key in a member file is in the configuration that everybody signs;
// one that is none is refused before anything is written for others.
func TestMemberCarriesItsEvidenceKey(t *testing.T) {
	key := statetest.EvidenceKey("authority").PublicKey().Bytes()
	initialise := func(text string) (string, error) {
		dir := filepath.Join(t.TempDir(), "authority")
		_, err := Initialise(dir, Plan{Organisation: "authority", EvidenceKey: EvidenceKey(text), Nodes: []PlannedNode{
			{ID: "replica", Role: recordv1.Role_ROLE_REPLICA, Address: address(), RaftAddress: address()},
		}}, testTime)
		return dir, err
	}
	dir, err := initialise(hex.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	member, err := os.ReadFile(MemberPath(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	few := terms(t)
	few.Quorum = 1
	draft, err := NewDraft(few, member)
	if err != nil {
		t.Fatal(err)
	}
	if got := draft.config().GetOrganisations()[0].GetEvidenceKey(); !bytes.Equal(got, key) {
		t.Errorf("configuration has evidence key %x, want %x", got, key)
	}
	if want := hex.EncodeToString(key); !strings.Contains(draft.Text(), want) {
		t.Errorf("the draft for people does not show %s", want)
	}
	for _, wrong := range []string{strings.Repeat("0", 64), "00", strings.ToUpper(hex.EncodeToString(key)), "key"} {
		if dir, err := initialise(wrong); err == nil {
			t.Errorf("evidence key %q was taken", wrong)
		} else if _, err := os.Stat(MemberPath(dir, "authority")); err == nil {
			t.Errorf("evidence key %q: a member file was written", wrong)
		}
	}
}
