package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// rereadInterval is how soon renewed files are noticed.
const rereadInterval = 10 * time.Second

// files are what a node's identity is read from.
type files struct {
	key, certificate string // certificate is "" when the node signs one for itself
}

// read loads the key, and the certificate if there is one.
func (f files) read() (*shown, error) {
	node, err := Load(f.key)
	if err != nil {
		return nil, err
	}
	s := *node.shown.Load()
	if f.certificate == "" {
		return &s, nil
	}
	text, err := os.ReadFile(f.certificate)
	if err != nil {
		return nil, fmt.Errorf("read node certificate: %w", err)
	}
	chain, err := parseChain(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCertificateFile, f.certificate, err)
	}
	if spki := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo); spki != s.spki {
		return nil, fmt.Errorf("%w: %s is of key %s, %s holds key %s", ErrCertificateFile, f.certificate, Short(spki), f.key, Short(s.spki))
	}
	s.certificate = tls.Certificate{PrivateKey: s.certificate.PrivateKey, Leaf: chain[0]}
	for _, c := range chain {
		s.certificate.Certificate = append(s.certificate.Certificate, c.Raw)
	}
	return &s, nil
}

// stamp tells whether a file was written since; zero when it cannot be looked at.
type stamp struct {
	at   time.Time
	size int64
}

func (f files) stamps() (s [2]stamp) {
	for i, path := range []string{f.key, f.certificate} {
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// NotAfter is when the node's certificate expires. Nothing in the network depends on it (rule N1); other people's TLS
// tools do.
func (n *Node) NotAfter() time.Time { return n.shown.Load().certificate.Leaf.NotAfter }

// Changed is closed when the node's key changes: connections that showed the old one are then somebody else's.
func (n *Node) Changed() <-chan struct{} { return *n.changed.Load() }

// Run reads the node's files again whenever they change, and warns of a certificate's expiry 30, 7 and 1 days before it,
// until ctx ends. Files that do not fit each other, or cannot be read, change nothing: both are replaced one after the
// other. A new key needs a registration on the ledger, or the node is a stranger.
func (n *Node) Run(ctx context.Context, log *slog.Logger) error {
	seen, said := n.files.stamps(), expiry{}
	ticker := time.NewTicker(rereadInterval)
	defer ticker.Stop()
	for {
		said = said.tell(ctx, n.NotAfter(), log)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := n.files.stamps()
		if n.files.key == "" || now == seen {
			continue
		}
		seen = now
		if err := n.Reread(ctx, log); err != nil {
			log.WarnContext(ctx, "TLS files changed and cannot be used; the old ones stay", "error", err)
		}
	}
}

// Reread reads the files at once. The error says why the old ones stay.
func (n *Node) Reread(ctx context.Context, log *slog.Logger) error {
	fresh, err := n.files.read()
	if err != nil {
		return err
	}
	old := n.shown.Swap(fresh)
	if fresh.spki == old.spki {
		log.InfoContext(ctx, "TLS certificate read again", "not_after", fresh.certificate.Leaf.NotAfter.UTC())
		return nil
	}
	log.WarnContext(ctx, "TLS key changed; the node is who the ledger registers this key for", "spki", Short(fresh.spki), "was", Short(old.spki))
	changed := make(chan struct{})
	close(*n.changed.Swap(&changed))
	return nil
}

// expiry is what was said of a certificate.
type expiry struct {
	notAfter time.Time
	level    int // of the thresholds below: how many are passed
}

// thresholds are the times before expiry that are worth a line in the log.
var thresholds = [...]time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

// tell warns once for each threshold that a certificate passed.
func (e expiry) tell(ctx context.Context, notAfter time.Time, log *slog.Logger) expiry {
	now := expiry{notAfter: notAfter}
	left := time.Until(notAfter)
	for _, t := range thresholds {
		if left <= t {
			now.level++
		}
	}
	if now.level == 0 || now == e {
		return now
	}
	level, text := slog.LevelWarn, "the TLS certificate expires soon"
	switch {
	case left <= 0:
		level, text = slog.LevelError, "the TLS certificate has expired; nodes go on, other people's TLS tools refuse it"
	case left <= 24*time.Hour:
		level = slog.LevelError
	}
	log.Log(ctx, level, text, "not_after", notAfter.UTC(), "days", int(left.Hours()/24), "runbook", "docs/runbooks/certificates.md")
	return now
}
