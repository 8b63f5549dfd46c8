package doctor

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"sync"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// door is what was found at a node's address.
type door struct {
	dial, handshake error
	spki            string // of the key that was shown
}

// look connects to all nodes, knocks at every door and asks the replicas where they stand, all at one time: those that
// do not answer, or whose names nobody knows, cost one timeout together.
func (x *examination) look(ctx context.Context, contacts []*contact) {
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	var asking sync.WaitGroup
	for _, c := range contacts {
		c.connect()
		asking.Go(func() { c.door = knock(ctx, c.Address) })
		if c.Role == recordv1.Role_ROLE_REPLICA && c.connection != nil {
			asking.Go(func() {
				if status, err := ledgerv1.NewLedgerServiceClient(c.connection).GetStatus(ctx, &ledgerv1.GetStatusRequest{}); err == nil {
					c.status = status
				}
			})
		}
	}
	asking.Wait()
}

// knock tells whether a port is open, and which key is behind it.
func knock(ctx context.Context, address string) (d door) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return door{dial: err}
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, //nolint:gosec // the key is what is looked at, and nothing is sent.
		VerifyConnection: func(s tls.ConnectionState) error {
			seen, _ := identity.PeerSPKI(s)
			d.spki = hex.EncodeToString(seen[:])
			return nil
		},
	})
	d.handshake = conn.HandshakeContext(ctx)
	return d
}

// port tells whether a node's port is open and the key behind it the pinned one.
func (x *examination) port(c *contact) {
	switch d := c.door; {
	case d.dial != nil:
		level := Fail
		if x.answered == 0 {
			level = Skipped // nothing is reachable: perhaps from here alone
		}
		x.add(c.ID, "port", level, "start the node, or open the way to it; \"server.listen\" of its configuration must match the address that others have", "%v", d.dial)
	case d.handshake != nil:
		x.add(c.ID, "port", Fail, "see the node's log: something else may listen at this address", "%s is open, and the TLS handshake fails: %v", c.Address, d.handshake)
	case d.spki != c.SPKI:
		x.add(c.ID, "port", Fail, "correct the spki in network.json or in the configuration that names it, or the node's tls_key", "%s shows TLS key %s, expected %s", c.Address, d.spki, c.SPKI)
	default:
		x.add(c.ID, "port", OK, "", "%s answers with the expected TLS key", c.Address)
	}
}
