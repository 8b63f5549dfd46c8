package tlog

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
)

// Sentinels for errors.Is. The typed errors below carry both sides.
var (
	// ErrMalformed: the bytes are not the one form that we write.
	ErrMalformed = errors.New("malformed")
	// ErrNotCertified: well formed, but the policy does not accept it.
	ErrNotCertified = errors.New("not certified")
	// ErrProof: a Merkle proof leads to another root, or has the wrong length.
	ErrProof = errors.New("wrong Merkle proof")
)

// FormatError says which object was not in its canonical form, and where.
type FormatError struct {
	Object string // "checkpoint", "certificate", "policy", ...
	Line   int    // 1-based; 0 when no line is to blame
	Reason string
}

func (e *FormatError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Object, e.Reason)
	}
	return fmt.Sprintf("%s, line %d: %s", e.Object, e.Line, e.Reason)
}

// Is makes errors.Is(err, ErrMalformed) hold.
func (e *FormatError) Is(target error) bool { return target == ErrMalformed }

func malformed(object string, line int, format string, args ...any) error {
	return &FormatError{Object: object, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// PolicyError says why a well-formed certificate was refused.
type PolicyError struct {
	Origin string // of the certificate
	Size   uint64 // of the certificate
	Reason string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("certificate of %s at size %d: %s", e.Origin, e.Size, e.Reason)
}

// Is makes errors.Is(err, ErrNotCertified) hold.
func (e *PolicyError) Is(target error) bool { return target == ErrNotCertified }

// RootError says that a proof leads to another root than the checkpoint's.
type RootError struct {
	What string // "record 41 of 96", "tree of 41 in tree of 96"
	Got  digest.Digest
	Want digest.Digest
}

func (e *RootError) Error() string {
	return fmt.Sprintf("proof of %s leads to root %s, checkpoint has %s", e.What, e.Got.Short(), e.Want.Short())
}

// Is makes errors.Is(err, ErrProof) hold.
func (e *RootError) Is(target error) bool { return target == ErrProof }

// ProofShapeError says that a proof cannot belong to the sizes it is for.
type ProofShapeError struct {
	What   string
	Reason string
}

func (e *ProofShapeError) Error() string { return fmt.Sprintf("proof of %s: %s", e.What, e.Reason) }

// Is makes errors.Is(err, ErrProof) hold.
func (e *ProofShapeError) Is(target error) bool { return target == ErrProof }
