package command

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// approvalVerify is the command line of `approval verify`.
type approvalVerify struct {
	judging
	module      string
	report      string
	rerun, full bool
	workers     int
}

// verifyStep is one check of `approval verify`.
type verifyStep struct {
	Name    string          `json:"name"`
	Verdict receipt.Verdict `json:"verdict"`
	Detail  string          `json:"detail"`
}

// verification is the report of `approval verify`.
type verification struct {
	Verdict   receipt.Verdict `json:"verdict"`
	Statement string          `json:"statement"`
	Steps     []verifyStep    `json:"steps"`
}

func newApprovalVerify(a *app) *cobra.Command {
	var v approvalVerify
	c := a.reading(&cobra.Command{
		Use:   "verify APPROVAL",
		Short: "Check an approval's signatures, its module and its type test, offline",
		Long: `Checks a signed approval: the manufacturer's signature and, with the network's
genesis (or, with --follow, by the configuration in force), the notified body's; that --module is the approved one, by SHA-256, name
and sandbox profile; that --report is the approved type test, is about that module
and says that all criteria held.

--rerun runs the type test again: the small campaign, or with --full the whole one
(about half an hour of one core). Of the campaign that the report is about every
figure must come out the same, except the counts of engine checks; of another one
only its criteria are judged. The test is on simulated passes.

Exit code: 0 verified, 1 refuted, 2 something could not be judged.`,
		Example: `  lacre approval verify approval.dsse --module speed --report report.json --genesis genesis
  lacre approval verify approval.dsse --module speed.wasm --report report.json --rerun --full`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runApprovalVerify(c.Context(), &v, args[0]) },
	})
	v.flags(c)
	f := c.Flags()
	f.StringVar(&v.module, "module", "", "file of the module, or \"speed\" for the built-in one")
	f.StringVar(&v.report, "report", "", "file of the type test's report")
	f.BoolVar(&v.rerun, "rerun", false, "run the type test again")
	f.BoolVar(&v.full, "full", false, "with --rerun: the whole campaign")
	f.IntVar(&v.workers, "workers", 0, "passes at the same time; 0: one for each core")
	return c
}

func (a *app) runApprovalVerify(ctx context.Context, v *approvalVerify, file string) error {
	if v.full && !v.rerun || v.rerun && (v.module == "" || v.report == "") {
		return usage("--full needs --rerun, and --rerun needs --module and --report")
	}
	e, err := readDraft(file)
	if err != nil {
		return err
	}
	if e.PayloadType != record.TypeApproval {
		return fmt.Errorf("%s is a statement of type %s, want an approval", file, e.PayloadType)
	}
	terms, err := approval.Parse(e.Payload)
	if err != nil {
		return err
	}
	r := &verification{Statement: e.Digest().String()}
	if err := v.checkSignatures(ctx, r, e, terms); err != nil {
		return err
	}
	module, err := v.checkModule(r, terms)
	if err != nil {
		return err
	}
	if err := v.checkReport(ctx, a, r, terms, module); err != nil {
		return err
	}
	r.conclude()
	if err := a.print(r, r.text()); err != nil {
		return err
	}
	return exit(exitOf(r.Verdict))
}

func (r *verification) add(name string, verdict receipt.Verdict, format string, args ...any) {
	r.Steps = append(r.Steps, verifyStep{name, verdict, fmt.Sprintf(format, args...)})
}

// compare adds a step that two digests are one.
func (r *verification) compare(name string, got, want digest.Digest) bool {
	if got != want {
		r.add(name, receipt.Refuted, "SHA-256 %s, approved is %s", got, want)
		return false
	}
	r.add(name, receipt.Verified, "SHA-256 %s, as approved", got)
	return true
}

func (v *approvalVerify) checkSignatures(ctx context.Context, r *verification, e *envelope.Envelope, terms *approval.Approval) error {
	if err := e.Verify(signature.Direct{}, terms.Manufacturer.Key); err != nil {
		r.add("manufacturer", receipt.Refuted, "%v", err)
	} else {
		r.add("manufacturer", receipt.Verified, "signed by the key that the approval names for %s", terms.Manufacturer.Name)
	}
	judge, err := v.judge(ctx, e)
	switch why := reason.Of(err); {
	case why != "":
		r.add("notified body", receipt.Refuted, "%v", err)
		return nil
	case err != nil:
		return err
	case judge == nil:
		r.add("notified body", receipt.Undecidable, "its keys stand in the network's genesis, which was not given")
		return nil
	}
	parties, err := judge.parties(e)
	if err != nil {
		return err
	}
	for _, p := range parties {
		verdict := receipt.Verified
		if p.Missing > 0 {
			verdict = receipt.Refuted
		}
		r.add(p.Who, verdict, "%d valid signatures, %d missing, by %s", p.Signed, p.Missing, judge.by())
	}
	return nil
}

func (v *approvalVerify) checkModule(r *verification, terms *approval.Approval) ([]byte, error) {
	if v.module == "" {
		r.add("module", receipt.Undecidable, "not given")
		return nil, nil
	}
	module, err := readModule(v.module)
	if err != nil {
		return nil, err
	}
	if !r.compare("module", digest.Plain(module), terms.Module) {
		return module, nil
	}
	switch m, err := profile.Check(module); {
	case err != nil:
		r.add("profile", receipt.Refuted, "%v", err)
	case m.Name != terms.ModuleName || m.Version != terms.ModuleVersion:
		r.add("profile", receipt.Refuted, "the module calls itself %.80q %.80q, the approval %q %q", m.Name, m.Version, terms.ModuleName, terms.ModuleVersion)
	default:
		r.add("profile", receipt.Verified, "within %s, calls itself %s %s", profile.Version, m.Name, m.Version)
	}
	return module, nil
}

func (v *approvalVerify) checkReport(ctx context.Context, a *app, r *verification, terms *approval.Approval, module []byte) error {
	if v.report == "" {
		r.add("test report", receipt.Undecidable, "not given")
		return nil
	}
	text, err := os.ReadFile(v.report)
	if err != nil {
		return err
	}
	if !r.compare("test report", digest.Plain(text), terms.TestReport) {
		return nil
	}
	approved, err := readTestReport(text)
	switch {
	case err != nil:
		r.add("type test", receipt.Undecidable, "the report is none of \"lacre module test --out\": %v", err)
		return nil
	case approved.Module != terms.Module.String():
		r.add("type test", receipt.Refuted, "the report is about module %.80q, approved is %s", approved.Module, terms.Module)
		return nil
	case !approved.Held:
		r.add("type test", receipt.Refuted, "the report says that not all criteria held")
		return nil
	}
	r.add("type test", receipt.Verified, "the report is about the module and says that all %d criteria held", len(approved.Criteria))
	if !v.rerun || digest.Plain(module) != terms.Module {
		return nil
	}
	return a.rerunTypeTest(ctx, v, r, approved, module)
}

func (r *verification) conclude() {
	r.Verdict = receipt.Verified
	for _, s := range r.Steps {
		if s.Verdict == receipt.Refuted || s.Verdict == receipt.Undecidable && r.Verdict == receipt.Verified {
			r.Verdict = s.Verdict
		}
	}
}

func (r *verification) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "statement %s\n", r.Statement)
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-12s %-16s %s\n", s.Verdict, s.Name, s.Detail)
	}
	fmt.Fprintf(&b, "%s\n", r.Verdict)
	return b.String()
}
