package rpcclient

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/platform/identity"
)

// renewing ends connections when this end's key changes: a call on one that showed the old key would be somebody else's.
// gRPC connects again, and repeats what was on its way.
type renewing struct {
	credentials.TransportCredentials
	node *identity.Node
}

// ClientHandshake implements credentials.TransportCredentials.
func (r renewing) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	changed := r.node.Changed() // before the handshake: a change during it counts
	conn, info, err := r.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	watched := &watchedConn{Conn: conn, closed: make(chan struct{})}
	go func() {
		select {
		case <-changed:
			_ = watched.Close() // the transport notices
		case <-watched.closed:
		}
	}()
	return watched, info, nil
}

// Clone implements credentials.TransportCredentials.
func (r renewing) Clone() credentials.TransportCredentials {
	return renewing{r.TransportCredentials.Clone(), r.node}
}

// watchedConn tells when it is closed.
type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
