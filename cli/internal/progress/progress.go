// Package progress shows how far a long task is: a bar on a terminal, and plain
// lines, one for each tenth, where output goes to a file or a pipe.
//
// Invariants:
//   - Nothing is printed twice for one state, and never a control character
//     where there is no terminal.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// throttle bounds how often a bar is drawn.
const throttle = 100 * time.Millisecond

// Progress is one task's. It is safe for concurrent use.
type Progress struct {
	out   io.Writer
	label string

	mu    sync.Mutex
	bar   *progressbar.ProgressBar // nil without a terminal or before the total is known; guarded by mu
	tenth int                      // the last one printed; guarded by mu
	ended bool                     // guarded by mu
}

// New makes a task's progress; nothing is printed before the first Set.
func New(out io.Writer, label string) *Progress {
	return &Progress{out: out, label: label, tenth: -1}
}

// Set says that done of total steps are behind. The last step ends the line.
func (p *Progress) Set(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || total <= 0 {
		return
	}
	p.ended = done >= total
	if !terminal(p.out) {
		p.line(done, total)
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(p.label),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionFullWidth(),
			progressbar.OptionThrottle(throttle))
	}
	p.bar.ChangeMax(total)
	p.bar.Set(done) //nolint:errcheck // a bar that cannot be drawn must not stop the task.
	if p.ended {
		fmt.Fprintln(p.out) //nolint:errcheck // as above.
	}
}

// line prints a state when it is the first of its tenth.
func (p *Progress) line(done, total int) {
	if tenth := done * 10 / total; tenth > p.tenth {
		p.tenth = tenth
		fmt.Fprintf(p.out, "%s: %d of %d\n", p.label, done, total) //nolint:errcheck // as in Set.
	}
}

// Stop ends the line of a task that will not reach its total.
func (p *Progress) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended && p.bar != nil {
		fmt.Fprintln(p.out) //nolint:errcheck // as in Set.
	}
	p.ended = true
}

func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
