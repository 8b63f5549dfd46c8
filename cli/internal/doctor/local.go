package doctor

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger"
)

const (
	warnFreeBytes = 2 << 30 // a replica at full speed writes some MB each second
	warnExpiry    = 30 * 24 * time.Hour
	dataDirRemedy = "`lacre init DIR --network NETDIR` sets up a node; the data directory must belong to the user that runs the service"
	genesisRemedy = "take the genesis file from the network's directory and compare the network id with one that you got in another way"
	keyRemedy     = "chmod 600 the file and let its service's user own it; a key that is lost is replaced by a registration that the organisation's root key signs"
	networkRemedy = "all nodes of one network name one network id, the digest that `lacre network verify` prints"
)

// local checks what lies on this machine, without asking anybody.
func (x *examination) local(n *node) {
	for _, f := range n.keyFiles {
		if f.path == "" {
			continue // the configuration's own rules say it
		}
		key, err := identity.ReadKey(f.path)
		if x.judge(n.ID, f.use, err, keyRemedy, "%s is a private key that others cannot read", f.path) {
			n.keys[f.use] = key
		}
	}
	x.localCertificate(n)
	if n.genesis != "" {
		id, err := ledger.NetworkOf(n.genesis)
		if x.judge(n.ID, "genesis", err, genesisRemedy, "%s begins network %s", n.genesis, id) {
			n.networkID = id.String()
		}
	} else {
		n.networkID = n.ledger.NetworkID
	}
	x.sameNetwork(n)
	if n.dataDir != "" {
		x.localData(n)
	}
	x.localEvidence(n)
}

// sameNetwork compares the network that a node's files name with the address
// book's; without a book the first node's is taken.
func (x *examination) sameNetwork(n *node) {
	switch {
	case n.networkID == "":
	case x.book.networkID == "":
		x.book.networkID = n.networkID
	case n.networkID != x.book.networkID:
		x.add(n.ID, "network_id", Fail, networkRemedy, "the node's files name network %s, the others %s", n.networkID, x.book.networkID)
	default:
		x.add(n.ID, "network_id", OK, "", "%s", n.networkID)
	}
}

// localData looks at a replica's directory.
func (x *examination) localData(n *node) {
	store := filepath.Join(n.dataDir, "store")
	if _, err := os.Stat(store); err != nil {
		x.add(n.ID, "data_dir", Fail, dataDirRemedy, "no ledger was begun here: %v", err)
		return
	}
	if err := unix.Access(store, unix.W_OK|unix.X_OK); err != nil {
		x.add(n.ID, "data_dir", Fail, dataDirRemedy, "%s is not writable: %v", store, err)
		return
	}
	x.add(n.ID, "data_dir", OK, "", "%s is there and writable", n.dataDir)
	x.localDisk(n)
	x.localLock(n, store)
}

func (x *examination) localDisk(n *node) {
	free, total, err := durable.Space(n.dataDir)
	if err != nil {
		x.add(n.ID, "disk", Skipped, "", "%v", err)
		return
	}
	level := OK
	if free < warnFreeBytes || free < total/20 {
		level = Warn
	}
	x.add(n.ID, "disk", level, "give the ledger more room: a replica whose disk is full serves nothing and cosigns nothing", "%.1f GB of %.1f GB are free at %s", float64(free)/1e9, float64(total)/1e9, n.dataDir)
}

// localLock tells who holds the store. Nobody holds it while the replica is down.
// A shared lock is tried, for an instant, and nothing is written.
func (x *examination) localLock(n *node, store string) {
	path := filepath.Join(store, durable.LockName)
	file, err := os.Open(path)
	if err != nil {
		x.add(n.ID, "lock", Skipped, "", "%v", err)
		return
	}
	defer file.Close() //nolint:errcheck // opened for reading; closing drops the lock.
	switch err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		holder, _ := os.ReadFile(path) // the name is an extra
		x.add(n.ID, "lock", OK, "", "%s is held by %s", store, strings.TrimSpace(string(holder)))
	case err != nil:
		x.add(n.ID, "lock", Skipped, "", "%s: %v", path, err)
	default:
		x.add(n.ID, "lock", Warn, "start the service: lacre-ledger -config "+n.Path, "nobody holds %s: the replica does not run", store)
	}
}

// localCertificate looks at the certificate for other people's TLS tools.
func (x *examination) localCertificate(n *node) {
	if n.certificate == "" {
		return
	}
	var path string
	for _, f := range n.keyFiles {
		if f.use == tlsKey {
			path = f.path
		}
	}
	if n.keys[tlsKey] == nil {
		return // said already
	}
	certified, err := identity.LoadCertified(path, n.certificate)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(certified.Certificate())
	}
	if err != nil {
		x.add(n.ID, "certificate", Fail, "give the PEM chain of the node's own TLS key, or leave tls_certificate empty", "%v", err)
		return
	}
	level := OK
	switch left := leaf.NotAfter.Sub(x.Now()); {
	case left <= 0:
		level = Fail
	case left < warnExpiry:
		level = Warn
	}
	x.add(n.ID, "certificate", level, "renew it at your organisation's CA: nothing in Lacre depends on its expiry (rule N1), other people's TLS tools do",
		"%s is valid until %s", n.certificate, leaf.NotAfter.UTC().Format(time.RFC3339))
}
