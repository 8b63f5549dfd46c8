package command

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain writes what does not show as itself in hexadecimal: a draft, a network's
// directory and a node's answer are other people's texts, and none of them may
// move the cursor, colour or reorder what a terminal shows. Lines and tabs stay.
func plain(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case hidden(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

func hidden(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t'
}
