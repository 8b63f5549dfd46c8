package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// roleProgram is the binary of a role's service.
type roleProgram struct {
	role recordv1.Role
	name string
}

// programs are the binaries of the services, by role, in the order of starting.
var programs = []roleProgram{
	{recordv1.Role_ROLE_REPLICA, "lacre-ledger"},
	{recordv1.Role_ROLE_ENDORSER, "lacre-compute"},
	{recordv1.Role_ROLE_APPROVAL, "lacre-approval"},
	{recordv1.Role_ROLE_GATEWAY, "lacre-ingest"},
}

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 30 * time.Second

// process is one node.
type process struct {
	node    devnet.Node
	program string
	command *exec.Cmd
	log     string        // file of its standard error
	done    chan struct{} // closed when it ended
	err     error         // of Wait; after done
	asked   atomic.Bool   // this run ended it, on purpose
}

// fleet is the processes of a network, in the order of starting.
type fleet struct {
	network   *devnet.Network
	processes []*process
	starts    chan func() // to the thread that starts processes; nil before the first
}

// onThread runs f on the one thread that starts processes and lives until all of
// them have ended: what dieWithParent ties them to is a thread, and the runtime
// may end any other one.
func (f *fleet) onThread(run func()) {
	if f.starts == nil {
		starts := make(chan func())
		f.starts = starts
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this function
			for start := range starts {
				start()
			}
		}()
	}
	done := make(chan struct{})
	f.starts <- func() {
		defer close(done)
		run()
	}
	<-done
}

// findProgram looks beside this executable, then on the PATH.
func findProgram(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the program %s is neither beside this executable nor on the PATH: run \"make build\"", name)
	}
	return path, nil
}

// startFleet starts every node of the network. The caller stops the fleet, also
// after an error.
func startFleet(network *devnet.Network) (*fleet, error) {
	f := &fleet{network: network}
	if err := os.MkdirAll(filepath.Join(network.Dir, "logs"), 0o700); err != nil {
		return f, err
	}
	for _, p := range programs {
		for _, node := range network.ByRole(p.role) {
			if err := f.start(node); err != nil {
				return f, fmt.Errorf("node %s: %w", node.ID, err)
			}
		}
	}
	return f, nil
}

// start starts the process of a node, which does not run.
func (f *fleet) start(node devnet.Node) error {
	at := slices.IndexFunc(programs, func(p roleProgram) bool { return p.role == node.Role })
	program, err := findProgram(programs[at].name)
	if err != nil {
		return err
	}
	return f.spawn(program, node, filepath.Join(f.network.Dir, "logs", node.ID+".log"))
}

func (f *fleet) spawn(program string, node devnet.Node, log string) error {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // the process has its own descriptor.
	p := &process{node: node, program: filepath.Base(program), log: log, done: make(chan struct{})}
	// Not CommandContext: processes are stopped in order, by stop.
	p.command = exec.Command(program, "-config", filepath.Join(f.network.NodeDir(node.ID), "config.yaml")) //nolint:gosec,noctx // our own program, and see above.
	p.command.Stderr = file
	p.command.SysProcAttr = dieWithParent()
	f.onThread(func() { err = p.command.Start() })
	if err != nil {
		return err
	}
	f.processes = append(f.processes, p)
	go func() {
		p.err = p.command.Wait()
		close(p.done)
	}()
	return nil
}

func (p *process) pid() int { return p.command.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// live is the processes that run.
func (f *fleet) live() []*process {
	var list []*process
	for _, p := range f.processes {
		if !p.ended() {
			list = append(list, p)
		}
	}
	return list
}

// watch cancels with the reason when a process ends that nobody killed.
func (f *fleet) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for _, p := range f.processes {
		go func() {
			select {
			case <-ctx.Done():
			case <-p.done:
				if !p.asked.Load() {
					cancel(p.failure())
				}
			}
		}()
	}
}

// failure says how a process ended, with the end of its log.
func (p *process) failure() error {
	const lines = 5
	tail := "its log is empty"
	if text, err := os.ReadFile(p.log); err == nil && len(text) > 0 {
		all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		tail = strings.Join(all[max(0, len(all)-lines):], "\n")
	}
	return fmt.Errorf("node %s (%s) ended: %w\n%s", p.node.ID, p.program, errors.Join(p.err, errors.New("nobody asked it to")), tail)
}

// kill ends a node as a power cut would end its process.
func (f *fleet) kill(id string) error {
	for _, p := range f.live() {
		if p.node.ID == id {
			p.asked.Store(true)
			return p.command.Process.Kill()
		}
	}
	return fmt.Errorf("no process of node %q", id)
}

// killed kills a node and waits for its end.
func (f *fleet) killed(id string) error {
	running := f.live()
	if err := f.kill(id); err != nil {
		return err
	}
	for _, p := range running {
		if p.node.ID == id {
			<-p.done
		}
	}
	return nil
}

// stop ends all processes, those started last first, and waits for them.
func (f *fleet) stop() error {
	var failures []error
	for _, role := range slices.Backward(programs) {
		failures = append(failures, f.end(role.role))
	}
	if f.starts != nil {
		close(f.starts)
		f.starts = nil
	}
	return errors.Join(failures...)
}

// end ends the processes of a role, and waits for them. They end together: the
// last replica alone has no quorum to leave.
func (f *fleet) end(role recordv1.Role) error {
	var stopping []*process
	for _, p := range f.live() {
		if p.node.Role == role {
			p.asked.Store(true)
			_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended this moment
			stopping = append(stopping, p)
		}
	}
	var failures []error
	for _, p := range stopping {
		failures = append(failures, p.await())
	}
	return errors.Join(failures...)
}

// await waits for a process that was told to stop, and kills it after the grace.
func (p *process) await() error {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.command.Process.Kill() // it may have ended this moment
	<-p.done
	return fmt.Errorf("node %s did not end within %s of SIGTERM and was killed", p.node.ID, stopGrace)
}
