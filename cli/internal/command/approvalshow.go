package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
)

func newApprovalShow(a *app) *cobra.Command {
	var alone bool
	c := a.reading(&cobra.Command{
		Use:   "show FILE",
		Short: "Show what a draft or a signed statement says, and its digest",
		Long: `Prints every field of a statement and its digest, which is what is signed: tell
the digest to those who sign by another way than the file. No signature is
checked; "lacre approval sign" and "lacre approval verify" do.`,
		Example: `  lacre approval show approval.json
  lacre approval show half.dsse --digest`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := readDraft(args[0])
			if err != nil {
				return err
			}
			text, err := statement.Text(e)
			if err != nil {
				return err
			}
			v := struct {
				Digest      string   `json:"digest"`
				PayloadType string   `json:"payload_type"`
				SignedBy    []string `json:"signed_by"` // key ids
				Text        string   `json:"text"`
			}{Digest: e.Digest().String(), PayloadType: e.PayloadType, SignedBy: []string{}, Text: text}
			for _, s := range e.Signatures {
				v.SignedBy = append(v.SignedBy, s.KeyID)
			}
			if alone {
				return a.print(v, v.Digest+"\n")
			}
			return a.print(v, fmt.Sprintf("%s\nsigned by %d keys %s\ndigest    %s\n", text, len(v.SignedBy), strings.Join(v.SignedBy, ", "), v.Digest))
		},
	})
	c.Flags().BoolVar(&alone, "digest", false, "print the digest alone")
	return c
}
