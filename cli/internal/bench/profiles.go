package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/google/pprof/profile"
	"go.yaml.in/yaml/v3"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
)

// profiles takes a CPU profile of every process while the window lasts: of
// itself, and of the nodes through their admin ports.
type profiles struct {
	run     *run
	seconds int
	taking  sync.WaitGroup
	own     bytes.Buffer

	mu     sync.Mutex                 // guards the rest
	stages map[string]map[Stage]int64 // nanoseconds by stage, of a node or generatorName
	faults []error
}

// maxProfile is the longest profile that an admin port gives.
const maxProfile = 2 * time.Minute

// startProfiles begins all of them.
func startProfiles(ctx context.Context, r *run) *profiles {
	p := &profiles{run: r, stages: make(map[string]map[Stage]int64), seconds: int(min(r.Duration, maxProfile).Seconds())}
	if p.seconds == 0 {
		p.fault(errors.New("the window is too short for CPU profiles, which last whole seconds"))
		return p
	}
	for _, process := range r.fleet.live() {
		address, err := adminAddress(r.network, process.node.ID)
		if err != nil || address == "" {
			p.fault(errors.Join(err, fmt.Errorf("node %s has no admin port, so no CPU profile", process.node.ID)))
			continue
		}
		p.taking.Go(func() {
			raw, err := fetchProfile(ctx, address, p.seconds)
			// A profile that covers a part of the window stands for all of it.
			p.keep(process.node.ID, raw, err, r.Duration.Seconds()/float64(p.seconds))
		})
	}
	if err := pprof.StartCPUProfile(&p.own); err != nil {
		p.fault(err)
	}
	return p
}

// end ends the own profile, with the window.
func (p *profiles) end() {
	if p.seconds > 0 {
		pprof.StopCPUProfile()
	}
}

// finish waits for the others and attributes all.
func (p *profiles) finish() (map[string]map[Stage]int64, error) {
	if p.seconds > 0 {
		p.keep(generatorName, p.own.Bytes(), nil, 1)
	}
	p.taking.Wait()
	return p.stages, errors.Join(p.faults...)
}

func (p *profiles) fault(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, err)
}

// keep attributes a profile, times a factor, and writes it where the user wants it.
func (p *profiles) keep(name string, raw []byte, err error, factor float64) {
	var parsed *profile.Profile
	if err == nil && p.run.ProfileDir != "" {
		err = os.WriteFile(filepath.Join(p.run.ProfileDir, name+".pprof"), raw, 0o600)
	}
	if err == nil {
		parsed, err = profile.ParseData(raw)
	}
	if err != nil {
		p.fault(fmt.Errorf("CPU profile of %s: %w", name, err))
		return
	}
	stages := attribute(parsed)
	for stage, nanos := range stages {
		stages[stage] = int64(float64(nanos) * factor)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stages[name] = stages
}

func fetchProfile(ctx context.Context, address string, seconds int) ([]byte, error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", address, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return body, err
}

// adminAddress is where a node's configuration puts its admin port; "" for none.
func adminAddress(n *devnet.Network, node string) (string, error) {
	text, err := os.ReadFile(filepath.Join(n.NodeDir(node), "config.yaml"))
	if err != nil {
		return "", err
	}
	var c struct {
		Admin struct {
			Listen string `yaml:"listen"`
		} `yaml:"admin"`
	}
	err = yaml.Unmarshal(text, &c)
	return c.Admin.Listen, err
}
