package rpcserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// Allow is the allow-list of a server: for each full method ("/lacre.ledger.v1.LedgerService/Submit") the roles that
// may call it. A method that is not listed may be called by nobody; New's caller finds out when the server starts.
// identity.RolePublic admits everybody, with or without a certificate.
type Allow map[string][]identity.Role

// AllowService lists every method of a service for the same roles.
func (a Allow) AllowService(desc *grpc.ServiceDesc, roles ...identity.Role) {
	for _, method := range methodsOf(desc) {
		a[method] = roles
	}
}

func methodsOf(desc *grpc.ServiceDesc) []string {
	var methods []string
	for _, m := range desc.Methods {
		methods = append(methods, "/"+desc.ServiceName+"/"+m.MethodName)
	}
	for _, s := range desc.Streams {
		methods = append(methods, "/"+desc.ServiceName+"/"+s.StreamName)
	}
	return methods
}

// check compares the list with what was registered: both a method that nobody may call and a rule for a method that
// does not exist are mistakes.
func (a Allow) check(services map[string]grpc.ServiceInfo) error {
	var failures []error
	registered := make(map[string]bool)
	for service, info := range services {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			registered[method] = true
			if len(a[method]) == 0 {
				failures = append(failures, fmt.Errorf("method %s is served, but no role may call it", method))
			}
		}
	}
	for method := range a {
		if !registered[method] {
			failures = append(failures, fmt.Errorf("the allow-list names %s, which is not served", method))
		}
	}
	slices.SortFunc(failures, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(failures...)
}

// authorise decides a call from what the registry says now; on refusal the error shows both sides, or names the
// statement that ended the caller's key.
func (a Allow) authorise(method string, caller identity.Peer, registry identity.Registry) error {
	roles := a[method]
	if slices.Contains(roles, identity.RolePublic) || (caller.Role != identity.RolePublic && slices.Contains(roles, caller.Role)) {
		return nil
	}
	who := "the caller shows no certificate"
	switch {
	case caller.Role != identity.RolePublic:
		who = fmt.Sprintf("%s of %s is registered as %s", caller.ID, caller.Organisation, caller.Role)
	case caller.SPKI != identity.SPKI{}:
		if teller, ok := registry.(identity.Teller); ok {
			if err := teller.Ended(caller.SPKI); err != nil {
				return err
			}
		}
		who = fmt.Sprintf("the caller's key %s is not registered", identity.Short(caller.SPKI))
	}
	return reason.New(reason.PermissionDenied, "%s admits %v, %s", method, roles, who)
}

// identify returns who holds the other end of the connection. Without a certificate, or with a key that the registry
// does not know, that is somebody of the public: such a caller could as well have left the certificate away.
func identify(ctx context.Context, registry identity.Registry) identity.Peer {
	spki, shown := shownKey(ctx)
	return holder(registry, spki, shown)
}

// shownKey is the key that the other end of the connection proved to hold; a connection keeps it.
func shownKey(ctx context.Context) (spki identity.SPKI, shown bool) {
	connection, ok := peer.FromContext(ctx)
	if !ok {
		return spki, false
	}
	tlsInfo, ok := connection.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return spki, false
	}
	return identity.PeerSPKI(tlsInfo.State)
}

func holder(registry identity.Registry, spki identity.SPKI, shown bool) identity.Peer {
	public := identity.Peer{Role: identity.RolePublic}
	if !shown {
		return public
	}
	if registry != nil {
		if known, ok := registry.Role(spki); ok {
			known.SPKI = spki
			return known
		}
	}
	public.SPKI = spki
	return public
}

type peerKey struct{}

// PeerFrom returns the caller of the RPC that ctx belongs to, as the registry knew it when the call began. Outside of a
// call it is the anonymous public.
func PeerFrom(ctx context.Context) identity.Peer {
	if caller, ok := ctx.Value(peerKey{}).(identity.Peer); ok {
		return caller
	}
	return identity.Peer{Role: identity.RolePublic}
}

// clone protects a server from later changes of the caller's map.
func (a Allow) clone() Allow { return maps.Clone(a) }
