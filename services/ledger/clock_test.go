package ledger

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// The clock is judged by the others' stamps in a certificate that has just come.
func TestClockWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stamped := func(stamps ...uint64) []byte {
			checkpoint := tlog.Checkpoint{Origin: "test/0", Size: 1, Root: digest.Plain([]byte("root"))}
			log, err := tlog.SignLog(statetest.Key("log"), checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			c := tlog.Certificate{Checkpoint: checkpoint, Log: log}
			for i, name := range []string{"test/0/a", "test/0/b", "test/0/c"} {
				signed, err := tlog.Cosign(statetest.Key(name), name, checkpoint, stamps[i])
				if err != nil {
					t.Fatal(err)
				}
				c.Cosignatures = append(c.Cosignatures, signed)
			}
			return c.Text()
		}
		w := clockWatch{own: "test/0/a"}
		for i, c := range []struct {
			text         []byte
			now          int64
			within, news bool
		}{
			{nil, 5000, true, false},                         // nothing is certified yet
			{stamped(1000, 1000, 1000), 1005, true, false},   // five seconds ahead
			{stamped(1000, 1001, 1001), 1100, false, true},   // ahead
			{stamped(1100, 1002, 1002), 1101, false, false},  // still
			{stamped(1003, 1003, 1003), 1003, true, true},    // back
			{stamped(900, 1004, 1004), 900, false, true},     // behind
			{stamped(1005, 1005, 1005), 1005, true, true},    // back
			{stamped(1006, 1006, 99_000), 1006, true, false}, // one of the others is wrong
		} {
			if within, news := w.observe(c.text, time.Unix(c.now, 0)); within != c.within || news != c.news {
				t.Errorf("step %d: within %v, news %v, want %v, %v; offset %v", i, within, news, c.within, c.news, time.Duration(w.offset.Load()))
			}
		}
		<-time.After(freshFor + time.Second) // cut off: the stamps are old, the clock need not be wrong
		if within, news := w.observe([]byte(w.text), time.Unix(9000, 0)); !within || news {
			t.Errorf("an old certificate: within %v, news %v", within, news)
		}
	})
}
