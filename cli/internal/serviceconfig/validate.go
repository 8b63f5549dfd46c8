package serviceconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Problem is one thing that is wrong.
type Problem struct {
	Line int    `json:"line,omitempty"` // of the configuration file, from 1; 0 for what has none
	Text string `json:"text"`
}

// Validate decodes a service's configuration and, if it can be decoded, looks at
// every file that it names. All problems are returned at once, those of the
// configuration in the order of its lines. withFiles false judges the text
// alone.
func Validate(service string, text []byte, withFiles bool) ([]Problem, error) {
	into := empty(service)
	if into == nil {
		return nil, &UnknownError{service}
	}
	var problems []Problem
	if err := config.Decode(text, into); err != nil {
		problems = split(err)
	}
	if withFiles {
		for _, err := range files(into) {
			problems = append(problems, Problem{Text: err.Error()})
		}
	}
	return problems, nil
}

var lineOf = regexp.MustCompile(`^line (\d+): `)

// split makes a problem of every line of a joined error.
func split(err error) []Problem {
	var problems []Problem
	for _, text := range strings.Split(err.Error(), "\n") {
		p := Problem{Text: text}
		if m := lineOf.FindStringSubmatch(text); m != nil {
			p.Line, _ = strconv.Atoi(m[1]) // digits alone, the expression sees to that
			p.Text = strings.TrimPrefix(text, m[0])
		}
		problems = append(problems, p)
	}
	return problems
}

// named is a file that a configuration names; what an empty value means, the
// service's own rules say.
type named struct{ key, path string }

// files reports what is wrong with the files that a configuration names.
func files(c any) []error {
	var failures []error
	add := func(key string, err error) {
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", key, err))
		}
	}
	keys := func(list ...named) {
		for _, n := range list {
			if n.path != "" {
				_, err := identity.ReadKey(n.path)
				add(n.key, err)
			}
		}
	}
	certificate := func(keyPath, path string) {
		if _, err := identity.LoadCertified(keyPath, path); path != "" && err != nil {
			if _, keyErr := identity.ReadKey(keyPath); keyErr == nil { // otherwise tls_key says it
				add("tls_certificate", err)
			}
		}
	}
	switch c := c.(type) {
	case *ledger.Config:
		list := []named{{"tls_key", c.TLSKey}, {"signing_key", c.SigningKey}, {"cosigner_key", c.CosignerKey}, {"log_key", c.LogKey}}
		keys(list...)
		add("signing_key, cosigner_key, log_key, tls_key", shared(list))
		certificate(c.TLSKey, c.TLSCertificate)
		add("genesis", genesis(c.Genesis))
		add("data_dir", initialised(c.DataDir))
		add("tracing", c.Tracing.CheckFiles())
	case *compute.Config:
		keys(named{"tls_key", c.TLSKey}, named{"signing_key", c.SigningKey})
		certificate(c.TLSKey, c.TLSCertificate)
		add("modules", directory(c.Modules))
		add("tracing", c.Tracing.CheckFiles())
	case *ingest.Config:
		keys(named{"tls_key", c.TLSKey}, named{"signing_key", c.SigningKey})
		certificate(c.TLSKey, c.TLSCertificate)
		add("tracing", c.Tracing.CheckFiles())
	case *approval.Config:
		keys(named{"tls_key", c.TLSKey})
		certificate(c.TLSKey, c.TLSCertificate)
	}
	return failures
}

// shared says whether one key stands for two uses.
func shared(list []named) error {
	var seen []string
	for _, n := range list {
		key, err := identity.ReadKey(n.path)
		if err != nil {
			continue // said already
		}
		if slices.Contains(seen, string(key)) {
			return fmt.Errorf("%s holds a key that has another use too", n.path)
		}
		seen = append(seen, string(key))
	}
	return nil
}

func genesis(path string) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const maxBytes = 16 << 20 // what a replica reads
	if err := record.Decode(text, maxBytes, new(recordv1.Genesis)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// initialised wants a replica's ledger to have begun.
func initialised(dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
		return fmt.Errorf("the replica is not initialised (\"lacre init DIR --network NETDIR\" does it): %w", err)
	}
	return nil
}

// directory wants a directory, or nothing where the service will make one.
func directory(path string) error {
	info, err := os.Stat(path)
	switch {
	case path == "" || errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	}
	return nil
}
