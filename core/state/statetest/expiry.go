package statetest

import (
	"crypto"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Expiry is the leaf of the decision of some organisations that the raw vectors
// below a height, at most one above the head's, expire.
func (n *Network) Expiry(below uint64, organisations ...string) []byte {
	return n.SignExpiry(n.ExpiryDraft(below), organisations...)
}

// ExpiryDraft is that decision before anybody signed it.
func (n *Network) ExpiryDraft(below uint64) *recordv1.RawVectorExpiry {
	return &recordv1.RawVectorExpiry{
		Header: n.Header(record.SubjectRawVectors), BelowHeight: below,
		LastBlock: n.Store.Blocks[below-1].Header.Bytes(), Rule: "storage limitation",
	}
}

// SignExpiry signs it with the organisations' root keys.
func (n *Network) SignExpiry(e *recordv1.RawVectorExpiry, organisations ...string) []byte {
	roots := make([]crypto.Signer, len(organisations))
	for i, o := range organisations {
		roots[i] = Root(o)
	}
	return n.Sign(e, roots...)
}

// KeepRawVectors changes the retention of raw vectors, by three organisations of
// four, and certifies it.
func (n *Network) KeepRawVectors(nano int64) {
	n.TB.Helper()
	next := proto.CloneOf(n.Config)
	next.Header = n.Header(record.SubjectNetwork)
	next.Limits.RawVectorRetentionNano = nano
	n.Accept(n.Sign(next, Root(OrganisationID(0)), Root(OrganisationID(1)), Root(OrganisationID(2))))
	n.Apply(n.Begin()) // certified by both quorums, which are one
	n.Config = next
}
