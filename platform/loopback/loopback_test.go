package loopback

import (
	"net"
	"strconv"
	"testing"
)

// A node that was down finds its port free again, whatever connections were made
// meanwhile, and no two calls give the same address.
func TestAddressesAreNotThoseOfOutgoingConnections(t *testing.T) {
	seen := map[string]bool{}
	for range 10 {
		list, err := Addresses(5)
		if err != nil || len(list) != 5 {
			t.Fatalf("%v, %v", list, err)
		}
		for _, address := range list {
			if seen[address] {
				t.Errorf("%s given twice", address)
			}
			seen[address] = true
			host, text, err := net.SplitHostPort(address)
			port, bad := strconv.Atoi(text)
			if err != nil || bad != nil || host != "127.0.0.1" || port < first || port >= ephemeral() {
				t.Errorf("%s is not of 127.0.0.1 between %d and %d", address, first, ephemeral())
			}
			l, err := net.Listen("tcp", address) //nolint:noctx // binding a local address does not block.
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// What one process chose, another does not choose: its claim of the same port fails.
func TestAClaimedPortIsNotGivenToAnother(t *testing.T) {
	list, err := Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(list[0])
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if second, ok := claim(port); ok {
		t.Errorf("port %d claimed twice", port)
		second.Close()
	}
	// Nor is one at which somebody listens who knows nothing of this package.
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local address does not block.
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if used, ok := claim(l.Addr().(*net.TCPAddr).Port); ok {
		t.Error("a port in use was claimed")
		used.Close()
	}
}
