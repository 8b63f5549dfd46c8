package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/trust"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

const (
	spacingMillimetres   = 2000
	sampleRateMillihertz = 1_000_000
)

// approve has the notified body approve the built-in module, two of three
// endorsers, and hands the module to the endorsers.
func (d *demo) approve(ctx context.Context) error {
	bundle, err := os.ReadFile(d.network.TrustPath())
	if err != nil {
		return err
	}
	if d.trust, err = trust.Parse(bundle); err != nil {
		return err
	}
	connection, err := d.network.Dial(devnet.Approval, nil)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	client := approvalv1.NewApprovalServiceClient(connection)

	report, err := d.typeTest(ctx)
	if err != nil {
		return err
	}
	manufacturer, err := statement.ReadKey(d.network.KeyPath(devnet.Manufacturer))
	if err != nil {
		return err
	}
	manufacturerKey, err := statement.VerifierKey(manufacturer.Public())
	if err != nil {
		return err
	}
	notified, err := statement.ReadKey(d.network.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return err
	}
	module := digest.Plain(speed.Module())
	place, err := statement.PlaceOf(ctx, client, record.SubjectAlgorithm(module))
	if err != nil {
		return err
	}
	var endorsers []policy.Policy
	for _, o := range devnet.EndorsingOrganisations() {
		endorsers = append(endorsers, policy.Organisation(o))
	}
	draft := statement.Speed(place, time.Now(), devnet.NotifiedBody, devnet.Manufacturer, manufacturerKey, policy.OutOf(2, endorsers...), report)
	payload, err := draft.Encode()
	if err != nil {
		return err
	}
	signed, err := record.SignStatement(record.TypeApproval, payload, notified, manufacturer)
	if err != nil {
		return err
	}
	answer, err := statement.Submit(ctx, client, signed)
	if err != nil {
		return fmt.Errorf("approve the module: %w", err)
	}
	d.say("approved   module %s %s, digest %s\n           policy %s, record %d of the ledger", draft.ModuleName, draft.ModuleVersion, module, draft.Policy, answer.GetIndex())
	return d.install(ctx, speed.Module())
}

// typeTest runs a short accuracy campaign; its report's digest is part of the approval.
func (d *demo) typeTest(ctx context.Context) (digest.Digest, error) {
	c := campaign.TypeTest(2)
	c.Grids = c.Grids[:1] // without faults
	report, err := campaign.Run(ctx, c, campaign.Twin(speed.Measure), campaign.Options{})
	if err != nil {
		return digest.Zero, err
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return digest.Zero, err
	}
	path := filepath.Join(d.network.Dir, "type-test.json")
	return digest.Plain(b), os.WriteFile(path, b, 0o600)
}

// install hands a module to every endorser, as the gateway that contracted them.
func (d *demo) install(ctx context.Context, module []byte) error {
	for _, e := range d.network.ByRole(recordv1.Role_ROLE_ENDORSER) {
		if err := d.installAt(ctx, e.ID, module); err != nil {
			return fmt.Errorf("install at %s: %w", e.ID, err)
		}
	}
	return nil
}

func (d *demo) installAt(ctx context.Context, endorser string, module []byte) error {
	gateway, err := d.network.NodeIdentity(devnet.Gateway)
	if err != nil {
		return err
	}
	connection, err := d.network.Dial(endorser, gateway)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	// The endorser follows the ledger by itself; ask it until it has seen the approval.
	_, err = computev1.NewComputeServiceClient(connection).InstallAlgorithm(ctx, &computev1.InstallAlgorithmRequest{Module: module})
	return err
}

// register makes the meters' keys and has the notified body register them.
func (d *demo) register(ctx context.Context) error {
	connection, err := d.network.Dial(devnet.Approval, nil)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	client := approvalv1.NewApprovalServiceClient(connection)
	notified, err := statement.ReadKey(d.network.KeyPath(devnet.NotifiedBody))
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range d.Meters {
		s, err := d.newSensor(i)
		if err != nil {
			return err
		}
		place, err := statement.PlaceOf(ctx, client, record.SubjectMeter(s.id))
		if err != nil {
			return err
		}
		draft, err := statement.Registration(place, now, statement.Meter{
			ID: s.id, Public: s.key.Public(), TLS: s.tls.SPKI(), Seal: fmt.Sprintf("S-%04d", i+1),
			Site:               &recordv1.Site{Name: "simulated road, km " + fmt.Sprint(i+1), LatitudeE7: -235505000 + int32(i)*1000, LongitudeE7: -466333000, Lane: 1},
			SpacingMillimetres: spacingMillimetres, SampleRateMillihertz: sampleRateMillihertz,
			Verification: &recordv1.Verification{Certificate: fmt.Sprintf("simulated-%d", i+1), ValidFromUnixNano: now.Add(-time.Hour).UnixNano(), ValidUntilUnixNano: now.AddDate(1, 0, 0).UnixNano()},
		})
		if err != nil {
			return err
		}
		signed, err := record.NewStatement(draft, notified)
		if err != nil {
			return err
		}
		if _, err := statement.Submit(ctx, client, signed); err != nil {
			return fmt.Errorf("register meter %s: %w", s.id, err)
		}
		d.meters = append(d.meters, s)
	}
	d.say("registered %d meters, %d of them with P-256 keys", len(d.meters), (len(d.meters)+4)/5)
	return nil
}

// newSensor makes a meter's keys. Every fifth signs with P-256, as secure
// elements do; the others with Ed25519.
func (d *demo) newSensor(i int) (*sensor, error) {
	s := &sensor{id: fmt.Sprintf("meter-%02d", i+1)}
	dir := d.network.MeterDir(s.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kind := statement.Ed25519
	if i%5 == 0 {
		kind = statement.P256
	}
	var err error
	if s.key, err = statement.GenerateKey(filepath.Join(dir, "key.pem"), kind); err != nil {
		return nil, err
	}
	s.tls, err = identity.Generate(filepath.Join(dir, "tls.pem"))
	return s, err
}
