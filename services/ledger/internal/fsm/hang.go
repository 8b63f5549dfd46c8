package fsm

import (
	"fmt"
	"time"
)

// commitDeadline bounds one commit. The ordering log has a deadline of its own; a
// leader whose ledger hangs on another disk would lead on, and answer nobody.
const commitDeadline = 10 * time.Second

// watched does f, and calls hang once when that takes longer than commitDeadline.
func watched(hang func(error), f func() error) error {
	if hang == nil {
		return f()
	}
	timer := time.AfterFunc(commitDeadline, func() {
		hang(fmt.Errorf("a commit of the ledger takes longer than %v (rule R3): the disk hangs", commitDeadline))
	})
	defer timer.Stop()
	return f()
}
