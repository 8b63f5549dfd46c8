// Package loopback chooses addresses for nodes that run side by side on one
// machine and must be found where they were after a restart.
//
// A port that the system chooses for port 0 lies among those that it also gives to
// outgoing connections: while the node that had it is down, any process can be
// given it, and the node cannot start again. The ports chosen here lie below.
package loopback

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// first is above the ports that services are commonly given, Lacre's own included
// (`lacre ports`).
const first = 10240

// held keeps other processes that choose with this package away from the ports that
// this one chose, until it ends. Guarded by mu.
var (
	mu   sync.Mutex
	held = map[int]io.Closer{}
)

// Addresses returns n addresses of 127.0.0.1 at which nobody listens, and which no
// outgoing connection and no other call of this function is given while the process
// lives. It fails if there are not so many.
func Addresses(n int) ([]string, error) {
	mu.Lock()
	defer mu.Unlock()
	count := ephemeral() - first
	if count <= 0 {
		return nil, fmt.Errorf("no port between %d and the first of outgoing connections, %d", first, first+count)
	}
	list := make([]string, 0, n)
	start := rand.IntN(count) //nolint:gosec // no secret: only so that processes seldom try the same ports.
	for i := 0; i < count && len(list) < n; i++ {
		port := first + (start+i)%count
		if _, ours := held[port]; ours {
			continue
		}
		reservation, ok := claim(port)
		if !ok {
			continue
		}
		held[port] = reservation
		list = append(list, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	if len(list) < n {
		return nil, fmt.Errorf("%d free ports of 127.0.0.1 found from %d on, want %d", len(list), first, n)
	}
	return list, nil
}

// claim reserves a port that nobody listens at. The reservation is a Unix socket
// without a file, so it ends with the process however that ends. Only Linux has
// such sockets: elsewhere two processes can choose the same port.
func claim(port int) (io.Closer, bool) {
	var reserved io.Closer = io.NopCloser(nil)
	if runtime.GOOS == "linux" {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@lacre-loopback-%d", port), Net: "unix"})
		if err != nil {
			return nil, false
		}
		reserved = l
	}
	probe, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err == nil {
		err = probe.Close()
	}
	if err != nil {
		_ = reserved.Close() // a socket without a file: nothing is left behind
		return nil, false
	}
	return reserved, true
}

// ephemeral is the first port that the system gives to outgoing connections.
func ephemeral() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if low, _, found := strings.Cut(strings.TrimSpace(string(text)), "\t"); found {
			if port, err := strconv.Atoi(low); err == nil {
				return port
			}
		}
	}
	return 32768 // Linux's own default
}
