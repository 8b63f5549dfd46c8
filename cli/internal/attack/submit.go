package attack

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// submit hands records to the ledger as the gateway does. Each outcome is nil for
// an accepted record, or its refusal.
func (s *stage) submit(ctx context.Context, request *ledgerv1.SubmitRequest) ([]error, error) {
	client, err := s.ledger(devnet.Gateway)
	if err != nil {
		return nil, err
	}
	response, err := client.Submit(ctx, request)
	if err != nil {
		return nil, err
	}
	outcomes := make([]error, len(response.GetOutcomes()))
	for i, o := range response.GetOutcomes() {
		if !o.GetAccepted() {
			outcomes[i] = &reason.Error{Reason: reason.Reason(o.GetReason()), Detail: o.GetDetail()}
		}
	}
	if len(outcomes) != len(request.GetRecords()) {
		return nil, fmt.Errorf("%d outcomes for %d records", len(outcomes), len(request.GetRecords()))
	}
	return outcomes, s.known(ctx, response.GetCertifiedHeight())
}

// bundle is a measurement's bundle, and its leaf.
func (s *stage) bundle(ctx context.Context, meter string, counter uint64) (*recordv1.Bundle, []byte, error) {
	client, err := s.ledger("")
	if err != nil {
		return nil, nil, err
	}
	var response *ledgerv1.GetBundleResponse
	if err := patiently(ctx, func() (err error) {
		response, err = client.GetBundle(ctx, &ledgerv1.GetBundleRequest{Measurement: &ledgerv1.MeasurementKey{MeterId: meter, Counter: counter}})
		return err
	}); err != nil {
		return nil, nil, err
	}
	bundle, err := receipt.ParseBundle(response.GetBundle())
	if err != nil {
		return nil, nil, err
	}
	certified, err := receipt.Parse(bundle.GetReceipt())
	if err != nil {
		return nil, nil, err
	}
	return bundle, certified.Record, nil
}

// falseClaim has an endorser compute a sample honestly, and then doubles the speed.
func (s *stage) falseClaim(ctx context.Context, request *ingestv1.SubmitRequest) ([]byte, error) {
	connection, err := s.node(s.endorsers()[0].ID, devnet.Gateway)
	if err != nil {
		return nil, err
	}
	var honest *computev1.SampleOutcome
	if err := patiently(ctx, func() error {
		response, err := computev1.NewComputeServiceClient(connection).Endorse(ctx, &computev1.EndorseRequest{
			Algorithm: s.module.Bytes(),
			Samples:   []*computev1.SignedSample{{Header: request.GetHeader(), Signature: request.GetSignature(), RawVector: request.GetRawVector()}},
		})
		if err != nil {
			return err
		}
		if honest = response.GetOutcomes()[0]; len(honest.GetClaim()) == 0 {
			return &reason.Error{Reason: reason.Reason(honest.GetReason()), Detail: honest.GetDetail()}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	c, err := claim.Parse(honest.GetClaim())
	if err != nil {
		return nil, err
	}
	result, err := claim.ParseResult(c.Result)
	if err != nil {
		return nil, err
	}
	result.Values[speed.ValueSpeed] *= 2
	if c.Result, err = abi.EncodeOutput(result); err != nil {
		return nil, err
	}
	return c.Encode()
}

// collude makes the submission of a claim that the named endorsers sign with
// their own keys, whatever their software computed.
func (s *stage) collude(ctx context.Context, request *ingestv1.SubmitRequest, claimed []byte, liars ...devnet.Node) (*ledgerv1.SubmitRequest, error) {
	hash := claim.Hash(claimed)
	set := &recordv1.EndorsementSet{NetworkId: s.networkID.Bytes(), Algorithm: s.module.Bytes(), Claims: [][]byte{hash.Bytes()}}
	message := claim.EndorsementMessage(s.networkID, s.module, []digest.Digest{hash})
	for _, liar := range liars { // ascending by id, as ByRole gives them
		key, err := identity.ReadKey(filepath.Join(s.network.NodeDir(liar.ID), "signing.pem"))
		if err != nil {
			return nil, err
		}
		sig, err := signature.Sign(key, signature.Ed25519ZIP215, message)
		if err != nil {
			return nil, err
		}
		set.Endorsements = append(set.Endorsements, &recordv1.Endorsement{NodeId: liar.ID, Signature: sig})
	}
	setRecord, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: set}})
	if err != nil {
		return nil, err
	}
	client, err := s.ledger("")
	if err != nil {
		return nil, err
	}
	status, err := client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	approval := s.approval.Digest()
	measurement, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
		Header: request.GetHeader(), Signature: request.GetSignature(), Claim: claimed, EndorsementSet: record.Digest(setRecord).Bytes(),
		Approval: approval.Bytes(), Config: status.GetConfig(), Disposition: recordv1.Disposition_DISPOSITION_ON_TIME,
	}}})
	if err != nil {
		return nil, err
	}
	return &ledgerv1.SubmitRequest{Records: [][]byte{setRecord, measurement}, RawVectors: [][]byte{request.GetRawVector()}}, nil
}
