package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// A connection that is closed from here just ends, and the library says nothing;
// what goes wrong on the wire stays an error, which it logs.
func TestConnectionClosedFromHereJustEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   func(here, there net.Conn) error
		quiet bool
	}{
		{"closed from here", func(here, _ net.Conn) error { return here.Close() }, true},
		{"noise from there", func(_, there net.Conn) error {
			_, err := there.Write([]byte("this is not a TLS record at all"))
			return err
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := connected(t)
			conn := &peerConn{Conn: tls.Server(here, &tls.Config{MinVersion: tls.VersionTLS13}), stream: &stream{}}
			read := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				read <- err
			}()
			if err := c.end(conn, there); err != nil {
				t.Fatal(err)
			}
			if err := <-read; err == nil || (err == io.EOF) != c.quiet { //nolint:errorlint // the library compares in this way.
				t.Errorf("read gave %v, want io.EOF: %v", err, c.quiet)
			}
		})
	}
}

// connected are the two ends of a connection over loopback.
func connected(t *testing.T) (here, there net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local address does not block.
	if err != nil {
		t.Fatal(err)
	}
	there, err = net.Dial("tcp", listener.Addr().String()) //nolint:noctx // loopback, and the listener is there.
	if err != nil {
		t.Fatal(err)
	}
	if here, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{here, there, listener} {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	return here, there
}

// A replica that is down fails one message at most in a message's time-out, and
// gets the message when it is back: the library would leave it alone for as long
// again as it was away.
func TestAReplicaThatComesBackIsConnectedToAtOnce(t *testing.T) {
	c := newCluster(t, nil, "a", "b")
	config := c.config(c.nodes["b"])
	config, err := config.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	back := newStream(config, func(_ string, conn net.Conn) { _ = conn.Close() })
	back.serving.Add(1)
	go back.serve()
	defer back.close()

	tries := 0
	away := c.config(c.nodes["a"])
	dial := away.Dial
	away.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		if tries++; tries < 4 {
			return nil, syscall.ECONNREFUSED
		}
		return dial(ctx, address)
	}
	if away, err = away.withDefaults(); err != nil {
		t.Fatal(err)
	}
	from := newStream(away, nil)
	defer from.close()
	conn, err := from.dial("b", patience)
	if err != nil || tries != 4 {
		t.Fatalf("after %d tries: %v, want a connection at the fourth", tries, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
