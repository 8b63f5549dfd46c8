package attack

import (
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger"
)

var rewrittenTail = Scenario{
	Name: "rewritten-tail", Attacker: "the operator of one replica rewrites the log's tail and signs the new tree with all the keys that it has",
	Answer: "no verifier accepts the certificate: one cosignature, the trust bundle asks for three", Record: "two signatures of one key on inconsistent trees convict it; what other replicas do is shown by the tests of C1 and R2",
	run: func(ctx context.Context, s *stage) (string, error) {
		client, err := s.ledger("")
		if err != nil {
			return "", err
		}
		genuine, err := client.GetCheckpoint(ctx, &ledgerv1.GetCheckpointRequest{})
		if err != nil {
			return "", err
		}
		certificate, err := tlog.ParseCertificate(genuine.GetCertificate())
		if err != nil {
			return "", err
		}
		if err := s.trust.Check(signature.Direct{}, certificate); err != nil {
			return "", err
		}
		forged := certificate.Checkpoint
		forged.Root = digest.Plain([]byte("another history"))
		replica := s.replica()
		key := func(name string) (ed25519.PrivateKey, error) {
			return identity.ReadKey(filepath.Join(s.network.NodeDir(replica.ID), name))
		}
		logKey, err := key("log.pem")
		if err != nil {
			return "", err
		}
		cosigner, err := key("cosigner.pem")
		if err != nil {
			return "", err
		}
		signed, err := tlog.SignLog(logKey, forged)
		if err != nil {
			return "", err
		}
		own, err := tlog.Cosign(cosigner, state.CosignerName(forged.Origin, replica.ID), forged, uint64(time.Now().Unix()))
		if err != nil {
			return "", err
		}
		cosignatures := []tlog.Cosignature{own}
		for _, c := range certificate.Cosignatures { // those of the others, on the tree that they signed
			if c.Name != own.Name {
				cosignatures = append(cosignatures, c)
			}
		}
		seen := ""
		for _, with := range [][]tlog.Cosignature{cosignatures[:1], cosignatures} {
			c, err := tlog.NewCertificate(forged, signed, with)
			if err == nil {
				err = s.trust.Check(signature.Direct{}, c)
			}
			if err == nil {
				return "", succeeded("a certificate with %d cosignatures on another root verifies", len(with))
			}
			seen = err.Error()
		}
		return seen, nil
	},
}

var tamperedDisk = Scenario{
	Name: "tampered-disk", Attacker: "the operator of a replica changes a byte of a stored record on its disk",
	Answer: "DATA_LOSS: every stored byte is hashed, the damaged replica is named, the others are whole", Record: "the same ledger on every other replica", after: true,
	run: func(ctx context.Context, s *stage) (string, error) {
		replicas := s.network.ByRole(recordv1.Role_ROLE_REPLICA)
		data := func(i int) string { return filepath.Join(s.network.NodeDir(replicas[i].ID), "data") }
		segment := filepath.Join(data(0), "store", "segments", "0000000001.seg")
		b, err := os.ReadFile(segment)
		if err != nil {
			return "", err
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(segment, b, 0o600); err != nil {
			return "", err
		}
		problems, err := inspect(ctx, data(0))
		if err != nil {
			return "", err
		}
		if len(problems) == 0 {
			return "", succeeded("a changed byte of %s is not found", segment)
		}
		whole, err := inspect(ctx, data(1))
		if err != nil {
			return "", err
		}
		if len(whole) > 0 {
			return "", succeeded("replica %s is damaged, too: %s", replicas[1].ID, whole[0])
		}
		return replicas[0].ID + ": " + problems[0], nil
	},
}

// inspect re-hashes every byte of a stopped replica, as `lacre audit --from DIR` does.
func inspect(ctx context.Context, dir string) ([]string, error) {
	archive, err := ledger.OpenArchive(dir)
	if err != nil {
		return nil, err
	}
	defer archive.Close() //nolint:errcheck // it was only read.
	report, err := archive.Verify(ctx, nil)
	if err != nil {
		return nil, err
	}
	return report.Problems, nil
}
