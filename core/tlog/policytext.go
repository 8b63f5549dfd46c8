package tlog

import (
	"bytes"
	"strings"
)

// Text is the policy file: log, witness and group lines and the quorum line.
func (p *Policy) Text() []byte {
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, " ") + "\n") }
	for _, key := range p.Logs {
		line("log", key.String())
	}
	for _, w := range p.Witnesses {
		line("witness", w.Name, w.Key.String())
	}
	for _, g := range p.Groups {
		line(append([]string{"group", g.Name, g.Threshold}, g.Members...)...)
	}
	line("quorum", p.Quorum)
	return []byte(b.String())
}

// ParsePolicy reads what Text writes of a valid policy, and nothing else
// (*FormatError, *signature.KeyError).
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicySize {
		return nil, malformed("policy", 0, "%d bytes, at most %d", len(text), MaxPolicySize)
	}
	lines, ok := splitLines(string(text))
	if !ok {
		return nil, malformed("policy", 0, "the last line is not ended by a newline")
	}
	if limit := MaxPolicyLogs + MaxPolicyWitnesses + MaxPolicyGroups + 1; len(lines) > limit {
		return nil, malformed("policy", 0, "%d lines, at most %d", len(lines), limit)
	}
	p := new(Policy)
	for i, line := range lines {
		if err := p.parseLine(strings.Split(line, " ")); err != nil {
			return nil, malformed("policy", i+1, "%v", err)
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(p.Text(), text) {
		return nil, malformed("policy", 0, "not the canonical form: logs, witnesses, groups, quorum, single spaces, nothing else")
	}
	return p, nil
}

// parseLine adds one line. The order of lines is left to the comparison in
// ParsePolicy, the meaning of names to check.
func (p *Policy) parseLine(words []string) error {
	switch {
	case words[0] == "log" && len(words) == 2:
		key, err := ParseVerifierKey(words[1])
		p.Logs = append(p.Logs, key)
		return err
	case words[0] == "witness" && len(words) == 3:
		key, err := ParseVerifierKey(words[2])
		p.Witnesses = append(p.Witnesses, Witness{Name: words[1], Key: key})
		return err
	case words[0] == "group" && len(words) >= 4:
		p.Groups = append(p.Groups, Group{Name: words[1], Threshold: words[2], Members: words[3:]})
		return nil
	case words[0] == "quorum" && len(words) == 2 && p.Quorum == "":
		p.Quorum = words[1]
		return nil
	}
	return malformed("line", 0, "%.60q with %d words is not a log, witness, group or the one quorum line", words[0], len(words))
}
