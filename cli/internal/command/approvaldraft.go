package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// approvalDraft is the command line of `approval draft`.
type approvalDraft struct {
	target
	networkID, predecessor string
	sequence               uint64
	body, manufacturer     string
	key, public            string // of the manufacturer: a private key's file, or the public key
	module, schema, renew  string
	fuelLimit              uint64
	validFrom, validUntil  string
	report, out            string
	require                int
	of                     []string
	policy                 string
	withheld               bool
	changed                func(flag string) bool // given on the command line
}

func newApprovalDraft(a *app) *cobra.Command {
	var d approvalDraft
	c := &cobra.Command{
		Use:   "draft",
		Short: "Draft the approval of a module, or its renewal",
		Long: `Writes the exact bytes that the notified body and the manufacturer will sign: an
in-toto statement in its one JSON form. Without a connection, --network-id (and
--sequence with --predecessor for a renewal) says where it attaches.

Of the built-in module schema and fuel limit are known. Of any other --schema names
a file that gives its parameters, values and refusals a meaning, in their order:
  {"parameters":[{"name":"spacing","unit":"um","scale":0}],
   "values":[{"name":"speed","unit":"km/h","scale":-3}],
   "refusals":[{"code":1,"name":"LOW_SIGNAL"}]}
or an approval, whose schema is taken, such as that of the version before; and
--fuel-limit bounds one run. Name and version are those in the module.

--renew takes an approval, signed or not, and drafts it again with what the other
flags change: policy, end of validity, test report, disclosure. The rest of an
approval never changes; another module is another approval.`,
		Example: `  lacre approval draft --test-report report.json --out approval.json
  lacre approval draft --require 2 --of institute --of operator --of university --test-report report.json --out approval.json
  lacre approval draft --module radar.wasm --schema radar.json --fuel-limit 5000000 --withheld --test-report report.pdf --out approval.json
  lacre approval draft --network-id HEX --manufacturer-public HEX --test-report report.json --out approval.json
  lacre approval draft --renew approval.dsse --valid-until 2036-01-01T00:00:00Z --out renewal.json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			d.changed = c.Flags().Changed
			return a.runDraft(c.Context(), &d)
		},
	}
	d.flags(c)
	d.termFlags(c.Flags())
	f := c.Flags()
	f.StringVar(&d.networkID, "network-id", "", "digest of the genesis configuration; drafts offline")
	f.Uint64Var(&d.sequence, "sequence", 1, "with --network-id: number of the statement on this module")
	f.StringVar(&d.predecessor, "predecessor", "", "with --network-id: digest of the statement before, if --sequence is above 1")
	f.StringVar(&d.renew, "renew", "", "file of the approval to renew")
	f.StringVar(&d.out, "out", "", "file to write (default: stdout)")
	return c
}

// termFlags are what the approval says.
func (d *approvalDraft) termFlags(f *pflag.FlagSet) {
	f.StringVar(&d.module, "module", builtIn, "file of the module, or \"speed\" for the built-in one")
	f.StringVar(&d.schema, "schema", "", "file (JSON) of the module's parameters, values and refusals, or an approval with the same; not for the built-in one")
	f.Uint64Var(&d.fuelLimit, "fuel-limit", statement.SpeedFuelLimit, "fuel of one run; needed for a module that is not built in")
	f.StringVar(&d.body, "notified-body", devnet.NotifiedBody, "id of the notified body")
	f.StringVar(&d.manufacturer, "manufacturer", devnet.Manufacturer, "name of the manufacturer")
	f.StringVar(&d.key, "manufacturer-key", "", "file of the manufacturer's key, of which the public part is named (default: the network directory's)")
	f.StringVar(&d.public, "manufacturer-public", "", "the manufacturer's public key in hexadecimal, as \"lacre key show\" prints it, instead of --manufacturer-key")
	f.StringVar(&d.validFrom, "valid-from", "", "first capture time covered, in RFC 3339 (default: an hour ago)")
	f.StringVar(&d.validUntil, "valid-until", "", "first capture time no longer covered, in RFC 3339 (default: in ten years)")
	f.StringVar(&d.report, "test-report", "", "file of the test report whose SHA-256 is named, such as \"lacre module test --out FILE\" writes")
	f.IntVar(&d.require, "require", 2, "how many of the organisations must endorse")
	f.StringArrayVar(&d.of, "of", devnet.EndorsingOrganisations(), "an organisation that may endorse (repeat)")
	f.StringVar(&d.policy, "policy", "", "endorsement policy, such as \"OutOf(2,'a','b',AND('c','d'))\", instead of --require and --of")
	f.BoolVar(&d.withheld, "withheld", false, "only contracted endorsers and the notified body hold the module")
}

// fixed are the flags that a renewal cannot change.
var fixed = []string{"module", "schema", "fuel-limit", "manufacturer", "manufacturer-key", "manufacturer-public", "valid-from"}

func (a *app) runDraft(ctx context.Context, d *approvalDraft) error {
	now := time.Now()
	draft, err := d.terms(now)
	if err != nil {
		return err
	}
	if err := d.vary(draft); err != nil {
		return err
	}
	place, err := d.place(ctx, draft.Module)
	if err != nil {
		return err
	}
	draft.NetworkID, draft.Sequence, draft.Predecessor, draft.IssuedAtUnix = place.NetworkID, place.Sequence, place.Predecessor, now.Unix()
	payload, err := draft.Encode()
	if err != nil {
		return err
	}
	a.say("module %s %s, SHA-256 %s; policy %s; statement %d", draft.ModuleName, draft.ModuleVersion, draft.Module, draft.Policy, draft.Sequence)
	return a.writeFile(d.out, payload)
}

// terms is the approval that is renewed, or a new one.
func (d *approvalDraft) terms(now time.Time) (*approval.Approval, error) {
	if d.renew == "" {
		return d.first(now)
	}
	for _, flag := range fixed {
		if d.changed(flag) {
			return nil, usage("--%s cannot change by a renewal: \"lacre approval draft --help\" says what can", flag)
		}
	}
	e, err := readDraft(d.renew)
	if err != nil {
		return nil, err
	}
	if e.PayloadType != record.TypeApproval {
		return nil, fmt.Errorf("%s is a statement of type %s, want the approval to renew", d.renew, e.PayloadType)
	}
	return approval.Parse(e.Payload)
}

// first is the approval of a module that had none.
func (d *approvalDraft) first(now time.Time) (*approval.Approval, error) {
	if d.report == "" {
		return nil, usage("--test-report FILE is needed: an approval names its test report; \"lacre module test --out report.json\" writes one")
	}
	manufacturer, err := d.manufacturerKey()
	if err != nil {
		return nil, err
	}
	who, err := d.endorsers()
	if err != nil {
		return nil, err
	}
	draft := statement.Speed(statement.Place{}, now, d.body, d.manufacturer, manufacturer, who, digest.Zero)
	if d.module != builtIn {
		if err := d.describe(draft); err != nil {
			return nil, err
		}
	} else if d.schema != "" {
		return nil, usage("--schema is for a module that is not built in")
	}
	draft.FuelLimit = d.fuelLimit
	from, err := timeOr(d.validFrom, time.Unix(draft.NotBeforeUnix, 0))
	if err != nil {
		return nil, err
	}
	draft.NotBeforeUnix, err = wholeSeconds("--valid-from", from)
	return draft, err
}

// describe fills in what a module is that this build does not know.
func (d *approvalDraft) describe(draft *approval.Approval) error {
	if d.schema == "" || !d.changed("fuel-limit") {
		return usage("--schema FILE and --fuel-limit N are needed for a module that is not built in")
	}
	module, err := readModule(d.module)
	if err != nil {
		return err
	}
	m, err := profile.Check(module)
	if err != nil {
		return fmt.Errorf("%s: %w", d.module, err)
	}
	draft.Module, draft.ModuleName, draft.ModuleVersion = digest.Plain(module), m.Name, m.Version
	if draft.Schema, err = readSchema(d.schema); err != nil {
		return fmt.Errorf("schema %s: %w", d.schema, err)
	}
	return nil
}

// readSchema takes a schema from its own file, or from an approval.
func readSchema(file string) (s approval.Schema, err error) {
	if e, err := readDraft(file); err == nil && e.PayloadType == record.TypeApproval {
		terms, err := approval.Parse(e.Payload)
		if err != nil {
			return s, err
		}
		return terms.Schema, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	fields := json.NewDecoder(bytes.NewReader(text))
	fields.DisallowUnknownFields()
	if err := fields.Decode(&s); err != nil {
		return s, err
	}
	err = s.Check()
	return s, err
}

// vary applies what a renewal may change too.
func (d *approvalDraft) vary(draft *approval.Approval) error {
	if d.renew != "" && (d.changed("policy") || d.changed("require") || d.changed("of")) {
		who, err := d.endorsers()
		if err != nil {
			return err
		}
		draft.Policy = who
	}
	if d.changed("notified-body") {
		draft.NotifiedBody = d.body
	}
	if d.report != "" {
		b, err := os.ReadFile(d.report)
		if err != nil {
			return fmt.Errorf("test report: %w", err)
		}
		draft.TestReport = digest.Plain(b)
	}
	if d.changed("withheld") {
		draft.Disclosure = approval.Public
		if d.withheld {
			draft.Disclosure = approval.Withheld
		}
	}
	until, err := timeOr(d.validUntil, time.Unix(draft.NotAfterUnix, 0))
	if err != nil {
		return err
	}
	draft.NotAfterUnix, err = wholeSeconds("--valid-until", until)
	return err
}

// wholeSeconds is a time as approvals have it.
func wholeSeconds(flag string, at time.Time) (unix int64, err error) {
	if at.Nanosecond() != 0 {
		return 0, usage("%s is %s, want whole seconds", flag, at.Format(time.RFC3339Nano))
	}
	return at.Unix(), nil
}

// manufacturerKey is the public key that the approval names.
func (d *approvalDraft) manufacturerKey() (key signature.Key, err error) {
	if d.public != "" {
		if d.key != "" {
			return key, usage("--manufacturer-key and --manufacturer-public: give one of them")
		}
		public, err := founding.ParsePublicKey(d.public)
		if err != nil {
			return key, usage("--manufacturer-public: %w", err)
		}
		return public.Key, nil
	}
	if d.key == "" && d.networkID == "" {
		network, err := d.network()
		if err != nil {
			return key, err
		}
		if network != nil {
			d.key = network.KeyPath(devnet.Manufacturer)
		}
	}
	if d.key == "" {
		return key, usage("--manufacturer-key or --manufacturer-public is needed without a network directory")
	}
	private, err := statement.ReadKey(d.key)
	if err != nil {
		return key, fmt.Errorf("manufacturer's key: %w", err)
	}
	return statement.VerifierKey(private.Public())
}

// endorsers is the endorsement policy.
func (d *approvalDraft) endorsers() (policy.Policy, error) {
	if d.policy != "" {
		p, err := policy.Parse(d.policy)
		if err != nil {
			return p, usage("--policy: %w", err)
		}
		return p, nil
	}
	who := make([]policy.Policy, len(d.of))
	for i, id := range d.of {
		who[i] = policy.Organisation(id)
	}
	return policy.OutOf(d.require, who...), nil
}

// place is where the approval attaches: from the command line, or asked.
func (d *approvalDraft) place(ctx context.Context, module digest.Digest) (p statement.Place, err error) {
	if d.networkID == "" {
		return d.placeOf(ctx, record.SubjectAlgorithm(module))
	}
	return offlinePlace(d.networkID, d.sequence, d.predecessor)
}
