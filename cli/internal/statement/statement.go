// Package statement drafts what notified bodies and manufacturers sign: type
// approvals and meter registrations. Signing is a step of its own, offline.
//
// Source: architecture, rule S4 (a statement names its predecessor).
package statement

import (
	"context"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/signature"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Place is where the next statement on a subject attaches.
type Place struct {
	NetworkID   digest.Digest
	Sequence    uint64
	Predecessor digest.Digest // zero for the first
}

// PlaceOf asks the approval service.
func PlaceOf(ctx context.Context, client approvalv1.ApprovalServiceClient, subject string) (Place, error) {
	response, err := client.GetSubject(ctx, &approvalv1.GetSubjectRequest{Subject: subject})
	if err != nil {
		return Place{}, err
	}
	p := Place{Sequence: response.GetNextSequence()}
	if p.NetworkID, err = digest.FromBytes(response.GetNetworkId()); err != nil {
		return Place{}, err
	}
	if len(response.GetPredecessor()) > 0 {
		p.Predecessor, err = digest.FromBytes(response.GetPredecessor())
	}
	return p, err
}

// Header is the header of a protobuf statement.
func (p Place) Header(subject string, issuedAt time.Time) *recordv1.StatementHeader {
	h := &recordv1.StatementHeader{NetworkId: p.NetworkID.Bytes(), Subject: subject, Sequence: p.Sequence, IssuedAtUnixNano: issuedAt.UnixNano()}
	if !p.Predecessor.IsZero() {
		h.Predecessor = p.Predecessor.Bytes()
	}
	return h
}

// Submit hands a signed statement to the approval service.
func Submit(ctx context.Context, client approvalv1.ApprovalServiceClient, e *envelope.Envelope) (*approvalv1.SubmitStatementResponse, error) {
	file, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return client.SubmitStatement(ctx, &approvalv1.SubmitStatementRequest{Envelope: file})
}

// SpeedFuelLimit is the fuel that the built-in module may use for one run: four
// times what the longest simulated pass takes (27 million for a lorry with
// trailer at 10 km/h, 10 kHz and 5 m spacing, 462 KiB of samples).
const SpeedFuelLimit = 100_000_000

// Speed drafts the approval of the built-in speed module.
func Speed(p Place, issuedAt time.Time, notifiedBody, manufacturer string, manufacturerKey signature.Key, who policy.Policy, testReport digest.Digest) *approval.Approval {
	module := speed.Module()
	definition := speed.Schema()
	a := &approval.Approval{
		Module: digest.Plain(module), NetworkID: p.NetworkID, Sequence: p.Sequence, Predecessor: p.Predecessor, IssuedAtUnix: issuedAt.Unix(),
		NotifiedBody: notifiedBody, Manufacturer: approval.Manufacturer{Name: manufacturer, Key: manufacturerKey},
		ModuleName: definition.Name, ModuleVersion: definition.Version,
		ProfileVersion: claim.ProfileVersion, FuelLimit: SpeedFuelLimit, Policy: who,
		NotBeforeUnix: issuedAt.Add(-time.Hour).Unix(), NotAfterUnix: issuedAt.AddDate(10, 0, 0).Unix(),
		TestReport: testReport, Disclosure: approval.Public,
	}
	for _, f := range definition.Parameters {
		a.Schema.Parameters = append(a.Schema.Parameters, approval.Field{Name: f.Name, Unit: f.Unit, Scale: f.Scale})
	}
	for _, f := range definition.Values {
		a.Schema.Values = append(a.Schema.Values, approval.Field{Name: f.Name, Unit: f.Unit, Scale: f.Scale})
	}
	for _, r := range definition.Refusals {
		a.Schema.Refusals = append(a.Schema.Refusals, approval.Refusal{Code: r.Code, Name: r.Name})
	}
	return a
}
