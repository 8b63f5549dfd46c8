package founding

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestSignRefusesADraftThatIsNotItsOwn(t *testing.T) {
	list, d := four(t)
	stranger := initialised(t, "stranger", recordv1.Role_ROLE_REPLICA)
	_, _, err := Sign(d, stranger.root, nil)
	want(t, "a stranger's key", err, "authority, institute, operator, university")
	_, _, err = Sign(d, list[0].root, list[1].member)
	want(t, "another's member file", err, "that of authority", "that of university")
	// The institute makes its directory anew; the draft has the old file.
	renewed := organisation{id: "institute", dir: filepath.Join(t.TempDir(), "again")}
	m, err := Initialise(renewed.dir, Plan{Organisation: "institute", Nodes: []PlannedNode{{ID: "institute-0", Role: recordv1.Role_ROLE_ENDORSER, Address: address()}}}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(MemberPath(renewed.dir, m.Organisation))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Sign(d, list[2].root, text)
	want(t, "its entry is an old one", err, "root key: drafted", "role of institute-0: drafted ROLE_REPLICA, own ROLE_ENDORSER", "node institute-1")
}

// Everything that is missing or wrong is named at once, and nothing is assembled.
func TestAssembleNamesEverythingThatIsMissingOrWrong(t *testing.T) {
	list, d := four(t)
	files := signed(t, d, list) // university, authority, institute, operator
	other, err := NewDraft(Terms{Name: "other.example", IssuedAtUnixNano: 1, Quorum: 3, Limits: DefaultLimits(), NotifiedBodies: terms(t).NotifiedBodies}, members(list)...)
	if err != nil {
		t.Fatal(err)
	}
	forOther := signed(t, other, list)[1]
	flipped := Signatures{"flipped.sig", bytes.Replace(files[2].Text, []byte(`"sig":"`), []byte(`"sig":"A`), 1)}
	half := Signatures{"operator.sig", bytes.SplitAfter(files[3].Text, []byte("\n"))[0]}
	_, err = Assemble(d, forOther, flipped, half)
	want(t, "three wrong, one missing", err,
		"authority.sig: line 1 signs a statement that does not follow from this draft", "authority: no valid signature",
		"flipped.sig: line 1: malformed DSSE envelope", "institute: no valid signature",
		"operator: no valid signature on the registration of node operator-0, registration of node operator-1, registration of node operator-2",
		"university: no valid signature")
	// A good signature of the wrong key, on another's registration.
	forged := d.signs("operator")[1].envelope()
	if err := forged.Sign(list[0].root, signature.Ed25519); err != nil {
		t.Fatal(err)
	}
	text, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Assemble(d, append(files[:3:3], half, Signatures{"forged.sig", text})...)
	want(t, "a registration by another organisation", err, "forged.sig: registration of node operator-0 by operator", "operator: no valid signature on")
	if f, err := Assemble(d, files...); err != nil || Verify(Files{Genesis: f.Genesis}, f.Draft.NetworkID().String()).Verdict != receipt.Verified {
		t.Errorf("all four: %v", err)
	}
}
