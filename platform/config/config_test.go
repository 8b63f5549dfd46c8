package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/platform/config"
)

type limits struct {
	Queue int `yaml:"queue" doc:"longest queue"`
}

func (l limits) Validate() error {
	if l.Queue < 0 {
		return fmt.Errorf("queue: %d, must not be negative", l.Queue)
	}
	return nil
}

type service struct {
	Listen  string            `yaml:"listen" doc:"host:port to listen on"`
	Timeout time.Duration     `yaml:"timeout"`
	Limits  limits            `yaml:"limits" doc:"bounds on what is accepted"`
	Peers   []limits          `yaml:"peers"`
	ByName  map[string]limits `yaml:"by_name"`
}

func (s *service) Validate() error {
	var failures []error
	if s.Listen == "" {
		failures = append(failures, errors.New("listen: missing"))
	}
	if s.Timeout < 0 {
		failures = append(failures, fmt.Errorf("timeout: %s, must not be negative", s.Timeout))
	}
	return errors.Join(failures...)
}

func TestDecodeKeepsDefaultsAndReadsUnits(t *testing.T) {
	got := service{Listen: "127.0.0.1:0", Limits: limits{Queue: 7}}
	if err := config.Decode([]byte("timeout: 1m30s\n"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Listen != "127.0.0.1:0" || got.Limits.Queue != 7 || got.Timeout != 90*time.Second {
		t.Fatalf("got %+v", got)
	}
	if err := config.Decode(nil, &got); err != nil {
		t.Fatalf("empty file: %v", err)
	}
}

func TestDecodeReportsAllErrorsAtOnce(t *testing.T) {
	cases := map[string]struct {
		text string
		want []string // each must be in the error, on a line of its own
	}{
		"types and unknown keys": {"listen: a:1\ntimeuot: 1s\nlimits: {queue: many}\n", []string{"line 2: field timeuot not found", "line 3: cannot unmarshal"}},
		"types and rules": {"lsten: a:1\ntimeout: -1s\nlimits:\n  queue: many\npeers:\n  - {queue: 1}\n  - queue: -2\n",
			[]string{"listen: missing", "line 1: field lsten not found", "line 2: timeout: -1s", "line 4: cannot unmarshal", "line 7: peers[1]: queue: -2"}},
		"rules everywhere": {"timeout: -1s\nlimits: {queue: -1}\npeers: [{queue: 1}, {queue: -2}]\nby_name: {b: {queue: -3}}\n",
			[]string{"listen: missing", "line 1: timeout: -1s", "line 2: limits: queue: -1", "line 3: peers[1]: queue: -2", "line 4: by_name.b: queue: -3"}},
		"key twice":       {"listen: a:1\nlisten: b:2\n", []string{"already defined"}},
		"second document": {"listen: a:1\n---\nlisten: b:2\n", []string{"second YAML document"}},
		"not YAML":        {"listen: [", []string{"line 1"}},
		"not a mapping":   {"- 1\n", []string{"cannot unmarshal"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := config.Decode([]byte(c.text), &service{})
			if err == nil {
				t.Fatal("accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) < len(c.want) {
				t.Errorf("%d lines for %d errors", len(lines), len(c.want))
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.yaml")
	if err := os.WriteFile(path, []byte("lsten: a:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.Load(path, &service{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want an error that names %s", err, path)
	}
	if err := config.Load(path+".absent", &service{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, want os.ErrNotExist", err)
	}
}

func TestExampleIsCommentedAndAccepted(t *testing.T) {
	want := service{Listen: "127.0.0.1:7000", Timeout: time.Second, Limits: limits{Queue: 3}, Peers: []limits{{1}}, ByName: map[string]limits{"x": {2}}}
	text, err := config.Example(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# host:port to listen on\nlisten: 127.0.0.1:7000\n", "# bounds on what is accepted\nlimits:\n", "  # longest queue\n  queue: 3\n", "timeout: 1s\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("example lacks %q:\n%s", line, text)
		}
	}
	var got service
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("example is not accepted: %v\n%s", err, text)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("example gives %+v, want %+v", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("listen: a:1\nlimits: {queue: 2}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("--- {}\n--- {}\n"))
	f.Add([]byte("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"))
	f.Add([]byte("peers: [{queue: 1}, {<<: {queue: 3}}]\nby_name: {x: {queue: 2}}\ntimeout: 1h\nlisten: a:1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got service
		if config.Decode(text, &got) != nil {
			return
		}
		if err := got.Validate(); err != nil {
			t.Fatalf("accepted what Validate refuses: %+v: %v", got, err)
		}
		written, err := config.Example(got)
		if err != nil {
			t.Fatal(err)
		}
		var again service
		if err := config.Decode(written, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Fatalf("%+v is written as %s and read as %+v: %v", got, written, again, err)
		}
	})
}
