package doctor

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/serviceconfig"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// node is one node whose configuration file is at hand, whatever its service.
type node struct {
	ID, Path, Service string
	Role              recordv1.Role
	keyFiles          []keyFile
	certificate       string // file; "" for none
	genesis, dataDir  string // of a replica
	modules           string // of an endorser
	evidence          string // where a gateway keeps it; "" for nowhere
	server            rpcserver.Config
	admin             admin.Config
	ledger            follower.Config // of all but replicas
	peers             []ledger.Peer   // of a replica
	keys              map[string]ed25519.PrivateKey
	networkID         string // as its files say; "" if they do not
}

// keyFile is a key that a configuration names.
type keyFile struct{ use, path string }

// The uses of keys, as the configuration calls them.
const (
	tlsKey      = "tls_key"
	signingKey  = "signing_key"
	cosignerKey = "cosigner_key"
	logKey      = "log_key"
)

// book is who and where everybody is, as far as the files say.
type book struct {
	networkID string // "" if nothing says
	trustFile string // "" without a network directory
	nodes     []founding.Node
}

// load reads the address book and all configurations; what is wrong in them is
// an item, and only the absence of all is an error.
func (x *examination) load() error {
	files := slices.Clone(x.Configs)
	if x.Dir != "" {
		b, err := founding.ReadBook(x.Dir)
		if err != nil {
			return fmt.Errorf("network directory: %w", err)
		}
		x.book = book{networkID: b.NetworkID, trustFile: filepath.Join(x.Dir, founding.TrustFile), nodes: b.Nodes}
		found, err := filepath.Glob(founding.ConfigPath(x.Dir, "*"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	if len(files) == 0 && len(x.book.nodes) == 0 {
		return errors.New("nothing to look at: no network directory, no configuration file")
	}
	for _, file := range files {
		x.loadNode(file)
	}
	return nil
}

// loadNode reads one configuration file.
func (x *examination) loadNode(path string) {
	const remedy = "mend the file; `lacre config example SERVICE` shows every key"
	text, err := os.ReadFile(path)
	if err != nil {
		x.add(path, "config", Fail, remedy, "%v", err)
		return
	}
	service, err := serviceconfig.Detect(text)
	if err != nil {
		x.add(path, "config", Fail, remedy, "%v", err)
		return
	}
	n := &node{Path: path, Service: service, keys: make(map[string]ed25519.PrivateKey)}
	err = n.decode(text)
	if n.ID == "" {
		n.ID = path
	}
	x.judge(n.ID, "config", err, remedy, "%s is a sound configuration of %s", path, service)
	x.nodes = append(x.nodes, n)
}

// decode keeps what could be read, whatever is wrong with the rest.
func (n *node) decode(text []byte) error {
	switch n.Service {
	case "ledger":
		var c ledger.Config
		err := config.Decode(text, &c)
		n.ID, n.Role, n.server, n.admin, n.certificate = c.NodeID, recordv1.Role_ROLE_REPLICA, c.Server, c.Admin, c.TLSCertificate
		n.keyFiles = []keyFile{{tlsKey, c.TLSKey}, {signingKey, c.SigningKey}, {cosignerKey, c.CosignerKey}, {logKey, c.LogKey}}
		n.genesis, n.dataDir, n.peers = c.Genesis, c.DataDir, c.Peers
		return err
	case "compute":
		var c compute.Config
		err := config.Decode(text, &c)
		n.ID, n.Role, n.server, n.admin, n.certificate = c.NodeID, recordv1.Role_ROLE_ENDORSER, c.Server, c.Admin, c.TLSCertificate
		n.keyFiles, n.modules, n.ledger = []keyFile{{tlsKey, c.TLSKey}, {signingKey, c.SigningKey}}, c.Modules, c.Ledger
		return err
	case "ingest":
		var c ingest.Config
		err := config.Decode(text, &c)
		n.ID, n.Role, n.server, n.admin, n.certificate = c.NodeID, recordv1.Role_ROLE_GATEWAY, c.Server, c.Admin, c.TLSCertificate
		n.keyFiles, n.ledger, n.evidence = []keyFile{{tlsKey, c.TLSKey}, {signingKey, c.SigningKey}}, c.Ledger, c.Evidence.Store
		return err
	default:
		var c approval.Config
		err := config.Decode(text, &c)
		n.ID, n.Role, n.server, n.admin, n.certificate = c.NodeID, recordv1.Role_ROLE_APPROVAL, c.Server, c.Admin, c.TLSCertificate
		n.keyFiles, n.ledger = []keyFile{{tlsKey, c.TLSKey}}, c.Ledger
		return err
	}
}

// spki is the node's own TLS key, as a registration names it; "" if the key
// cannot be read.
func (n *node) spki() string {
	key, ok := n.keys[tlsKey]
	if !ok {
		return ""
	}
	own, err := identity.NewNode(key)
	if err != nil {
		return ""
	}
	spki := own.SPKI()
	return hex.EncodeToString(spki[:])
}
