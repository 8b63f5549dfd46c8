package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
)

// ServerTLS is the configuration of a server whose clients may come without a certificate. A certificate that comes is
// proved to be the client's own (TLS 1.3 CertificateVerify), and who it is is judged for each call by rpcserver, so
// that a revocation takes effect on connections that already stand.
func (n *Node) ServerTLS() *tls.Config {
	config := n.base()
	config.ClientAuth = tls.RequestClientCert
	return config
}

// MutualTLS is the configuration of a server that admits only clients whose key passes the check, in the handshake.
func (n *Node) MutualTLS(check Check) *tls.Config {
	config := n.base()
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = verify(check)
	return config
}

// ClientTLS is the configuration of a client that shows this node's key and accepts a server whose key passes the
// check.
func (n *Node) ClientTLS(check Check) *tls.Config {
	config := n.base()
	asClient(config, check)
	return config
}

// AnonymousTLS is the configuration of a client without a key of its own: the public role.
func AnonymousTLS(check Check) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	asClient(config, check)
	return config
}

// PeerSPKI is the key that the other end proved to hold, or false when it showed no certificate.
func PeerSPKI(state tls.ConnectionState) (SPKI, bool) {
	if len(state.PeerCertificates) == 0 {
		return SPKI{}, false
	}
	return sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo), true
}

func (n *Node) base() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		// Asked for each connection, so that renewed files need no restart.
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &n.shown.Load().certificate, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &n.shown.Load().certificate, nil },
	}
}

func asClient(config *tls.Config, check Check) {
	// What is switched off is the judgement by certificate authority, name and date, which rule N1 forbids. The proof of
	// possession stays with crypto/tls, and verify judges the key.
	config.InsecureSkipVerify = true
	config.VerifyConnection = verify(check)
}

// verify refuses every connection when check is nil: a forgotten check must not mean "anybody".
func verify(check Check) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if check == nil {
			return fmt.Errorf("%w: no check of the peer's key was configured", ErrUnexpectedPeer)
		}
		spki, ok := PeerSPKI(state)
		if !ok {
			return errors.Join(ErrUnexpectedPeer, errors.New("peer showed no certificate"))
		}
		return check(spki)
	}
}
