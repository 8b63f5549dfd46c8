package tlog_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

func TestPolicyAcceptsAnyLogKeyAndExactlyQ(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	v := signature.Direct{}
	for leader := range 4 {
		for left := range 4 {
			var replicas []int
			for r := range 4 {
				if r != left {
					replicas = append(replicas, r)
				}
			}
			certificate := net.certify(replicas...)
			certificate.Log = net.signLog(leader, certificate.Checkpoint)
			if err := net.policy.Check(v, certificate); err != nil {
				t.Errorf("log %d, all but replica %d: %v", leader, left, err)
			}
		}
	}
	for name, replicas := range map[string][]int{"one": {0}, "q-1": {0, 1}, "all": {0, 1, 2, 3}} {
		if err := net.policy.Check(v, net.certify(replicas...)); !errors.Is(err, tlog.ErrNotCertified) {
			t.Errorf("%s cosignatures: %v", name, err)
		}
	}
}

func TestPolicyRefuses(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	good := net.certify(0, 1, 2)
	stranger := signer("stranger")
	strangerKey := net.key("zz.example", tlog.CosignerKey, stranger)
	for name, spoil := range map[string]func(c *tlog.Certificate){
		"origin of another network": func(c *tlog.Certificate) {
			c.Checkpoint.Origin, c.Log.Name = "ledger.example/0000000000000000", "ledger.example/0000000000000000"
		},
		"another root": func(c *tlog.Certificate) { c.Checkpoint.Root[0] ^= 1 },
		"another size": func(c *tlog.Certificate) { c.Checkpoint.Size++ },
		"log key unknown": func(c *tlog.Certificate) {
			s, err := tlog.SignLog(stranger, c.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			c.Log = s
		},
		"log signature of another checkpoint": func(c *tlog.Certificate) {
			other := c.Checkpoint
			other.Size++
			c.Log = net.signLog(0, other)
		},
		"stranger in place of a replica": func(c *tlog.Certificate) {
			s, err := tlog.Cosign(stranger, strangerKey.Name, c.Checkpoint, 1)
			if err != nil {
				t.Fatal(err)
			}
			c.Cosignatures[2] = s
		},
		"stranger beside the quorum": func(c *tlog.Certificate) {
			s, err := tlog.Cosign(stranger, strangerKey.Name, c.Checkpoint, 1)
			if err != nil {
				t.Fatal(err)
			}
			c.Cosignatures = append(c.Cosignatures, s)
		},
		"one replica under two names": func(c *tlog.Certificate) {
			s, err := tlog.Cosign(net.replicas[0], net.names[2], c.Checkpoint, 1)
			if err != nil {
				t.Fatal(err)
			}
			c.Cosignatures[2] = s
		},
		"one replica twice":     func(c *tlog.Certificate) { c.Cosignatures[2] = c.Cosignatures[1] },
		"time stamp moved":      func(c *tlog.Certificate) { c.Cosignatures[1].TimestampUnix++ },
		"cosignature moved":     func(c *tlog.Certificate) { c.Cosignatures[1].Bytes = c.Cosignatures[0].Bytes },
		"key ID of another":     func(c *tlog.Certificate) { c.Cosignatures[1].KeyID++ },
		"cosignatures unsorted": func(c *tlog.Certificate) { c.Cosignatures[0], c.Cosignatures[1] = c.Cosignatures[1], c.Cosignatures[0] },
		"none":                  func(c *tlog.Certificate) { c.Cosignatures = nil },
	} {
		c := *good
		c.Cosignatures = append([]tlog.Cosignature(nil), good.Cosignatures...)
		spoil(&c)
		var policyError *tlog.PolicyError
		if err := net.policy.Check(signature.Direct{}, &c); !errors.Is(err, tlog.ErrNotCertified) || !errors.As(err, &policyError) {
			t.Errorf("%s: %v", name, err)
		} else if name == "origin of another network" && (policyError.Origin != c.Checkpoint.Origin || policyError.Reason != "the policy is about "+net.origin) {
			t.Errorf("%s: %v does not show both origins", name, err)
		}
	}
	if err := net.policy.Check(signature.Direct{}, good); err != nil {
		t.Errorf("the test spoiled the good one: %v", err)
	}
}

func TestAssemblePicksExactlyTheQuorum(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	c := net.checkpoint()
	var collected []tlog.Cosignature
	strange, err := tlog.Cosign(signer("stranger"), "aa.example", c, 1)
	if err != nil {
		t.Fatal(err)
	}
	collected = append(collected, strange)
	for _, r := range []int{3, 1} {
		collected = append(collected, net.cosign(r, c))
		if _, err := net.policy.Assemble(c, net.signLog(0, c), collected); !errors.Is(err, tlog.ErrNotCertified) {
			t.Errorf("%d collected: %v", len(collected), err)
		}
	}
	for _, r := range []int{0, 0, 2} { // one twice, then all four
		collected = append(collected, net.cosign(r, c))
		certificate, err := net.policy.Assemble(c, net.signLog(0, c), collected)
		if err != nil {
			t.Fatal(err)
		}
		if err := net.policy.Check(signature.Direct{}, certificate); err != nil {
			t.Errorf("after replica %d: %v", r, err)
		}
	}
}

func TestNestedGroups(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	names := net.names
	logs := net.policy.Logs
	policy, err := tlog.NewPolicy(logs, net.policy.Witnesses, []tlog.Group{
		{Name: "a", Threshold: "any", Members: []string{names[1], names[0]}},
		{Name: "b", Threshold: "all", Members: []string{names[2], names[3]}},
		{Name: "both", Threshold: "2", Members: []string{"a", "b"}},
	}, "both")
	if err != nil {
		t.Fatal(err)
	}
	back, err := tlog.ParsePolicy(policy.Text())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		replicas []int
		want     bool
	}{
		{[]int{0, 2, 3}, true}, {[]int{1, 2, 3}, true},
		{[]int{0, 1, 2}, false}, {[]int{2, 3}, false}, {[]int{0, 2}, false},
		{[]int{0, 1, 2, 3}, false}, // 0 or 1 could be left out
	} {
		if got := back.Check(signature.Direct{}, net.certify(c.replicas...)) == nil; got != c.want {
			t.Errorf("replicas %v: %v", c.replicas, got)
		}
	}
	single, err := tlog.NewPolicy(logs, net.policy.Witnesses, nil, names[2])
	if err != nil {
		t.Fatal(err)
	}
	if err := single.Check(signature.Direct{}, net.certify(2)); err != nil {
		t.Errorf("one witness as the quorum: %v", err)
	}
}

func TestB2_PolicyHasOneForm(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	text := string(net.policy.Text())
	if back, err := tlog.ParsePolicy([]byte(text)); err != nil || !bytes.Equal(back.Text(), []byte(text)) {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	with := func(edit func(l []string) []string) string {
		return strings.Join(edit(append([]string(nil), lines...)), "")
	}
	group, quorum := lines[8], lines[9]
	replica0 := net.names[0]
	vkey0 := net.policy.Witnesses[0].Key.String()
	for name, bad := range map[string]string{
		"empty":                    "",
		"no final newline":         strings.TrimSuffix(text, "\n"),
		"comment":                  "# hello\n" + text,
		"empty line":               text + "\n",
		"tab":                      strings.Replace(text, "log ", "log\t", 1),
		"double space":             strings.Replace(text, "log ", "log  ", 1),
		"URL":                      strings.Replace(text, lines[0], strings.TrimSuffix(lines[0], "\n")+" https://example\n", 1),
		"carriage return":          strings.Replace(text, "\n", "\r\n", 1),
		"unknown word":             text + "policy x\n",
		"logs swapped":             with(func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }),
		"witnesses swapped":        with(func(l []string) []string { l[4], l[5] = l[5], l[4]; return l }),
		"witness before log":       with(func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }),
		"log twice":                with(func(l []string) []string { return append([]string{l[0]}, l...) }),
		"no log":                   with(func(l []string) []string { return l[4:] }),
		"no witness":               with(func(l []string) []string { return append(append(l[:4:4], l[8]), l[9]) }),
		"no quorum":                with(func(l []string) []string { return l[:9] }),
		"two quorums":              text + quorum,
		"quorum before group":      with(func(l []string) []string { l[8], l[9] = l[9], l[8]; return l }),
		"quorum none":              strings.Replace(text, quorum, "quorum none\n", 1),
		"quorum undefined":         strings.Replace(text, quorum, "quorum x\n", 1),
		"threshold 0":              strings.Replace(text, "replicas 3", "replicas 0", 1),
		"threshold 5 of 4":         strings.Replace(text, "replicas 3", "replicas 5", 1),
		"threshold 03":             strings.Replace(text, "replicas 3", "replicas 03", 1),
		"threshold some":           strings.Replace(text, "replicas 3", "replicas some", 1),
		"threshold huge":           strings.Replace(text, "replicas 3", "replicas 9999999999999999999", 1),
		"member undefined":         strings.Replace(text, group, strings.TrimSuffix(group, "\n")+" x\n", 1),
		"member twice":             strings.Replace(text, group, strings.TrimSuffix(group, "\n")+" "+replica0+"\n", 1),
		"member in two groups":     strings.Replace(text, group, group+"group more any "+replica0+"\n", 1),
		"group of itself":          strings.Replace(text, group, "group replicas any replicas\n", 1),
		"group without members":    strings.Replace(text, group, "group replicas all\n", 1),
		"group named none":         strings.ReplaceAll(strings.Replace(text, group, strings.Replace(group, "replicas", "none", 1), 1), "quorum replicas", "quorum none"),
		"group named as a witness": strings.Replace(text, group, "group "+replica0+" 1 "+replica0+"\n", 1),
		"witness key twice":        strings.Replace(text, lines[5], lines[5]+"witness replica1x "+vkey0+"\n", 1),
		"log as a witness":         strings.Replace(text, lines[4], "witness "+replica0+" "+strings.TrimPrefix(lines[0], "log "), 1),
		"witness as a log":         "log " + vkey0 + "\n" + text,
		"too many lines":           strings.Repeat(lines[0], 400),
		"too long":                 text + strings.Repeat("#", tlog.MaxPolicySize),
	} {
		if bad == text {
			t.Errorf("%s: the test changed nothing", name)
		}
		if p, err := tlog.ParsePolicy([]byte(bad)); !errors.Is(err, tlog.ErrMalformed) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewPolicyRefuses(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	logs := net.policy.Logs
	var replicas []tlog.VerifierKey
	for _, w := range net.policy.Witnesses {
		replicas = append(replicas, w.Key)
	}
	otherOrigin := net.key("other.example/0", tlog.LogKey, signer("another log"))
	sameKey := net.key("zz.example", tlog.CosignerKey, net.logs[0])
	sameName := net.key(net.names[0], tlog.CosignerKey, signer("new"))
	for name, f := range map[string]func() (*tlog.Policy, error){
		"no logs":     func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(nil, replicas, 3) },
		"no replicas": func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, nil, 0) },
		"q = 0":       func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, replicas, 0) },
		"q < 0":       func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, replicas, -1) },
		"q > n":       func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, replicas, 5) },
		"two origins": func() (*tlog.Policy, error) {
			return tlog.NewQuorumPolicy(append(logs[:3:3], otherOrigin), replicas, 3)
		},
		"log key that cosigns":   func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, append(replicas[:3:3], sameKey), 3) },
		"two replicas of a name": func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(logs, append(replicas[:3:3], sameName), 3) },
		"a replica twice": func() (*tlog.Policy, error) {
			return tlog.NewQuorumPolicy(logs, append(replicas[:3:3], replicas[0]), 3)
		},
		"roles exchanged": func() (*tlog.Policy, error) { return tlog.NewQuorumPolicy(replicas, logs, 3) },
		"key names clash, policy's not": func() (*tlog.Policy, error) {
			return tlog.NewPolicy(logs, []tlog.Witness{{"a", replicas[0]}, {"b", sameName}}, nil, "a")
		},
	} {
		if p, err := f(); err == nil || p != nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	net := newNetwork(f, 4, 3, 1)
	text := net.policy.Text()
	f.Add(text)
	f.Add(bytes.Replace(text, []byte("replicas 3"), []byte("replicas all"), 1))
	f.Add([]byte("quorum none\n"))
	certificate := net.certify(0, 1, 2)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := tlog.ParsePolicy(text)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Text(), text) {
			t.Errorf("%q came back as %q", text, p.Text())
		}
		_ = p.Check(signature.Direct{}, certificate) // must not panic
	})
}
