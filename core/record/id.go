package record

import "github.com/lacre-metrology/lacre/core/reason"

// MaxIDBytes bounds the identifiers of organisations, nodes and meters.
const MaxIDBytes = 64

// CheckID reports whether id may name an organisation, a node or a meter: 1 to
// 64 of a-z, 0-9, '-' and '.', not beginning or ending with '-' or '.'. So an
// id is safe in subjects, file names and note lines.
func CheckID(id string) error {
	bad := len(id) == 0 || len(id) > MaxIDBytes
	for i := 0; i < len(id) && !bad; i++ {
		c := id[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inner := (c == '-' || c == '.') && i > 0 && i < len(id)-1
		bad = !alphanumeric && !inner
	}
	if bad {
		return reason.New(reason.Malformed, "id %.80q is not 1 to %d of a-z, 0-9, '-' and '.'", id, MaxIDBytes)
	}
	return nil
}
