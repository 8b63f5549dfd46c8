package statement

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// External is a program that holds a key where we cannot: in a smart card, an
// HSM behind PKCS#11, another machine. It reads requests on its standard input
// and answers each on its standard output, a line each (docs/adr/0009):
//
//	key                    key BASE64             SubjectPublicKeyInfo in DER
//	sign message BASE64    signature BASE64       Ed25519: of the message
//	sign sha256 BASE64     signature BASE64       P-256: of the digest, r and s in 32 bytes each
//	                       error TEXT             instead of either
//
// It ends when its input does. Its standard error, and whatever it asks on the
// terminal, are between it and its user. Nothing that it says is trusted: a
// signature counts when it verifies. Not safe for concurrent use.
type External struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	public  crypto.PublicKey
	cancel  context.CancelFunc
}

// ErrExternal says that the signer's program did not answer as it must.
var ErrExternal = errors.New("external signer")

const (
	// externalPatience is how long a person may take for a PIN or a touch.
	externalPatience = 5 * time.Minute
	maxAnswerBytes   = 4 << 10
)

// StartExternal runs a command line, by the shell, and asks it for its key. Its
// standard error goes to diagnostics. Close it.
func StartExternal(ctx context.Context, command string, diagnostics io.Writer) (*External, error) {
	ctx, cancel := context.WithTimeout(ctx, externalPatience)
	e := &External{command: exec.CommandContext(ctx, "sh", "-c", command), cancel: cancel} //nolint:gosec // the signer's own command line.
	e.command.Stderr = diagnostics
	e.command.WaitDelay = time.Second
	in, err := e.command.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := e.command.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	e.in, e.out = in, bufio.NewReaderSize(out, maxAnswerBytes)
	if err := e.command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("%w: %w", ErrExternal, err)
	}
	der, err := e.ask("key", "key")
	if err == nil {
		e.public, err = x509.ParsePKIXPublicKey(der)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: its key: %w", ErrExternal, err), e.Close())
	}
	return e, nil
}

// Close ends the program.
func (e *External) Close() error {
	_ = e.in.Close() // it may have ended already
	err := e.command.Wait()
	e.cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExternal, err)
	}
	return nil
}

// Public implements crypto.Signer.
func (e *External) Public() crypto.PublicKey { return e.public }

// Sign implements crypto.Signer for Ed25519 and ECDSA with SHA-256.
func (e *External) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	what := "message"
	if opts.HashFunc() != crypto.Hash(0) {
		what = "sha256"
	}
	sig, err := e.ask("sign "+what+" "+base64.StdEncoding.EncodeToString(digest), "signature")
	if err != nil {
		return nil, err
	}
	if want := ed25519.SignatureSize; len(sig) != want { // 64 for both kinds
		return nil, fmt.Errorf("%w: a signature of %d bytes, want %d", ErrExternal, len(sig), want)
	}
	if _, ok := e.public.(*ecdsa.PublicKey); !ok {
		return sig, nil
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[:32]))
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[32:]))
	})
	return b.Bytes()
}

// ask sends a line and reads the answer's bytes.
func (e *External) ask(request, word string) ([]byte, error) {
	if _, err := io.WriteString(e.in, request+"\n"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExternal, err)
	}
	line, err := e.out.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: no whole line of at most %d bytes came: %w", ErrExternal, maxAnswerBytes, err)
	}
	got, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	switch got {
	case word:
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, fmt.Errorf("%w: answered %q with %.40q: %w", ErrExternal, word, value, err)
		}
		return b, nil
	case "error":
		return nil, fmt.Errorf("%w: it says: %.200q", ErrExternal, value)
	}
	return nil, fmt.Errorf("%w: answered %.40q, want %q", ErrExternal, got, word)
}

var _ crypto.Signer = (*External)(nil)
