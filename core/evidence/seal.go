package evidence

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
	"io"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
)

// Seal reads content to its end, writes its sealed form, and returns the piece as
// a sample header names it. What it wrote is of no use after an error: of content
// and destination as they gave it, or a *reason.Error: Malformed (empty content,
// a context that is none), WeakKey, or TooLarge.
func Seal(to io.Writer, recipient []byte, c Context, content io.Reader) (sample.Evidence, error) {
	none := sample.Evidence{}
	info, err := c.info()
	if err != nil {
		return none, err
	}
	key, err := parseKey(recipient)
	if err != nil {
		return none, err
	}
	public, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return none, err
	}
	encapsulated, sender, err := hpke.NewSender(public, kdf(), aead(), info)
	if err != nil {
		return none, fmt.Errorf("HPKE: %w", err)
	}
	sum := digest.New(digest.Evidence)
	out := &counter{to: io.MultiWriter(to, sum)}
	for _, part := range [][]byte{[]byte(magic), recipient, encapsulated} {
		if _, err := out.Write(part); err != nil {
			return none, err
		}
	}
	if err := chunks(content, ChunkBytes, func(chunk []byte, last bool) error {
		sealed, err := sender.Seal(associated(last), chunk)
		if err != nil {
			return fmt.Errorf("HPKE: %w", err)
		}
		if out.n+int64(len(sealed)) > sample.MaxEvidenceBytes {
			return reason.New(reason.TooLarge, "evidence has more than %d bytes", MaxContentBytes)
		}
		_, err = out.Write(sealed)
		return err
	}); err != nil {
		return none, err
	}
	return sample.Evidence{Digest: sum.Digest(), Size: uint64(out.n), MediaType: c.MediaType}, nil
}

// Open writes the content of a piece. What it wrote counts only when it returns
// nil: a piece that was cut off shows at its end. Errors: of sealed and
// destination as they gave it, or a *reason.Error: EvidenceUnreadable for bytes
// that are not this piece for this key, TooLarge.
func Open(to io.Writer, key *ecdh.PrivateKey, c Context, sealed io.Reader) error {
	info, err := c.info()
	if err != nil {
		return err
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return fmt.Errorf("evidence key: %w", err)
	}
	head := make([]byte, HeaderBytes)
	if n, err := io.ReadFull(sealed, head); err != nil {
		return shorter(err, "%d bytes, a sealed piece has more than %d", n, HeaderBytes)
	}
	recipient, err := Recipient(head)
	if err != nil {
		return err
	}
	if own := key.PublicKey().Bytes(); !bytes.Equal(recipient, own) {
		return reason.New(reason.EvidenceUnreadable, "sealed to the key %x.., this is the key %x..", recipient[:8], own[:8])
	}
	opener, err := hpke.NewRecipient(head[HeaderBytes-KeySize:], private, kdf(), aead(), info)
	if err != nil {
		return reason.New(reason.EvidenceUnreadable, "the encapsulated key gives no secret")
	}
	total := int64(HeaderBytes)
	return chunks(sealed, ChunkBytes+tagBytes, func(chunk []byte, last bool) error {
		if total += int64(len(chunk)); total > sample.MaxEvidenceBytes {
			return reason.New(reason.TooLarge, "sealed evidence has more than %d bytes", int64(sample.MaxEvidenceBytes))
		}
		if len(chunk) <= tagBytes {
			return reason.New(reason.EvidenceUnreadable, "the last chunk has %d bytes, want more than %d", len(chunk), tagBytes)
		}
		content, err := opener.Open(associated(last), chunk)
		if err != nil {
			return reason.New(reason.EvidenceUnreadable, "a chunk does not open: the piece was altered, or belongs to another network, meter or media type")
		}
		_, err = to.Write(content)
		return err
	})
}

// Judge reads a sealed piece to its end and returns its digest and size, for
// whoever keeps it without being able to open it.
func Judge(sealed io.Reader) (digest.Digest, int64, error) {
	sum := digest.New(digest.Evidence)
	n, err := io.Copy(sum, sealed)
	return sum.Digest(), n, err
}

// associated is the associated data of a chunk.
func associated(last bool) []byte {
	if last {
		return []byte{1}
	}
	return []byte{0}
}

// chunks gives what r holds in pieces of size bytes; the last has 1 to size.
func chunks(r io.Reader, size int, take func(chunk []byte, last bool) error) error {
	buffer := make([]byte, size+1) // one byte more tells whether a chunk is the last
	held := 0
	for {
		n, err := io.ReadFull(r, buffer[held:])
		held += n
		switch {
		case err == nil:
			if err := take(buffer[:size], false); err != nil {
				return err
			}
			buffer[0], held = buffer[size], 1
		case held == 0:
			return shorter(err, "evidence is empty")
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return take(buffer[:held], true)
		default:
			return err
		}
	}
}

// shorter is the refusal of what ended early, or the reader's own error.
func shorter(err error, format string, args ...any) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return reason.New(reason.EvidenceUnreadable, format, args...)
	}
	return err
}

type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}
