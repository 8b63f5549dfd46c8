package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newApproval(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "approval",
		Short: "Type approvals: draft, sign offline, submit, list",
		Long: `A type approval is an in-toto statement on a module's SHA-256, signed by a
notified body and the manufacturer. Drafting may ask the network where the
statement attaches; signing needs no connection; submitting needs no key.`,
	}, newApprovalDraft(a), newApprovalStatus(a), newApprovalShow(a), newApprovalSign(a), newApprovalSubmit(a), newApprovalList(a), newApprovalHistory(a), newApprovalVerify(a))
}

// placeOf asks the approval service where a subject's next statement attaches.
func (t *target) placeOf(ctx context.Context, subject string) (p statement.Place, err error) {
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		p, err = statement.PlaceOf(ctx, approvalv1.NewApprovalServiceClient(c), subject)
		return err
	})
	return p, err
}

// offlinePlace takes it from the command line.
func offlinePlace(networkID string, sequence uint64, predecessor string) (p statement.Place, err error) {
	p.Sequence = sequence
	if p.NetworkID, err = digest.Parse(networkID); err != nil {
		return p, usage("--network-id: %w", err)
	}
	if predecessor != "" {
		if p.Predecessor, err = digest.Parse(predecessor); err != nil {
			return p, usage("--predecessor: %w", err)
		}
	}
	return p, nil
}

// draftFile is a protobuf statement before it is signed. An approval's draft is
// the in-toto statement itself, which people can read.
type draftFile struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
}

// createDraft writes a protobuf statement that nobody has signed, after the checks
// that need no ledger, to a file that must not exist.
func (a *app) createDraft(path string, m proto.Message) (*envelope.Envelope, error) {
	if err := state.CheckStatement(m); err != nil {
		return nil, err
	}
	payload, err := wire.Encode(m)
	if err != nil {
		return nil, err
	}
	e := &envelope.Envelope{PayloadType: record.TypeOf(m), Payload: payload}
	b, err := json.Marshal(draftFile{e.PayloadType, payload})
	if err != nil {
		return nil, err
	}
	return e, a.createFile(path, append(b, '\n'))
}

// readDraft reads what is to be signed: an in-toto statement, a draftFile, or an
// envelope that others have signed already.
func readDraft(path string) (*envelope.Envelope, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\n") // editors add one
	if e, err := envelope.Parse(b); err == nil {
		return e, nil
	}
	var d draftFile
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if d.PayloadType != "" {
		return &envelope.Envelope{PayloadType: d.PayloadType, Payload: d.Payload}, nil
	}
	if _, err := approval.Parse(b); err != nil {
		return nil, fmt.Errorf("%s is no statement: %w", path, err)
	}
	return &envelope.Envelope{PayloadType: record.TypeApproval, Payload: b}, nil
}
