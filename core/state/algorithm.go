package state

import (
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// maxSpans bounds the suspensions and verifications that a state value keeps.
const maxSpans = 256

// algorithmApproval is an in-toto type approval. A second one on the same
// module renews it: policy, end of validity, test report and disclosure may
// change; what the module is and what its results mean may not.
type algorithmApproval struct{ *approval.Approval }

func (a algorithmApproval) check(*statement) error {
	if a.ProfileVersion != claim.ProfileVersion {
		return reason.New(reason.InvalidStatement, "sandbox profile %d, this version of the records knows %d", a.ProfileVersion, claim.ProfileVersion)
	}
	return nil // approval.Parse checked the rest
}

func (a algorithmApproval) authority(_ *reader, config *Config) ([]signers, error) {
	body, err := bodySigns(config, a.NotifiedBody)
	if err != nil {
		return nil, err
	}
	return append(body, oneOf("the manufacturer", a.Manufacturer.Key)), nil
}

func (a algorithmApproval) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	for _, id := range a.Policy.Organisations() {
		if b.config.Organisation(id) == nil {
			return reason.New(reason.UnknownOrganisation, "the endorsement policy names %s, no organisation of the network", id)
		}
	}
	if _, until := validity(a.Approval); until < b.blockTimeUnixNano {
		return reason.New(reason.Expired, "the approval ends at %d ns, block time is %d", until, b.blockTimeUnixNano)
	}
	old, err := b.algorithm(a.Module)
	if err != nil {
		return err
	}
	value := &statev1.Algorithm{
		Last: ref, Approval: st.digest.Bytes(), ApprovalPayload: st.envelope.Payload, ApprovalIndex: ref.GetIndex(),
	}
	if old != nil {
		if old.state.GetWithdrawn() {
			return reason.New(reason.InvalidStatement, "the approval of module %s was withdrawn for ever", a.Module.Short())
		}
		if !sameModule(old.terms, a.Approval) {
			return reason.New(reason.InvalidStatement, "module %s keeps manufacturer, name, version, profile, fuel limit, schema and beginning of validity", a.Module.Short())
		}
		value.Suspensions = old.state.GetSuspensions()
		value.SupersededAtUnixNano, value.Successor = old.state.GetSupersededAtUnixNano(), old.state.GetSuccessor()
	}
	b.putMessage(AlgorithmKey(a.Module), value)
	return nil
}

func sameModule(a, b *approval.Approval) bool {
	return a.Manufacturer == b.Manufacturer && a.ModuleName == b.ModuleName && a.ModuleVersion == b.ModuleVersion &&
		a.ProfileVersion == b.ProfileVersion && a.FuelLimit == b.FuelLimit && a.Schema.Equal(&b.Schema) &&
		a.NotBeforeUnix == b.NotBeforeUnix
}

// algorithmStatus suspends, resumes, withdraws or supersedes an approval.
type algorithmStatus struct{ *recordv1.AlgorithmStatus }

func (a algorithmStatus) check(st *statement) error {
	module, err := record.Digest32("algorithm", a.GetAlgorithm())
	if err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectAlgorithm(module)); err != nil {
		return err
	}
	switch a.GetAction() {
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME:
		if err := checkEffective(a.GetEffectiveAtUnixNano()); err != nil {
			return err
		}
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW:
		if a.GetEffectiveAtUnixNano() != 0 {
			return reason.New(reason.InvalidStatement, "a withdrawal counts from its block, it has no effective time")
		}
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE:
		if err := a.checkSuccessor(module); err != nil {
			return err
		}
	default:
		return reason.New(reason.Malformed, "algorithm status without an action")
	}
	if n := len(a.GetSuccessor()); n > 0 && a.GetAction() != recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE {
		return reason.New(reason.Malformed, "a successor of %d bytes in a statement that names none; only a supersession does", n)
	}
	return checkText("reason", a.GetReason(), MaxReason)
}

func (a algorithmStatus) checkSuccessor(module digest.Digest) error {
	successor, err := record.Digest32("successor", a.GetSuccessor())
	switch {
	case err != nil:
		return err
	case successor == module:
		return reason.New(reason.InvalidStatement, "module %s cannot take its own place; name another module", module.Short())
	}
	return checkEffective(a.GetEffectiveAtUnixNano())
}

func (a algorithmStatus) authority(_ *reader, config *Config) ([]signers, error) {
	return []signers{notifiedBodies(config)}, nil
}

// notifiedBodies is any notified body, by as many of its keys as it must use.
func notifiedBodies(config *Config) signers {
	group := signers{who: "a notified body"}
	for _, n := range config.Message.GetNotifiedBodies() {
		group.sets = append(group.sets, bodyKeys(n))
	}
	return group
}

// bodySigns is a named notified body, by as many of its keys as it must use.
func bodySigns(config *Config, id string) ([]signers, error) {
	body := config.NotifiedBody(id)
	if body == nil {
		return nil, reason.New(reason.NotAuthorised, "%.80q is no notified body of the network", id)
	}
	return []signers{{who: "notified body " + id, sets: []keySet{bodyKeys(body)}}}, nil
}

// bodyKeys are the keys of a notified body, of which its threshold must sign.
func bodyKeys(n *recordv1.NotifiedBody) keySet {
	set := keySet{atLeast: int(n.GetThreshold())}
	for _, key := range n.GetKeys() {
		set.keys = append(set.keys, storedKey(key))
	}
	return set
}

func (a algorithmStatus) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	module := digest.Digest(a.GetAlgorithm())
	old, err := b.algorithm(module)
	if err != nil {
		return err
	}
	if old == nil {
		return reason.New(reason.UnknownAlgorithm, "module %s was never approved", module.Short())
	}
	if old.state.GetWithdrawn() {
		return reason.New(reason.InvalidStatement, "the approval of module %s was withdrawn for ever", module.Short())
	}
	value := proto.CloneOf(old.state)
	value.Last = ref
	switch a.GetAction() {
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND:
		value.Suspensions, err = suspend(value.GetSuspensions(), a.GetEffectiveAtUnixNano())
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME:
		value.Suspensions, err = resume(value.GetSuspensions(), a.GetEffectiveAtUnixNano())
	case recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE:
		err = b.supersede(value, digest.Digest(a.GetSuccessor()), a.GetEffectiveAtUnixNano())
	default:
		value.Withdrawn = true
	}
	if err != nil {
		return err
	}
	b.putMessage(AlgorithmKey(module), value)
	return nil
}

// supersede names the module that takes the place of another from a capture
// time on. It does so once: a successor's own successor is named on it.
func (b *Block) supersede(value *statev1.Algorithm, successor digest.Digest, fromUnixNano int64) error {
	if at := value.GetSupersededAtUnixNano(); at != 0 {
		return reason.New(reason.InvalidStatement, "superseded from %d ns by module %s already", at, shortOf(value.GetSuccessor()))
	}
	next, err := b.algorithm(successor)
	switch {
	case err != nil:
		return err
	case next == nil:
		return reason.New(reason.UnknownAlgorithm, "the successor %s was never approved; have it approved first", successor.Short())
	case next.state.GetWithdrawn():
		return reason.New(reason.AlgorithmNotInForce, "the approval of the successor %s was withdrawn", successor.Short())
	case next.state.GetSupersededAtUnixNano() != 0: // so that no ring of successors is left without a module
		return reason.New(reason.AlgorithmNotInForce, "the successor %s is itself superseded by module %s; name that one", successor.Short(), shortOf(next.state.GetSuccessor()))
	}
	value.SupersededAtUnixNano, value.Successor = fromUnixNano, successor.Bytes()
	return nil
}

// approved is an approved module with the terms of its approval.
type approved struct {
	state *statev1.Algorithm
	terms *approval.Approval
}

// algorithm reads an approved module; nil when there is none.
func (r *reader) algorithm(module digest.Digest) (*approved, error) {
	value, err := message[statev1.Algorithm](r, AlgorithmKey(module))
	if err != nil || value == nil {
		return nil, err
	}
	if known := r.approved[module]; known != nil && known.state == value {
		return known, nil
	}
	payload := value.GetApprovalPayload()
	terms, err := once(r.memory, "terms/"+string(module[:]), payload, func() (*approval.Approval, error) { return approval.ParseAccepted(payload) })
	if err != nil {
		return nil, corrupt("approval of module %s: %w", module.Short(), err)
	}
	a := &approved{state: value, terms: terms}
	r.approved[module] = a
	return a, nil
}
