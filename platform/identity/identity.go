// Package identity gives a node its TLS identity and judges the identities of others.
//
// Source: architecture, rule N1 ("a connection's role comes from the ledger's registration of its certificate's public
// key, never from a CA's word"); RFC 8446 (TLS 1.3); RFC 5280 section 4.1.2.7 (SubjectPublicKeyInfo); RFC 8410
// (Ed25519 in PKIX).
//
// Invariants:
//   - a peer is its public key: the SHA-256 of its SubjectPublicKeyInfo (SPKI). Names, issuers, extensions and dates of
//     a certificate are never looked at, so a network whose certificates have all expired still runs;
//   - TLS 1.3 only, without session resumption: every connection proves possession of the key anew;
//   - this package decides who a peer is, never what it may do: rpcserver's allow-list does.
package identity

import (
	"encoding/hex"
	"fmt"
	"slices"
)

// Role is what the ledger registered a key for; it corresponds to lacre.record.v1.Role, plus RolePublic.
type Role string

// The roles. RolePublic is nobody's registration: it is the role of a caller without a certificate or with a key that
// the ledger does not know.
const (
	RolePublic    Role = "public"
	RoleReplica   Role = "replica"   // orders, validates, stores and cosigns
	RoleEndorser  Role = "endorser"  // recomputes and signs claims
	RoleGateway   Role = "gateway"   // takes samples from meters and submits measurements; untrusted
	RoleApproval  Role = "approval"  // submits statements for notified bodies
	RoleAuthority Role = "authority" // reads evidence sealed to its organisation
	RoleMeter     Role = "meter"     // signs samples and sends them to a gateway
)

// SPKI is the SHA-256 of a DER-encoded SubjectPublicKeyInfo: 32 bytes.
type SPKI = [32]byte

// Peer is a registered node.
type Peer struct {
	ID           string // the node's identifier on the ledger
	Organisation string // the organisation that registered it
	Role         Role
	SPKI         SPKI
}

// Registry knows the certified registrations. Role returns the peer registered with this key and true, or false when no
// registration is in force (never registered, or revoked). It is called for every RPC, from many goroutines: it must
// be quick and safe for concurrent use. It should answer from certified state only.
type Registry interface {
	Role(spki SPKI) (Peer, bool)
}

// Teller is a Registry that can say why a key is not registered any more: nil for one that is, or that never was. The
// error is KEY_ENDED and names the statement.
type Teller interface {
	Ended(spki SPKI) error
}

// RegistryFunc makes a Registry of a function.
type RegistryFunc func(spki SPKI) (Peer, bool)

// Role calls the function.
func (f RegistryFunc) Role(spki SPKI) (Peer, bool) { return f(spki) }

// StaticRegistry is a Registry that never changes: genesis and tests.
type StaticRegistry map[SPKI]Peer

// NewStaticRegistry indexes peers by their keys; of two peers with one key the later stands.
func NewStaticRegistry(peers ...Peer) StaticRegistry {
	registry := make(StaticRegistry, len(peers))
	for _, peer := range peers {
		registry[peer.SPKI] = peer
	}
	return registry
}

// Role looks the key up.
func (r StaticRegistry) Role(spki SPKI) (Peer, bool) {
	peer, ok := r[spki]
	return peer, ok
}

// Check judges the key of the other end of a connection during the handshake; an error ends the handshake.
type Check func(spki SPKI) error

// Pin accepts exactly the given keys. It is how a client names the server that it means.
func Pin(expected ...SPKI) Check {
	return func(spki SPKI) error {
		if slices.Contains(expected, spki) {
			return nil
		}
		want := make([]string, len(expected))
		for i, e := range expected {
			want[i] = Short(e)
		}
		return fmt.Errorf("%w: peer presents key %s, pinned %v", ErrUnexpectedPeer, Short(spki), want)
	}
}

// Registered accepts keys that the registry knows in one of the roles (in any role when none is given). Raft's
// transport uses it: only registered replicas get past the handshake (rule R5).
func Registered(registry Registry, roles ...Role) Check {
	return func(spki SPKI) error {
		peer, ok := registry.Role(spki)
		if !ok {
			return fmt.Errorf("%w: peer presents key %s, which is not registered", ErrUnexpectedPeer, Short(spki))
		}
		if len(roles) > 0 && !slices.Contains(roles, peer.Role) {
			return fmt.Errorf("%w: peer %s is registered as %s, admitted are %v", ErrUnexpectedPeer, peer.ID, peer.Role, roles)
		}
		return nil
	}
}

// Short is an abbreviation of a key digest for messages: its first eight bytes in hexadecimal. It identifies nothing.
func Short(spki SPKI) string { return hex.EncodeToString(spki[:8]) + ".." }
