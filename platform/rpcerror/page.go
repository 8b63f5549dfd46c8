package rpcerror

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// Markdown renders docs/errors.md from the table; a test compares the two.
func Markdown() []byte {
	var out bytes.Buffer
	out.WriteString(`# Errors

Written from the table in ` + "`platform/rpcerror/reasons.go`" + ` by ` + "`go test ./rpcerror -update`" + ` in platform/; do not edit.

Every refusal carries one of these reasons: in ` + "`google.rpc.ErrorInfo.reason`" + ` (domain ` + "`" + Domain + "`" + `) of a gRPC status, and in
the ` + "`reason`" + ` field of answers that hold many outcomes. The detail shows both sides of what did not match. *Permanent*
means that the same bytes, sent again later, cannot be accepted; a meter's outbox moves such a sample to its refused
store, and keeps and repeats everything else.

| Reason | gRPC code | Permanent | Meaning | What to do |
|---|---|---|---|---|
`)
	for _, entry := range Reasons {
		permanent := "no"
		if entry.Permanent {
			permanent = "yes"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", entry.Reason, wireName(entry.Code.String()), permanent, entry.Meaning, entry.Remedy)
	}
	out.WriteString(`
## Without a reason

| gRPC code | Meaning | What to do |
|---|---|---|
| UNAVAILABLE | The transport failed: no server there, or its key is not the one that was pinned. | See the detail; try again or try another node. |
| DEADLINE_EXCEEDED | The call did not end in time. What it asked for may have happened. | Ask again with the same bytes: every request is idempotent. |
| CANCELLED | The caller, or a stopping server, ended the call. | Ask again. |
| UNIMPLEMENTED | The server does not know the method: another version. | Compare versions. |
| INTERNAL | A fault of the server. Its log tells more, the answer does not. | Report it. |
`)
	return out.Bytes()
}

// wireName is the name of a code as gRPC's specification writes it: InvalidArgument becomes INVALID_ARGUMENT.
func wireName(goName string) string {
	var name strings.Builder
	for i, letter := range goName {
		if i > 0 && unicode.IsUpper(letter) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return name.String()
}
