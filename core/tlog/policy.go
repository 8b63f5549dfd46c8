package tlog

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/signature"
)

// Bounds of a policy; C2SP tlog-policy asks for at least 32 of each.
const (
	MaxPolicyLogs      = 64
	MaxPolicyWitnesses = MaxCosignatures
	MaxPolicyGroups    = 32
	// MaxPolicySize bounds a policy's text in bytes.
	MaxPolicySize = 64 << 10
)

// Policy says who certifies a log: C2SP tlog-policy, the subset in the package
// doc. It is made by NewPolicy, NewQuorumPolicy or ParsePolicy and not changed
// afterwards; so it is safe for concurrent use.
//
// Our rule (Check): the origin is the policy's, any one of the log keys has
// signed, every cosignature is of a distinct witness and verifies, the quorum
// is reached, and no cosignature could be left out. For one group with
// threshold q that is: exactly q. (The module torchwood v0.9.0 instead demands
// signatures by all listed logs, contrary to the specification; a network
// with one listed log is the same under both.)
type Policy struct {
	Logs      []VerifierKey // LogKey; all named by the one origin; ascending by vkey
	Witnesses []Witness     // ascending by name
	Groups    []Group       // each after the groups that it names
	Quorum    string        // a witness or a group
}

// Witness is a replica under a name that groups use.
type Witness struct {
	Name string
	Key  VerifierKey // CosignerKey
}

// Group has cosigned when Threshold of its members have.
type Group struct {
	Name      string
	Threshold string   // "any", "all" or a decimal number from 1 to len(Members)
	Members   []string // witnesses or earlier groups; a name is a member once in the whole policy
}

// QuorumGroup is the name of the group in a policy of NewQuorumPolicy.
const QuorumGroup = "replicas"

// NewQuorumPolicy is the ordinary policy of an epoch: any of the logs, and q of
// the replicas, each named in the policy as in its key.
func NewQuorumPolicy(logs, replicas []VerifierKey, q int) (*Policy, error) {
	group := Group{Name: QuorumGroup, Threshold: strconv.Itoa(q)}
	var witnesses []Witness
	for _, key := range replicas {
		witnesses = append(witnesses, Witness{Name: key.Name, Key: key})
		group.Members = append(group.Members, key.Name)
	}
	slices.Sort(group.Members)
	return NewPolicy(logs, witnesses, []Group{group}, QuorumGroup)
}

// NewPolicy sorts logs and witnesses, copies everything and checks it
// (*FormatError, *signature.KeyError).
func NewPolicy(logs []VerifierKey, witnesses []Witness, groups []Group, quorum string) (*Policy, error) {
	p := &Policy{Logs: slices.Clone(logs), Witnesses: slices.Clone(witnesses), Quorum: quorum}
	slices.SortFunc(p.Logs, func(a, b VerifierKey) int { return strings.Compare(a.String(), b.String()) })
	slices.SortFunc(p.Witnesses, func(a, b Witness) int { return strings.Compare(a.Name, b.Name) })
	for _, g := range groups {
		g.Members = slices.Clone(g.Members)
		p.Groups = append(p.Groups, g)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// Origin is the origin of the log that the policy is about.
func (p *Policy) Origin() string { return p.Logs[0].Name }

// Witness finds a witness by its key's name, the name on cosignature lines.
func (p *Policy) Witness(keyName string) (Witness, bool) {
	for _, w := range p.Witnesses {
		if w.Key.Name == keyName {
			return w, true
		}
	}
	return Witness{}, false
}

// check is the whole of what a valid policy is.
func (p *Policy) check() error {
	if n := len(p.Logs); n == 0 || n > MaxPolicyLogs {
		return malformed("policy", 0, "%d log lines, want 1 to %d", n, MaxPolicyLogs)
	}
	if n := len(p.Witnesses); n == 0 || n > MaxPolicyWitnesses {
		return malformed("policy", 0, "%d witness lines, want 1 to %d", n, MaxPolicyWitnesses)
	}
	if n := len(p.Groups); n > MaxPolicyGroups {
		return malformed("policy", 0, "%d group lines, at most %d", n, MaxPolicyGroups)
	}
	if err := p.checkKeys(); err != nil {
		return err
	}
	return p.checkNames()
}

// checkKeys: types, one origin, order, and no public key twice, not even as a
// log and a witness.
func (p *Policy) checkKeys() error {
	owner := make(map[[32]byte]string)
	take := func(key VerifierKey, want KeyType) error {
		if key.Type != want {
			return malformed("policy", 0, "%s is a %v, want a %v", key.Name, key.Type, want)
		}
		if other, taken := owner[key.Public]; taken {
			return malformed("policy", 0, "%s and %s have the same public key", other, key.Name)
		}
		owner[key.Public] = key.Name
		return key.Check()
	}
	for i, key := range p.Logs {
		if err := take(key, LogKey); err != nil {
			return err
		}
		if key.Name != p.Logs[0].Name {
			return malformed("policy", 0, "logs %s and %s, want one origin", p.Logs[0].Name, key.Name)
		}
		if i > 0 && key.String() <= p.Logs[i-1].String() {
			return malformed("policy", 0, "log lines are not in ascending order")
		}
	}
	keyNames := make(map[string]bool)
	for i, w := range p.Witnesses {
		if err := take(w.Key, CosignerKey); err != nil {
			return err
		}
		if keyNames[w.Key.Name] {
			return malformed("policy", 0, "two witnesses have keys named %s", w.Key.Name)
		}
		keyNames[w.Key.Name] = true
		if i > 0 && w.Name <= p.Witnesses[i-1].Name {
			return malformed("policy", 0, "witness %q after %q, want ascending distinct names", w.Name, p.Witnesses[i-1].Name)
		}
	}
	return nil
}

// checkNames: one namespace, definitions before use, each name a member once,
// thresholds in range, a defined quorum.
func (p *Policy) checkNames() error {
	defined := make(map[string]bool)
	used := make(map[string]string) // member to its group
	define := func(name string) error {
		if !validName(name) || name == "none" || defined[name] {
			return malformed("policy", 0, "%q is not a new name of 1 to %d printable ASCII characters without space and plus", name, MaxNameSize)
		}
		defined[name] = true
		return nil
	}
	for _, w := range p.Witnesses {
		if err := define(w.Name); err != nil {
			return err
		}
	}
	for _, g := range p.Groups {
		for _, m := range g.Members {
			if !defined[m] {
				return malformed("policy", 0, "group %s names %q, which no line before it defines", g.Name, m)
			}
			if other, ok := used[m]; ok {
				return malformed("policy", 0, "%s is a member of %s and again of %s", m, other, g.Name)
			}
			used[m] = g.Name
		}
		if k := g.threshold(); k < 1 || k > len(g.Members) {
			return malformed("policy", 0, "group %s has threshold %q of %d members", g.Name, g.Threshold, len(g.Members))
		}
		if err := define(g.Name); err != nil {
			return err
		}
	}
	if !defined[p.Quorum] { // "none" is never defined: it would certify nothing
		return malformed("policy", 0, "quorum %q is not a witness or group of the policy", p.Quorum)
	}
	return nil
}

// threshold is the number of members needed; 0 when the text is not one.
func (g Group) threshold() int {
	switch g.Threshold {
	case "any":
		return 1
	case "all":
		return len(g.Members)
	}
	if n, ok := parseDecimal(g.Threshold); ok && n <= MaxPolicyWitnesses+MaxPolicyGroups {
		return int(n)
	}
	return 0
}

// reached evaluates the quorum over witnesses that have cosigned, by their
// names in the policy.
func (p *Policy) reached(cosigned map[string]bool) bool {
	has := make(map[string]bool, len(cosigned)+len(p.Groups))
	for name, yes := range cosigned {
		has[name] = yes
	}
	for _, g := range p.Groups {
		n := 0
		for _, m := range g.Members {
			if has[m] {
				n++
			}
		}
		has[g.Name] = n >= g.threshold()
	}
	return has[p.Quorum]
}

// Check says whether the policy accepts the certificate: nil, or a *PolicyError
// (wrapped signature errors included). It needs no clock: a certificate that
// was good stays good.
func (p *Policy) Check(v signature.Verifier, c *Certificate) error {
	refuse := func(parts ...string) error {
		return &PolicyError{Origin: c.Checkpoint.Origin, Size: c.Checkpoint.Size, Reason: strings.Join(parts, "")}
	}
	if err := c.check(); err != nil {
		return refuse(err.Error())
	}
	if c.Checkpoint.Origin != p.Origin() {
		return refuse("the policy is about ", p.Origin())
	}
	if err := p.checkLog(v, c); err != nil {
		return refuse(err.Error())
	}
	cosigned := make(map[string]bool, len(c.Cosignatures))
	for _, s := range c.Cosignatures {
		w, ok := p.Witness(s.Name)
		if !ok {
			return refuse("the policy has no witness with a key named ", s.Name)
		}
		if err := s.Verify(v, w.Key, c.Checkpoint); err != nil {
			return refuse(err.Error())
		}
		cosigned[w.Name] = true
	}
	if !p.reached(cosigned) {
		return refuse(strconv.Itoa(len(cosigned)), " cosignatures do not reach quorum ", p.Quorum, p.quorumText())
	}
	for name := range cosigned {
		cosigned[name] = false
		spare := p.reached(cosigned)
		cosigned[name] = true
		if spare {
			return refuse(strconv.Itoa(len(cosigned)), " cosignatures are more than quorum ", p.Quorum, p.quorumText(), " needs")
		}
	}
	return nil
}

// checkLog wants one of the log keys behind the one log signature.
func (p *Policy) checkLog(v signature.Verifier, c *Certificate) error {
	var err error
	for _, key := range p.Logs {
		if err = c.Log.Verify(v, key, c.Checkpoint); err == nil {
			return nil
		}
	}
	return err
}

// quorumText is " (3 of 4)" for a group, for messages.
func (p *Policy) quorumText() string {
	for _, g := range p.Groups {
		if g.Name == p.Quorum {
			return " (" + g.Threshold + " of " + strconv.Itoa(len(g.Members)) + ")"
		}
	}
	return ""
}

// Assemble makes the certificate out of signatures that the caller has already
// verified: it drops those that the policy does not know and those beyond the
// quorum (the last in order of name first), and errs (*PolicyError) while the
// quorum is not reached.
func (p *Policy) Assemble(checkpoint Checkpoint, log LogSignature, collected []Cosignature) (*Certificate, error) {
	byName := make(map[string]Cosignature)
	cosigned := make(map[string]bool)
	for _, s := range collected {
		if w, ok := p.Witness(s.Name); ok {
			byName[w.Name], cosigned[w.Name] = s, true
		}
	}
	if !p.reached(cosigned) {
		return nil, &PolicyError{Origin: checkpoint.Origin, Size: checkpoint.Size,
			Reason: strconv.Itoa(len(cosigned)) + " cosignatures do not reach quorum " + p.Quorum + p.quorumText()}
	}
	var kept []Cosignature
	for _, w := range slices.Backward(p.Witnesses) {
		if !cosigned[w.Name] {
			continue
		}
		cosigned[w.Name] = false
		if !p.reached(cosigned) {
			cosigned[w.Name] = true
			kept = append(kept, byName[w.Name])
		}
	}
	return NewCertificate(checkpoint, log, kept)
}
