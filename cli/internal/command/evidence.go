package command

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/evidencekey"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

func newEvidence(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "evidence",
		Short: "What a meter saw beside a measurement: sealed to an authority, outside the ledger",
	}, newEvidenceKey(a), newEvidenceReader(a), newEvidencePut(a), newEvidenceGet(a), newEvidenceErase(a), newEvidenceList(a))
}

func newEvidenceKey(a *app) *cobra.Command {
	var passphraseFile string
	var encrypt bool
	c := a.reading(&cobra.Command{
		Use:   "key FILE",
		Short: "Make the key that opens evidence, or show the public half of one",
		Long: `Makes an X25519 key in FILE, unless it is there, and prints the public key for
"lacre init --evidence-key". Keep the file with the root key: no node needs it,
and without it no piece that was sealed to it is ever read again. --encrypt
encrypts a new file under a passphrase, asked for or from --passphrase-file, as an
armoured age file.`,
		Example: `  lacre evidence key authority.evidence.age --encrypt
  lacre evidence key authority.evidence.age --passphrase-file secret`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := evidencekey.Open(args[0], a.passphrase(args[0], passphraseFile))
			if errors.Is(err, os.ErrNotExist) {
				if passphraseFile != "" && !encrypt {
					return usage("%s is not there, and --passphrase-file without --encrypt makes none", args[0])
				}
				secret := ""
				if encrypt {
					if secret, err = a.newPassphrase(args[0], passphraseFile); err != nil {
						return err
					}
				}
				key, err = evidencekey.Generate(args[0], secret)
			}
			if err != nil {
				return err
			}
			public := hex.EncodeToString(key.PublicKey().Bytes())
			return a.print(struct {
				Public string `json:"evidence_key"`
				File   string `json:"file"`
			}{public, args[0]}, public+"\n")
		},
	})
	c.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt a new file under a passphrase")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase, mode 0600 (default: it is asked for)")
	return c
}

// pieceFlags say what a piece is bound to.
type pieceFlags struct {
	target
	meter, mediaType string
}

func (p *pieceFlags) flags(c *cobra.Command) {
	p.target.flags(c)
	c.Flags().StringVar(&p.meter, "meter", "", "id of the meter")
	c.Flags().StringVar(&p.mediaType, "media-type", "image/jpeg", "what the content is, as the sample's header says")
}

func (p *pieceFlags) context(n *devnet.Network) (evidence.Context, error) {
	id, err := digest.Parse(n.NetworkID)
	return evidence.Context{NetworkID: id, MeterID: p.meter, MediaType: p.mediaType}, err
}

// callGateway connects to the gateway under an identity.
func (t *target) callGateway(ctx context.Context, as *identity.Node, f func(context.Context, evidencev1.EvidenceServiceClient) error) error {
	address, spki, err := t.endpoint(recordv1.Role_ROLE_GATEWAY)
	if err != nil {
		return err
	}
	return call(ctx, address, spki, as, func(ctx context.Context, c grpc.ClientConnInterface) error {
		return f(ctx, evidencev1.NewEvidenceServiceClient(c))
	})
}

func newEvidencePut(a *app) *cobra.Command {
	var p pieceFlags
	var public string
	c := a.reading(&cobra.Command{
		Use:   "put FILE",
		Short: "Seal a file to an authority and hand it to the gateway, as a meter",
		Long: `Seals FILE to the authority's public key and uploads it under the TLS key of the
meter in the network directory. Prints digest, size and media type: what the
sample's header names. The SDK does the same (meter.AddEvidence); this is for
trying out. The plain content never leaves this machine.`,
		Example: `  lacre evidence put plate.jpg --meter my-meter --evidence-key HEX`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := p.required()
			if err != nil {
				return err
			}
			key, err := hex.DecodeString(public)
			if err != nil {
				return usage("--evidence-key: %w", err)
			}
			as, err := identity.Load(filepath.Join(n.MeterDir(p.meter), "tls.pem"))
			if err != nil {
				return err
			}
			where, err := p.context(n)
			if err != nil {
				return err
			}
			content, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer content.Close() //nolint:errcheck // it was only read.
			var sealed bytes.Buffer
			piece, err := evidence.Seal(&sealed, key, where, content)
			if err != nil {
				return err
			}
			before := false
			err = p.callGateway(c.Context(), as, func(ctx context.Context, client evidencev1.EvidenceServiceClient) (err error) {
				before, err = upload(ctx, client, piece.Digest, sealed.Bytes())
				return err
			})
			if err != nil {
				return err
			}
			return a.print(struct {
				Digest    digest.Digest `json:"digest"`
				Size      uint64        `json:"size"`
				MediaType string        `json:"media_type"`
				Before    bool          `json:"kept_before"`
			}{piece.Digest, piece.Size, piece.MediaType, before}, fmt.Sprintf("evidence %s\nsize     %d bytes sealed\ntype     %s\n", piece.Digest, piece.Size, piece.MediaType))
		},
	})
	p.flags(c)
	c.Flags().StringVar(&public, "evidence-key", "", "public key of the authority, in hexadecimal")
	return c
}

// upload hands sealed bytes to a gateway.
func upload(ctx context.Context, client evidencev1.EvidenceServiceClient, piece digest.Digest, sealed []byte) (before bool, err error) {
	stream, err := client.Put(ctx)
	if err != nil {
		return false, err
	}
	request := &evidencev1.PutRequest{Part: &evidencev1.PutRequest_Piece{Piece: &evidencev1.Piece{Digest: piece.Bytes(), Size: uint64(len(sealed))}}}
	for stream.Send(request) == nil && len(sealed) > 0 { // a failed Send: CloseAndRecv says why
		n := min(len(sealed), 64<<10)
		request = &evidencev1.PutRequest{Part: &evidencev1.PutRequest_Chunk{Chunk: sealed[:n]}}
		sealed = sealed[n:]
		if len(sealed) == 0 {
			stream.Send(request) //nolint:errcheck // as above.
			break
		}
	}
	response, err := stream.CloseAndRecv()
	return response.GetKeptBefore(), err
}

func newEvidenceGet(a *app) *cobra.Command {
	var p pieceFlags
	var reader, key, passphraseFile, purpose, out string
	c := a.reading(&cobra.Command{
		Use:   "get DIGEST",
		Short: "Read a piece of evidence, on the record, and open it",
		Long: `Asks the gateway for a piece under the key of a reader ("lacre evidence reader").
The gateway records on the ledger who reads it and why before it gives it out;
so the purpose names a case, never a person. The piece is compared with its
digest and opened with the authority's private key here. Meter and media type
are those of the sample's header; a piece opens as nothing else.`,
		Example: `  lacre evidence get HEX --meter my-meter --reader reader --key authority.evidence.pem --purpose "case 17" --out plate.jpg`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			piece, err := digest.Parse(args[0])
			if err != nil {
				return usage("%w", err)
			}
			if out == "" {
				return usage("--out is needed: the content goes to a file that only you can read")
			}
			n, err := p.required()
			if err != nil {
				return err
			}
			where, err := p.context(n)
			if err != nil {
				return err
			}
			private, err := evidencekey.Open(key, a.passphrase(key, passphraseFile))
			if err != nil {
				return err
			}
			as, err := identity.Load(filepath.Join(n.NodeDir(reader), "tls.pem"))
			if err != nil {
				return err
			}
			var sealed bytes.Buffer
			var index uint64
			err = p.callGateway(c.Context(), as, func(ctx context.Context, client evidencev1.EvidenceServiceClient) (err error) {
				index, err = download(ctx, client, piece, purpose, &sealed)
				return err
			})
			if err != nil {
				return err
			}
			if got := digest.Of(digest.Evidence, sealed.Bytes()); got != piece {
				return &exitError{code: ExitRefuted, err: fmt.Errorf("the gateway gave evidence %s, asked for was %s", got, piece)}
			}
			var content bytes.Buffer
			if err := evidence.Open(&content, private, where, &sealed); err != nil {
				return err
			}
			if err := os.WriteFile(out, content.Bytes(), 0o600); err != nil {
				return err
			}
			return a.print(struct {
				File   string `json:"file"`
				Size   int    `json:"size"`
				Record uint64 `json:"record_index"`
			}{out, content.Len(), index}, fmt.Sprintf("wrote    %s (%d bytes)\nrecorded as leaf %d\n", out, content.Len(), index))
		},
	})
	p.flags(c)
	f := c.Flags()
	f.StringVar(&reader, "reader", "reader", "id of the node that reads, whose keys lie in the network directory")
	f.StringVar(&key, "key", "", "file of the authority's private evidence key")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase of an encrypted key, mode 0600 (default: it is asked for)")
	f.StringVar(&purpose, "purpose", "", "why it is read; goes on the ledger")
	f.StringVar(&out, "out", "", "file for the content, made with mode 0600")
	return c
}

// download reads a piece, and the place of the record of this reading.
func download(ctx context.Context, client evidencev1.EvidenceServiceClient, piece digest.Digest, purpose string, to io.Writer) (index uint64, err error) {
	stream, err := client.Get(ctx, &evidencev1.GetRequest{Digest: piece.Bytes(), Purpose: purpose})
	for err == nil {
		var part *evidencev1.GetResponse
		if part, err = stream.Recv(); err == nil {
			index = max(index, part.GetRecordIndex())
			_, err = to.Write(part.GetChunk())
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return index, err
}

// now is when a statement is issued; it decides nothing.
func now() time.Time { return time.Now() }
