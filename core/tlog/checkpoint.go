package tlog

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
)

// Checkpoint is the head of a log: C2SP tlog-checkpoint without extension
// lines. It carries no signature; see Certificate.
type Checkpoint struct {
	Origin string        // identity of the log; see Origin
	Size   uint64        // number of leaves, at most MaxTreeSize
	Root   digest.Digest // RFC 6962 root hash of these leaves
}

// originDigits is how much of the genesis digest an origin carries.
const originDigits = 16

// Origin is the origin line of a network's log: name, "/" and the first 16 hex
// digits of the genesis digest, so that two networks never share an origin.
func Origin(name string, genesis digest.Digest) (string, error) {
	origin := name + "/" + hex.EncodeToString(genesis[:originDigits/2])
	if name == "" || !validName(origin) {
		return "", malformed("origin", 0, "%q is not a name of 1 to %d printable ASCII characters without space and plus", name, MaxNameSize-originDigits-1)
	}
	return origin, nil
}

// CheckOrigin says whether origin belongs to the network of this genesis.
func CheckOrigin(origin string, genesis digest.Digest) error {
	want := "/" + hex.EncodeToString(genesis[:originDigits/2])
	if !validName(origin) || !strings.HasSuffix(origin, want) || len(origin) == len(want) {
		return malformed("origin", 0, "%q does not end in %q, as genesis %s requires", origin, want, genesis.Short())
	}
	return nil
}

// Body is the note text that the log signs: three lines, newlines included.
// Its length is what Check bounds; Body itself refuses nothing.
func (c Checkpoint) Body() []byte { return c.appendBody(nil) }

func (c Checkpoint) appendBody(b []byte) []byte {
	b = append(append(b, c.Origin...), '\n')
	b = append(strconv.AppendUint(b, c.Size, 10), '\n')
	return append(base64.StdEncoding.AppendEncode(b, c.Root[:]), '\n')
}

// Check says whether the checkpoint can be written (*FormatError if not): a
// valid origin, a size in range, and the empty root exactly for the empty tree.
func (c Checkpoint) Check() error {
	switch {
	case !validName(c.Origin):
		return malformed("checkpoint", 1, "origin %q is not 1 to %d printable ASCII characters without space and plus", c.Origin, MaxNameSize)
	case c.Size > MaxTreeSize:
		return malformed("checkpoint", 2, "size %d is above %d", c.Size, uint64(MaxTreeSize))
	case (c.Size == 0) != (c.Root == EmptyRoot()):
		return malformed("checkpoint", 3, "size %d with root %s; the root of no leaves is %s", c.Size, c.Root.Short(), EmptyRoot().Short())
	}
	return nil
}

// ParseCheckpoint reads what Body writes, and nothing else (*FormatError).
func ParseCheckpoint(body []byte) (Checkpoint, error) {
	if len(body) > maxCheckpointSize {
		return Checkpoint{}, malformed("checkpoint", 0, "%d bytes, at most %d", len(body), maxCheckpointSize)
	}
	lines, ok := splitLines(string(body))
	if !ok || len(lines) != 3 {
		return Checkpoint{}, malformed("checkpoint", 0, "want three lines, each ended by a newline")
	}
	c := Checkpoint{Origin: lines[0]}
	if c.Size, ok = parseDecimal(lines[1]); !ok {
		return Checkpoint{}, malformed("checkpoint", 2, "size %.30q is not a decimal number in range", lines[1])
	}
	if !decodeExactly(c.Root[:], lines[2]) {
		return Checkpoint{}, malformed("checkpoint", 3, "root %.60q is not the base64 of %d bytes", lines[2], digest.Size)
	}
	if err := c.Check(); err != nil {
		return Checkpoint{}, err
	}
	if !isWrittenAs(body, c.appendBody) {
		return Checkpoint{}, malformed("checkpoint", 0, "not the canonical form")
	}
	return c, nil
}

// maxCheckpointSize is three lines at their longest: name, 19 digits, 44
// characters of base64.
const maxCheckpointSize = MaxNameSize + 19 + 44 + 3
