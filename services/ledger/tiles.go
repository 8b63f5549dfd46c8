package ledger

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/services/ledger/internal/tiles"
)

// Tiles says where the certified log is served over HTTP (C2SP tlog-tiles).
type Tiles struct {
	Listen      string `yaml:"listen" doc:"host:port of the public HTTP side; empty serves no tiles"`
	Certificate string `yaml:"certificate" doc:"file of a PEM certificate chain for HTTPS; empty means plain HTTP: what is served authenticates itself"`
	Key         string `yaml:"key" doc:"file of the PEM key of that certificate; both are read again when they change"`
}

// Validate reports every wrong field.
func (c *Tiles) Validate() error {
	var failures []error
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			failures = append(failures, fmt.Errorf("tiles.listen: %w", err))
		}
	}
	if (c.Certificate == "") != (c.Key == "") {
		failures = append(failures, fmt.Errorf("tiles.certificate is %q and tiles.key is %q: give both or neither", c.Certificate, c.Key))
	}
	return errors.Join(failures...)
}

// openTiles binds the public HTTP side, if there is to be one.
func (s *Service) openTiles() error {
	c := s.config.Tiles
	if c.Listen == "" {
		return nil
	}
	config := s.tilesConfig()
	if c.Certificate != "" {
		files := &certificateFiles{certificate: c.Certificate, key: c.Key, log: s.log}
		if _, err := files.get(nil); err != nil {
			return fmt.Errorf("tiles: %w", err)
		}
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}
	}
	var err error
	s.tiles, err = tiles.Listen(c.Listen, config)
	return err
}

func (s *Service) tilesConfig() tiles.Config {
	return tiles.Config{Store: s.store, Newest: s.api.NewestCertificate, Guard: s.api.Guard, Log: s.log}
}

// TilesAddr is where the public HTTP side listens; nil without one.
func (s *Service) TilesAddr() net.Addr {
	if s.tiles == nil {
		return nil
	}
	return s.tiles.Addr()
}

// certificateFiles is a certificate that is read again when its file changed,
// so that a renewal needs no restart. It is safe for concurrent use.
type certificateFiles struct {
	certificate, key string
	log              *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time // of the file that was loaded
}

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.certificate)
	if err == nil && f.loaded != nil && info.ModTime().Equal(f.at) {
		return f.loaded, nil
	}
	if err == nil {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(f.certificate, f.key); err == nil {
			f.loaded, f.at = &fresh, info.ModTime()
			return f.loaded, nil
		}
	}
	if f.loaded == nil {
		return nil, err
	}
	f.log.Warn("the certificate of the tiles cannot be read again; the old one stays", "file", f.certificate, "error", err)
	return f.loaded, nil
}
