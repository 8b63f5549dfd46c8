package fsm

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// versionError is an entry of a version that this node does not know. It counts
// only if the configuration in force names that version (rule C5).
type versionError struct{ got uint64 }

func (e *versionError) Error() string {
	return fmt.Sprintf("proposal has version %d, this node knows %d; update it", e.got, propose.Version)
}

// versionTag is the tag of field 1, a varint: proposal.proto.
const versionTag = 0x08

// maxProposalBytes bounds an entry before it is decoded.
const maxProposalBytes = 64 << 20

// decode reads an entry. The version is the first field of every version, so
// it is judged before the form of the rest is.
func decode(data []byte) (*replicav1.Proposal, error) {
	if len(data) > maxProposalBytes {
		return nil, fmt.Errorf("entry has %d bytes, the limit is %d", len(data), maxProposalBytes)
	}
	if len(data) >= 2 && data[0] == versionTag {
		if version, n := protowire.ConsumeVarint(data[1:]); n > 0 && version != propose.Version {
			return nil, &versionError{got: version}
		}
	}
	p := new(replicav1.Proposal)
	if err := wire.Decode(data, p); err != nil {
		return nil, err
	}
	if p.GetVersion() != propose.Version {
		return nil, fmt.Errorf("entry has no version")
	}
	for i, s := range p.GetSubmissions() {
		for j, v := range s.GetRawVectors() {
			if len(v) == 0 || len(v) > record.MaxRawVectorBytes {
				return nil, fmt.Errorf("raw vector %d of submission %d has %d bytes, want 1 to %d", j, i, len(v), record.MaxRawVectorBytes)
			}
		}
	}
	return p, nil
}
