package bench

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, stat   string
		user, system time.Duration
		fails        bool
	}{
		{name: "ordinary", stat: "12 (lacre-ledger) S 1 12 12 0 -1 4194560 1 0 0 0 250 31 7 9 20 0", user: 2500 * time.Millisecond, system: 310 * time.Millisecond},
		{name: "name with parentheses and spaces", stat: "12 (a) 99 (b 1) R 1 12 12 0 -1 4194560 1 0 0 0 1 2 7 9 20 0", user: 10 * time.Millisecond, system: 20 * time.Millisecond},
		{name: "no name", stat: "12 lacre S 1", fails: true},
		{name: "cut", stat: "12 (lacre) S 1 12 12", fails: true},
		{name: "no number", stat: "12 (lacre) S 1 12 12 0 -1 4194560 1 0 0 0 x 31 7 9 20 0", fails: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			user, system, err := parseStat([]byte(test.stat))
			if (err != nil) != test.fails || user != test.user || system != test.system {
				t.Errorf("user %v, system %v, error %v; want %v, %v, failure %v", user, system, err, test.user, test.system, test.fails)
			}
		})
	}
}

func TestParseNetDev(t *testing.T) {
	text := []byte("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes\n" +
		"    lo: 123456789    1000    0    0    0     0          0         0 123456789    1000\n" +
		"  eth0:       5       1    0    0    0     0          0         0 7 1\n")
	if n, err := parseNetDev(text, "lo"); err != nil || n != 123456789 {
		t.Errorf("lo carried %d, %v, want 123456789", n, err)
	}
	if n, err := parseNetDev(text, "wlan0"); err == nil {
		t.Errorf("a device that is not there carried %d", n)
	}
}

func TestField(t *testing.T) {
	text := []byte("VmPeak:\t  900 kB\nVmHWM:\t  512 kB\n")
	if n, err := field(text, "VmHWM:"); err != nil || n != 512 {
		t.Errorf("VmHWM is %d, %v, want 512", n, err)
	}
	for _, absent := range []string{"VmRSS:", "write_bytes:"} {
		if n, err := field(text, absent); err == nil {
			t.Errorf("%s is %d, want an error", absent, n)
		}
	}
}

func TestParseWritten(t *testing.T) {
	for _, test := range []struct {
		io    string
		want  uint64
		fails bool
	}{
		{io: "rchar: 9\nwchar: 500\nread_bytes: 0\nwrite_bytes: 4096\n", want: 500},
		{io: "rchar: 9\nwchar: 9000\nread_bytes: 0\nwrite_bytes: 4096\n", want: 4096},
		{io: "wchar: 9000\n", fails: true},
		{io: "write_bytes: 4096\n", fails: true},
	} {
		if got, err := parseWritten([]byte(test.io)); (err != nil) != test.fails || got != test.want {
			t.Errorf("%q: %d, %v, want %d", test.io, got, err, test.want)
		}
	}
}

// TestReadUsageOfThisProcess reads the real files, whatever they hold.
func TestReadUsageOfThisProcess(t *testing.T) {
	u, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.peakBytes == 0 {
		t.Error("this process has used no memory")
	}
	if _, err := readUsage(-1); err == nil {
		t.Error("a process that cannot be has usage")
	}
}
