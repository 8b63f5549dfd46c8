package fsm

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// versionTag is the tag of field 1, a varint: proposal.proto.
const versionTag = 0x08

// maxProposalBytes bounds an entry before it is decoded.
const maxProposalBytes = 64 << 20

// decode reads an entry of the version that this build knows; every other makes
// no sense. If the configuration in force names another version, the transition
// ends before the entry counts (rule C5, docs/adr/0008): both builds come to the
// same block, and only the later one goes on. Raw vectors alias the entry, while it
// is applied; a record that is accepted stays in memory for longer, without the
// others, so each is copied.
func decode(data []byte) (*replicav1.Proposal, error) {
	if len(data) > maxProposalBytes {
		return nil, fmt.Errorf("entry has %d bytes, the limit is %d", len(data), maxProposalBytes)
	}
	if len(data) >= 2 && data[0] == versionTag {
		if version, n := protowire.ConsumeVarint(data[1:]); n > 0 && version != propose.Version {
			return nil, fmt.Errorf("entry has version %d, the configuration in force names %d", version, propose.Version)
		}
	}
	p := new(replicav1.Proposal)
	if err := wire.Borrow(data, p); err != nil {
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
		for j, r := range s.GetRecords() {
			s.Records[j] = bytes.Clone(r)
		}
	}
	p.Certificate = bytes.Clone(p.GetCertificate())
	return p, nil
}
