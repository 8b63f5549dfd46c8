package receipt_test

import (
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/tlog"
)

func (f *forms) certificates(note string) {
	const format = "certificate"
	lines := strings.SplitAfter(note, "\n")
	f.add(format, "as it is", []byte(note), true)
	f.replaced(format, "the empty tree", note, lines[1]+lines[2], "0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", true)
	f.replaced(format, "the largest size", note, lines[1], "9223372036854775807\n", true)
	for _, r := range []struct{ name, old, piece string }{
		{"a size above 2^63-1", lines[1], "9223372036854775808\n"},
		{"a leading zero", lines[1], "0" + lines[1]},
		{"a sign", lines[1], "+" + lines[1]},
		{"digits that are not ASCII", lines[1], "٣\n"},
		{"an empty tree with another root", lines[1], "0\n"},
		{"a tree with the empty root", lines[2], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"},
		{"an extension line", lines[2], lines[2] + "extension\n"},
		{"no root", lines[2], ""},
		{"a root of 31 bytes", lines[2], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n"},
		{"an empty origin", lines[0], "\n"},
		{"a plus in the origin", lines[0], "a+b\n"},
		{"no empty line", "\n\n", "\n"},
		{"two empty lines", "\n\n", "\n\n\n"},
		{"a hyphen for the dash", "— ", "- "},
		{"another origin's log signature", lines[4], strings.Replace(lines[4], "test", "west", 1)},
		{"a log signature cut short", lines[4], lines[4][:len(lines[4])-5] + "\n"},
		{"a cosignature first", lines[4], ""},
		{"no cosignatures", lines[5] + lines[6] + lines[7], ""},
		{"a name twice", lines[5], lines[5] + lines[5]},
		{"names that descend", lines[5] + lines[6], lines[6] + lines[5]},
		{"two spaces", "— " + "test.lacre", "—  test.lacre"},
		{"a third part", lines[5], strings.TrimSuffix(lines[5], "\n") + " x\n"},
		{"CR LF", lines[0], strings.TrimSuffix(lines[0], "\n") + "\r\n"},
	} {
		f.replaced(format, r.name, note, r.old, r.piece, false)
	}
	for _, r := range []struct {
		name     string
		time     uint64
		accepted bool
	}{{"time 1", 1, true}, {"time 2^63-1", 1<<63 - 1, true}, {"time 0", 0, false}, {"a time of 2^63", 1 << 63, false}} {
		c, err := tlog.ParseCertificate([]byte(note))
		if err != nil {
			f.Fatal(err)
		}
		s := c.Cosignatures[0]
		s.TimestampUnix = r.time
		f.replaced(format, r.name, note, c.Cosignatures[0].Line(), s.Line(), r.accepted)
	}
	f.add(format, "no final newline", []byte(strings.TrimSuffix(note, "\n")), false)
	f.add(format, "nothing", nil, false)
}

func (f *forms) policies(text string) {
	const format = "policy"
	lines := strings.SplitAfter(text, "\n") // 4 logs, 4 witnesses, group, quorum
	log, witness, group := lines[0], lines[4], lines[8]
	name := strings.Fields(witness)[1]
	names := strings.Fields(group)[3:]
	id := strings.Split(text, "+")[1] // the first log's, which has a letter
	f.add(format, "as it is", []byte(text), true)
	f.replaced(format, "one log", text, lines[1]+lines[2]+lines[3], "", true)
	f.replaced(format, "any", text, "group replicas 3", "group replicas any", true)
	f.replaced(format, "all", text, "group replicas 3", "group replicas all", true)
	f.replaced(format, "a witness as quorum", text, group+"quorum replicas", "quorum "+name, true)
	f.replaced(format, "another name than the key's", text, group+"quorum replicas", "quorum replicas", false)
	nested := fmt.Sprintf("group a 1 %s %s\ngroup replicas 2 a %s\n", names[0], names[1], names[2])
	f.replaced(format, "a group in a group", text, group, nested, true)
	for _, r := range []struct{ name, old, piece string }{
		{"threshold 0", "group replicas 3", "group replicas 0"},
		{"threshold 5 of 4", "group replicas 3", "group replicas 5"},
		{"a threshold with a leading zero", "group replicas 3", "group replicas 03"},
		{"no members", group, "group replicas 1\n"},
		{"an unknown member", group, "group replicas 1 nobody\n"},
		{"a member twice", group, "group replicas 1 " + name + " " + name + "\n"},
		{"a member of two groups", group, "group a 1 " + name + "\n" + group},
		{"a group before its member", group, strings.Replace(nested, "group a", "group b", 1)},
		{"a group named as a witness", "group replicas 3", "group " + name + " 3"},
		{"a witness named none", "witness " + name + " ", "witness none "},
		{"no quorum", "quorum replicas\n", ""},
		{"an unknown quorum", "quorum replicas\n", "quorum nobody\n"},
		{"quorum none", "quorum replicas\n", "quorum none\n"},
		{"two quorums", "quorum replicas\n", "quorum replicas\nquorum replicas\n"},
		{"no log", lines[0] + lines[1] + lines[2] + lines[3], ""},
		{"no witness", lines[4] + lines[5] + lines[6] + lines[7], ""},
		{"logs that descend", lines[0] + lines[1], lines[1] + lines[0]},
		{"a log twice", log, log + log},
		{"logs of two origins", log, strings.Replace(log, "test", "best", 1)},
		{"witnesses that descend", lines[4] + lines[5], lines[5] + lines[4]},
		{"a witness twice", witness, witness + witness},
		{"a key under two names", lines[5], strings.Replace(witness, "witness "+name, "witness "+names[1], 1)},
		{"a log after a witness", log + lines[1] + lines[2] + lines[3] + witness, lines[1] + lines[2] + lines[3] + witness + log},
		{"another key ID", "+" + id + "+", "+00000000+"},
		{"a key ID in capitals", "+" + id + "+", "+" + strings.ToUpper(id) + "+"},
		{"a cosigner key as a log", log, "log " + strings.Fields(witness)[2] + "\n"},
		{"a comment", log, "# comment\n" + log},
		{"an empty line", witness, "\n" + witness},
		{"two spaces", "log ", "log  "},
		{"a tab", "log ", "log\t"},
		{"a URL", strings.TrimSuffix(log, "\n"), strings.TrimSuffix(log, "\n") + " https://log.example/"},
		{"a space behind a line", "quorum replicas\n", "quorum replicas \n"},
	} {
		f.replaced(format, r.name, text, r.old, r.piece, false)
	}
	f.add(format, "no final newline", []byte(strings.TrimSuffix(text, "\n")), false)
	f.add(format, "nothing", nil, false)
}
