package raft

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
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
