package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// ErrCertificateFile says that a certificate file is unusable: not PEM certificates, or not of the node's key.
var ErrCertificateFile = errors.New("unusable certificate file")

const certificateType = "CERTIFICATE" // RFC 7468 section 5

// Authority is an organisation's own certificate authority. It serves other people's TLS tools (a browser, curl,
// openssl s_client), which check a server by issuer, name and date. Inside the network its word counts for nothing: a
// role comes from the ledger's registration of the key alone (rule N1). Immutable.
type Authority struct {
	key         ed25519.PrivateKey
	certificate *x509.Certificate
}

// NewAuthority makes the authority of an organisation: a certificate that the key signs for itself, valid from the
// given time without end. It may issue to nodes, not to other authorities.
func NewAuthority(organisation string, key ed25519.PrivateKey, from time.Time) (*Authority, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "lacre CA of " + organisation},
		NotBefore:             from.UTC(),
		NotAfter:              noExpiry,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	certificate, err := certify(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority of %s: %w", organisation, err)
	}
	return &Authority{key: key, certificate: certificate}, nil
}

// LoadAuthority continues one from its certificate (DER) and its key.
func LoadAuthority(der []byte, key ed25519.PrivateKey) (*Authority, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of the CA: %w", err)
	}
	if public, ok := certificate.PublicKey.(ed25519.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("the key of the CA has public key %x, its certificate another", key.Public())
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// PEM is the authority's certificate, as the file that TLS tools take.
func (a *Authority) PEM() []byte { return certificatePEM(a.certificate) }

// DER is the authority's certificate.
func (a *Authority) DER() []byte { return bytes.Clone(a.certificate.Raw) }

// Issue makes the certificate of a node's TLS key, as the file that LoadCertified takes: the node's id as its name, and
// the hosts (DNS names or IP addresses) as what TLS tools compare.
func (a *Authority) Issue(id string, public ed25519.PublicKey, hosts []string, from time.Time) ([]byte, error) {
	return a.IssueUntil(id, public, hosts, from, noExpiry)
}

// IssueUntil is Issue with an end.
func (a *Authority) IssueUntil(id string, public ed25519.PublicKey, hosts []string, from, until time.Time) ([]byte, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id},
		NotBefore:    from.UTC(),
		NotAfter:     until.UTC(),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, err := certify(template, a.certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	return certificatePEM(certificate), nil
}

func certify(template, parent *x509.Certificate, public any, key ed25519.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serialNumber is positive, unpredictable and of at most 20 octets (RFC 5280 section 4.1.2.2).
func serialNumber() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: c.Raw})
}

// LoadCertified is Load with a certificate that somebody else signed, the chain's leaf first; "" means the one that the
// node signs for itself. Peers judge the key alone, so the file changes nothing but what TLS tools see. The error is
// ErrCertificateFile when the file is not PEM certificates or the leaf is not of the key. Run reads both files again.
func LoadCertified(keyPath, certificatePath string) (*Node, error) {
	f := files{key: keyPath, certificate: certificatePath}
	s, err := f.read()
	if err != nil {
		return nil, err
	}
	n := nodeOf(*s)
	n.files = f
	return n, nil
}

// parseChain reads PEM certificates and nothing else, at least one.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("holds bytes that are no PEM block")
		}
		if block.Type != certificateType {
			return nil, fmt.Errorf("holds a PEM block %q, expected %q", block.Type, certificateType)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return chain, nil
}
