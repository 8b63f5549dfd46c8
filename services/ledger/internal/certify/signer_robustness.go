//go:build robustness

package certify

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
)

// Forge signs another root at the size of an earlier signature: double signing.
func (s *Signer) Forge(earlier Signed) (Signed, error) {
	signed, err := s.sign(state.BlockRef{Height: earlier.Height, Size: earlier.Checkpoint.Size, Root: digest.Plain(earlier.Checkpoint.Root[:])})
	if err != nil {
		return Signed{}, err
	}
	return *signed, nil
}
