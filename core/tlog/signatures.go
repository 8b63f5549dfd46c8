package tlog

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/signature"
)

// linePrefix opens a signature line: em dash (U+2014) and a space.
const linePrefix = "\u2014 "

// LogSignature is the log's own Ed25519 signature (0x01) over a checkpoint's
// body. It carries no trust: it makes the note one that other tools open.
type LogSignature struct {
	Name  string // equals the origin
	KeyID uint32
	Bytes [signature.Size]byte
}

// Cosignature is a replica's statement, at a time, that it validated the log up
// to the checkpoint (C2SP tlog-cosignature, 0x04).
type Cosignature struct {
	Name          string // the cosigner's
	KeyID         uint32
	TimestampUnix uint64 // seconds since the Epoch, 1 to 2^63-1
	Bytes         [signature.Size]byte
}

// SignLog signs the checkpoint with the log key whose public half signer holds;
// its name is the origin.
func SignLog(signer crypto.Signer, checkpoint Checkpoint) (LogSignature, error) {
	key, err := signerKey(signer, checkpoint.Origin, LogKey)
	if err != nil {
		return LogSignature{}, err
	}
	if err := checkpoint.Check(); err != nil {
		return LogSignature{}, err
	}
	s := LogSignature{Name: key.Name, KeyID: key.ID()}
	sig, err := signature.Sign(signer, signature.Ed25519, checkpoint.Body())
	if err != nil {
		return LogSignature{}, err
	}
	copy(s.Bytes[:], sig)
	return s, nil
}

// Cosign signs the checkpoint as the cosigner of this name at a time in seconds
// since the Epoch. The caller answers for rule C1: never two roots for one
// size, never an inconsistent tree.
func Cosign(signer crypto.Signer, name string, checkpoint Checkpoint, timestampUnix uint64) (Cosignature, error) {
	key, err := signerKey(signer, name, CosignerKey)
	if err != nil {
		return Cosignature{}, err
	}
	if err := checkpoint.Check(); err != nil {
		return Cosignature{}, err
	}
	if timestampUnix == 0 || timestampUnix > maxTimestamp {
		return Cosignature{}, malformed("cosignature", 0, "time stamp %d is outside 1..%d", timestampUnix, uint64(maxTimestamp))
	}
	s := Cosignature{Name: key.Name, KeyID: key.ID(), TimestampUnix: timestampUnix}
	sig, err := signature.Sign(signer, signature.Ed25519, cosignedMessage(checkpoint, timestampUnix))
	if err != nil {
		return Cosignature{}, err
	}
	copy(s.Bytes[:], sig)
	return s, nil
}

// signerKey names the signer's key without the cost of Check, which is for keys
// of others: a policy has no place for a bad one.
func signerKey(signer crypto.Signer, name string, keyType KeyType) (VerifierKey, error) {
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(public) != ed25519.PublicKeySize {
		return VerifierKey{}, malformed("verifier key", 0, "a %T of the signer cannot be a %v, want Ed25519", signer.Public(), keyType)
	}
	if !validName(name) {
		return VerifierKey{}, malformed("verifier key", 0, "name %q is not 1 to %d printable ASCII characters without space and plus", name, MaxNameSize)
	}
	return VerifierKey{Name: name, Type: keyType, Public: [ed25519.PublicKeySize]byte(public)}, nil
}

// maxTimestamp is the specification's: 2^63-1.
const maxTimestamp = 1<<63 - 1

// cosignedMessage is what a cosigner signs: header, time and the note body.
func cosignedMessage(c Checkpoint, timestampUnix uint64) []byte {
	b := append([]byte("cosignature/v1\ntime "), strconv.FormatUint(timestampUnix, 10)...)
	return c.appendBody(append(b, '\n'))
}

// Verify says whether the signature is key's over the checkpoint: name, ID and
// signature must all agree.
func (s LogSignature) Verify(v signature.Verifier, key VerifierKey, checkpoint Checkpoint) error {
	if err := sameKey(s.Name, s.KeyID, key, LogKey); err != nil {
		return err
	}
	if !v.Verify(signature.Ed25519, key.Key(), checkpoint.Body(), s.Bytes[:]) {
		return fmt.Errorf("the log signature of %s (ID %s) does not verify: %w", s.Name, idText(s.KeyID), ErrNotCertified)
	}
	return nil
}

// Verify says whether the cosignature is key's over the checkpoint and the time
// stamp: name, ID and signature must all agree.
func (s Cosignature) Verify(v signature.Verifier, key VerifierKey, checkpoint Checkpoint) error {
	if err := sameKey(s.Name, s.KeyID, key, CosignerKey); err != nil {
		return err
	}
	if !v.Verify(signature.Ed25519, key.Key(), cosignedMessage(checkpoint, s.TimestampUnix), s.Bytes[:]) {
		return fmt.Errorf("the cosignature of %s (ID %s) at time %d does not verify: %w", s.Name, idText(s.KeyID), s.TimestampUnix, ErrNotCertified)
	}
	return nil
}

func sameKey(name string, id uint32, key VerifierKey, want KeyType) error {
	if name != key.Name || id != key.ID() || key.Type != want {
		return fmt.Errorf("signature line names %s with ID %s, the key is %s with ID %s, a %v where a %v is needed: %w",
			name, idText(id), key.Name, idText(key.ID()), key.Type, want, ErrNotCertified)
	}
	return nil
}

// Line is the signature line without its newline.
func (s LogSignature) Line() string { return string(s.appendLine(nil)) }

func (s LogSignature) appendLine(b []byte) []byte {
	var material [4 + signature.Size]byte
	binary.BigEndian.PutUint32(material[:], s.KeyID)
	copy(material[4:], s.Bytes[:])
	return appendSignatureLine(b, s.Name, material[:])
}

// Line is the signature line without its newline.
func (s Cosignature) Line() string { return string(s.appendLine(nil)) }

func (s Cosignature) appendLine(b []byte) []byte {
	var material [4 + 8 + signature.Size]byte
	binary.BigEndian.PutUint32(material[:], s.KeyID)
	binary.BigEndian.PutUint64(material[4:], s.TimestampUnix)
	copy(material[4+8:], s.Bytes[:])
	return appendSignatureLine(b, s.Name, material[:])
}

// appendSignatureLine writes a line of a key's name and of its ID with what it signed.
func appendSignatureLine(b []byte, name string, material []byte) []byte {
	b = append(append(append(b, linePrefix...), name...), ' ')
	return base64.StdEncoding.AppendEncode(b, material)
}

// ParseLogSignature reads what LogSignature.Line writes.
func ParseLogSignature(line string) (LogSignature, error) {
	var material [4 + signature.Size]byte
	name, err := parseSignatureLine("log signature", line, material[:])
	if err != nil {
		return LogSignature{}, err
	}
	return LogSignature{Name: name, KeyID: binary.BigEndian.Uint32(material[:]), Bytes: [signature.Size]byte(material[4:])}, nil
}

// ParseCosignature reads what Cosignature.Line writes.
func ParseCosignature(line string) (Cosignature, error) {
	var material [4 + 8 + signature.Size]byte
	name, err := parseSignatureLine("cosignature", line, material[:])
	if err != nil {
		return Cosignature{}, err
	}
	s := Cosignature{Name: name, KeyID: binary.BigEndian.Uint32(material[:]),
		TimestampUnix: binary.BigEndian.Uint64(material[4:]), Bytes: [signature.Size]byte(material[4+8:])}
	if s.TimestampUnix == 0 || s.TimestampUnix > maxTimestamp {
		return Cosignature{}, malformed("cosignature", 0, "time stamp %d of %s is outside 1..%d", s.TimestampUnix, name, uint64(maxTimestamp))
	}
	return s, nil
}

// maxSignatureLine is the longest line: prefix, name, space, base64 of a
// cosignature.
const maxSignatureLine = len(linePrefix) + MaxNameSize + 1 + (4+8+signature.Size+2)/3*4

// parseSignatureLine reads a line whose base64 is exactly as long as material.
func parseSignatureLine(object, line string, material []byte) (name string, err error) {
	if len(line) > maxSignatureLine {
		return "", malformed(object, 0, "line of %d bytes, at most %d", len(line), maxSignatureLine)
	}
	rest, ok := strings.CutPrefix(line, linePrefix)
	name, encoded, found := strings.Cut(rest, " ")
	if !ok || !found || !validName(name) {
		return "", malformed(object, 0, "%.60q is not em dash, space, name, space, base64", line)
	}
	if decodeExactly(material, encoded) {
		return name, nil
	}
	b, ok := decodeBase64(encoded)
	if !ok {
		return "", malformed(object, 0, "%.60q is not standard base64", encoded)
	}
	return "", malformed(object, 0, "key ID and signature of %s have %d bytes, want %d", name, len(b), len(material))
}
