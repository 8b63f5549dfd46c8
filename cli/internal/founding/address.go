package founding

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// checkAddress wants host:port that others can dial, in one form: a name of
// lower-case letters, digits, '-', '_' and '.', or an IP address as RFC 5952
// writes it; the port without leading zeros. So two addresses that differ as text
// differ, and none draws on the screen of whoever signs.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		text, _ := strings.CutPrefix(err.Error(), "address "+address+": ") // it repeats the address as it is
		return fmt.Errorf("address %.120q: %s", address, text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("address %.120q: want HOST:PORT with a host and a port from 1 to 65535", address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		if one := ip.Unmap().String(); one != host {
			return fmt.Errorf("address %.120q: write %q for %q", address, one, host)
		}
		return nil
	}
	if !isHostName(host) {
		return fmt.Errorf("address %.120q: %.120q is no host: want an IP address without zone, or labels of a-z, 0-9, '-' and '_' with dots between them", address, host)
	}
	return nil
}

// isHostName follows RFC 1123 section 2.1, with the underscore that some name
// servers use, in lower case; a last label of digits alone would be taken for a
// part of an IPv4 address.
func isHostName(host string) bool {
	labels := strings.Split(host, ".")
	digits := true
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		digits = true
		for i := range len(label) {
			c := label[i]
			digit := c >= '0' && c <= '9'
			if !digit && (c < 'a' || c > 'z') && c != '-' && c != '_' {
				return false
			}
			digits = digits && digit
		}
	}
	return len(host) <= 253 && !digits
}

// hostsOf are the hosts of a node's addresses, each once.
func hostsOf(n PlannedNode) []string {
	var hosts []string
	for _, a := range []string{n.Address, n.RaftAddress} {
		if host, _, err := net.SplitHostPort(a); err == nil && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
