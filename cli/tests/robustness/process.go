package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
)

// stopGrace is how long a process may take to stop.
const stopGrace = 20 * time.Second

// restartDelay is what service managers wait before they start a service again.
const restartDelay = time.Second

// process is a node's. It is safe for concurrent use.
type process struct {
	node    devnet.Node
	network *network

	mu      sync.Mutex
	env     []string      // of the next start, beside the suite's own
	command *exec.Cmd     // nil before the first start
	done    chan struct{} // closed when it has ended
	asked   bool          // somebody ended it, or told it to end itself
	frail   bool          // its disk fails or failed: until it is killed it may end with code 1 (it failed) or 3 (the disk hangs)
	failed  int           // how often it did
	struck  bool          // since its start it was told to kill itself at a step: a signal is no surprise, whenever it comes there
	held    bool          // nobody is to start it again: it ended with DATA_LOSS
	unsound bool          // its stored bytes were altered, or a liar gave it other entries: it is to refuse with DATA_LOSS
	absent  bool          // it has not joined the network yet
	lost    bool          // its machine is gone: nobody starts it again but startAgain
	leaving bool          // it is to be removed: it may end with exit code 6, and nobody is to start it again
	retired int           // how often it ended so
	exits   []exit        // of which nobody knew
}

// exit is an end that nobody asked for.
type exit struct {
	Node string    `json:"node"`
	Code int       `json:"code"` // -1 for a signal
	At   time.Time `json:"at"`
	Log  string    `json:"log"` // the end of it
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive()
}

// alive is running under mu.
func (p *process) alive() bool {
	if p.command == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held || p.absent || p.lost || p.retired > 0 {
		return nil
	}
	return p.launch()
}

// startAgain starts a process that has retired, to see it end again.
func (p *process) startAgain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.launch()
}

// begin starts a process that was absent.
func (p *process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.absent = false
	return p.launch()
}

// doom starts a process that was absent, to end at a step.
func (p *process) doom(fault string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env = []string{fault}
	err := p.launch()
	p.env, p.struck = nil, true
	return err
}

// renew forgets what came of the process in the last seed.
func (p *process) renew(absent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.unsound, p.absent, p.lost, p.leaving, p.retired = false, false, absent, false, false, 0
}

// leave says that the process is to be removed from the network.
func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
}

// lose says that the process will not come back before the network goes on
// without it.
func (p *process) lose() {
	p.kill()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost, p.leaving = true, true
}

func (p *process) retirements() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

// mislead says that the process is to refuse with DATA_LOSS once it notices.
func (p *process) mislead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsound = true
}

func (p *process) isUnsound() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unsound
}

func (p *process) isLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// gone tells whether the process is not, or will not be, of the network.
func (p *process) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held || p.absent || p.leaving
}

// here tells whether the process was ever of the network in this seed.
func (p *process) here() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.absent
}

// launch starts the process under mu, unless it runs.
func (p *process) launch() error {
	if p.alive() {
		return nil
	}
	path := p.network.logPath(p.node.ID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own descriptor.
	command := p.network.program(p.node)
	command.Stderr, command.Env = log, append(append(os.Environ(), "LACRE_FAULT_SOCKET="+p.socket()), p.env...)
	command.SysProcAttr = dieWithParent()
	if err := p.network.starter.run(command.Start); err != nil {
		return fmt.Errorf("start %s: %w", p.node.ID, err)
	}
	done := make(chan struct{})
	p.command, p.done, p.asked, p.struck = command, done, false, false
	go p.wait(command, done, path)
	go p.awaitReach(done)
	return nil
}

// wait notes how the process ended.
func (p *process) wait(command *exec.Cmd, done chan struct{}, log string) {
	err := command.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network.outages.begin(p, p.node.ID)
	code := ended(err)
	switch {
	case code == exitLoss:
		p.held = true // never blindly: docs/operating.md
		p.exits = append(p.exits, exit{Node: p.node.ID, Code: code, At: time.Now(), Log: tail(log, 12)})
	case code == exitRetired && p.leaving:
		p.retired++
	case p.asked || p.struck && code < 0:
	case p.frail && (code == exitFailed || code == exitHung):
		p.failed++
		time.AfterFunc(restartDelay, func() { _ = p.start() }) // as a service manager would; whoever needs it sees that it does not run
	default:
		p.exits = append(p.exits, exit{Node: p.node.ID, Code: code, At: time.Now(), Log: tail(log, 12)})
	}
	close(done)
}

// The exit codes of the services (docs/operating.md) that the suite knows.
const (
	exitFailed  = 1
	exitHung    = 3
	exitLoss    = 4
	exitRetired = 6
)

// ended is the exit code that a wait reports; -1 for a signal.
func ended(err error) int {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return e.ExitCode()
	}
	return 0
}

// socket is where a replica takes commands (services/ledger/internal/fault).
func (p *process) socket() string { return filepath.Join(p.network.live(), p.node.ID+".sock") }

// tell gives the process a command. One that has ended or is still starting takes
// none, which is no error; one that does not understand is.
func (p *process) tell(command string) error {
	connection, err := net.DialTimeout("unix", p.socket(), time.Second) //nolint:noctx // bounded by its time-out.
	if err != nil {
		return nil // it does not run
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	answer := ""
	if _, err = fmt.Fprintln(connection, command); err == nil {
		answer, err = bufio.NewReader(connection).ReadString('\n')
	}
	if err == nil && answer != "ok\n" {
		return fmt.Errorf("%s answers %q to the command %q", p.node.ID, answer, command)
	}
	return nil // it was struck, or is paused
}

// ask is tell for a command that is answered with a number.
func (p *process) ask(command string) (int, error) {
	connection, err := net.DialTimeout("unix", p.socket(), time.Second) //nolint:noctx // bounded by its time-out.
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	n := 0
	if _, err = fmt.Fprintln(connection, command); err == nil {
		_, err = fmt.Fscan(connection, &n)
	}
	return n, err
}

// expect says whether an end is somebody's doing from now on.
func (p *process) expect(asked, frail bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.frail, p.struck = asked, frail, p.struck || asked
}

// kill ends the process as a power cut would end it.
func (p *process) kill() {
	p.mu.Lock()
	if !p.alive() {
		p.mu.Unlock()
		return
	}
	p.asked, p.frail = true, false
	done, command := p.done, p.command
	p.mu.Unlock()
	_ = command.Process.Kill() // it may have ended this moment
	<-done
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive() {
		_ = p.command.Process.Signal(s) // it may have ended this moment
	}
}

func (p *process) terminate() {
	p.mu.Lock()
	p.asked = true
	p.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
}

// await waits for a process that was told to stop; one that does not is killed,
// and that is an error.
func (p *process) await() error {
	p.mu.Lock()
	if p.command == nil {
		p.mu.Unlock()
		return nil
	}
	done := p.done
	p.mu.Unlock()
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.node.ID, stopGrace)
	}
}

// unexpected are the ends so far that nobody asked for, and forgets them.
func (p *process) unexpected() []exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	exits := p.exits
	p.exits = nil
	return exits
}

// tail is the last lines of a file.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(bytes.TrimRight(b, "\n")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// starter starts processes from one thread that lives until all have ended: what
// dieWithParent ties them to is a thread, and the runtime may end any other.
type starter struct {
	once  sync.Once
	calls chan func()
}

func (s *starter) run(f func() error) (err error) {
	s.once.Do(func() {
		s.calls = make(chan func())
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this function
			for call := range s.calls {
				call()
			}
		}()
	})
	done := make(chan struct{})
	s.calls <- func() { defer close(done); err = f() }
	<-done
	return err
}

func (s *starter) close() {
	if s.calls != nil {
		close(s.calls)
	}
}
