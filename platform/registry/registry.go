// Package registry tells from the ledger's state who holds a TLS key.
//
// Source: architecture, rule N1: a connection's role comes from the ledger's
// registration of its certificate's public key, never from a CA's word.
package registry

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

var roles = map[recordv1.Role]identity.Role{
	recordv1.Role_ROLE_REPLICA:   identity.RoleReplica,
	recordv1.Role_ROLE_ENDORSER:  identity.RoleEndorser,
	recordv1.Role_ROLE_GATEWAY:   identity.RoleGateway,
	recordv1.Role_ROLE_APPROVAL:  identity.RoleApproval,
	recordv1.Role_ROLE_AUTHORITY: identity.RoleAuthority,
}

// Certified is the newest state, the size of the certified tree (what was
// registered at or above it does not count yet), and the running digest of the
// administrative records in the state (rule S6), read before it.
type Certified func() (view state.View, size uint64, admin digest.Digest)

// Of is the registry that a ledger's state holds. A revoked node, a barred
// meter and a replaced key are strangers; so is everybody while the view is nil.
// It tells strangers who were known which statement ended that (identity.Teller).
func Of(certified Certified, log *slog.Logger) identity.Registry {
	return &ofLedger{certified: certified, log: log}
}

type ofLedger struct {
	certified Certified
	log       *slog.Logger

	// Whoever was found is known until the next administrative record: nothing
	// else changes what find reads, and a certified tree only grows.
	mu    sync.RWMutex
	admin digest.Digest // of which known was found
	known map[identity.SPKI]identity.Peer
}

// maxKnown bounds the peers that are remembered; then it is begun anew.
const maxKnown = 1 << 16

// Role implements identity.Registry.
func (r *ofLedger) Role(spki identity.SPKI) (identity.Peer, bool) {
	v, size, admin := r.certified()
	if v == nil {
		return identity.Peer{}, false
	}
	r.mu.RLock()
	peer, ok := r.known[spki]
	ok = ok && r.admin == admin
	r.mu.RUnlock()
	if ok {
		return peer, true
	}
	peer, ok, err := find(v, size, spki)
	if err != nil {
		r.log.Error("registry cannot be read", "error", err)
	}
	if !ok || err != nil {
		return peer, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admin != admin || len(r.known) >= maxKnown {
		r.admin, r.known = admin, make(map[identity.SPKI]identity.Peer)
	}
	r.known[spki] = peer
	return peer, true
}

// Ended implements identity.Teller.
func (r *ofLedger) Ended(spki identity.SPKI) error {
	v, size, _ := r.certified()
	if v == nil {
		return nil
	}
	why, err := ended(v, size, spki)
	if err != nil {
		r.log.Error("registry cannot be read", "error", err)
		return nil
	}
	return why
}

// ended says which statement took a key's registration away; nil when none did.
func ended(view state.View, size uint64, spki identity.SPKI) (why, err error) {
	subject, err := state.TLSSubject(view, spki[:])
	if err != nil || subject == "" {
		return nil, err
	}
	tell := func(how string, last *statev1.StatementRef) error {
		if last.GetIndex() >= size {
			return nil // not certified yet
		}
		return reason.New(reason.KeyEnded, "%s %s; the newest statement on it is number %d, digest %x, record %d", subject, how, last.GetSequence(), last.GetDigest(), last.GetIndex())
	}
	if id, ok := strings.CutPrefix(subject, "node/"); ok {
		switch n, err := state.GetNode(view, id); {
		case err != nil || n == nil:
			return nil, err
		case n.GetRevoked():
			return tell("is revoked", n.GetLast()), nil
		case !bytes.Equal(n.GetTlsSpki(), spki[:]):
			return tell("has another TLS key since", n.GetLast()), nil
		}
	}
	if id, ok := strings.CutPrefix(subject, "meter/"); ok {
		switch m, err := state.GetMeter(view, id); {
		case err != nil || m == nil:
			return nil, err
		case m.GetBarred():
			return tell("is barred: broken seal or compromised key", m.GetLast()), nil
		case !bytes.Equal(m.GetTlsSpki(), spki[:]):
			newest := m.GetKeys()[len(m.GetKeys())-1]
			return tell(fmt.Sprintf("has another key since its rollover at record %d, from counter %d on", newest.GetIndex(), newest.GetFirstCounter()), m.GetLast()), nil
		}
	}
	return nil, nil
}

func find(view state.View, size uint64, spki identity.SPKI) (identity.Peer, bool, error) {
	subject, err := state.TLSSubject(view, spki[:])
	if err != nil || subject == "" {
		return identity.Peer{}, false, err
	}
	if id, ok := strings.CutPrefix(subject, "node/"); ok {
		return node(view, size, id, spki)
	}
	if id, ok := strings.CutPrefix(subject, "meter/"); ok {
		meter, err := state.GetMeter(view, id)
		if err != nil || meter == nil || meter.GetRegistrationIndex() >= size || meter.GetBarred() || !bytes.Equal(meter.GetTlsSpki(), spki[:]) {
			return identity.Peer{}, false, err
		}
		return identity.Peer{ID: id, Role: identity.RoleMeter, SPKI: spki}, true, nil
	}
	return identity.Peer{}, false, nil
}

func node(view state.View, size uint64, id string, spki identity.SPKI) (identity.Peer, bool, error) {
	n, err := state.GetNode(view, id)
	if err != nil || n == nil || n.GetRegistrationIndex() >= size || n.GetRevoked() || !bytes.Equal(n.GetTlsSpki(), spki[:]) {
		return identity.Peer{}, false, err
	}
	role, ok := roles[recordv1.Role(n.GetRole())]
	return identity.Peer{ID: id, Organisation: n.GetOrganisation(), Role: role, SPKI: spki}, ok, nil
}

// Node checks that a server is a node of the ledger by its id: for connections
// between nodes, whose addresses are local configuration.
func Node(registry identity.Registry, id string) identity.Check {
	return func(spki identity.SPKI) error {
		if err := identity.Registered(registry)(spki); err != nil {
			return err
		}
		if peer, _ := registry.Role(spki); peer.ID != id {
			return &WrongNodeError{Want: id, Got: peer.ID}
		}
		return nil
	}
}

// WrongNodeError is a registered node at another node's address.
type WrongNodeError struct{ Want, Got string }

func (e *WrongNodeError) Error() string {
	return "the server is node " + e.Got + ", expected " + e.Want
}
