package doctor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/follower"
)

const (
	warnLagBlocks  = 16 // the usual bound on uncertified blocks: what is further behind follows late
	warnClock      = 5 * time.Second
	failClock      = time.Minute
	maxAnswerBytes = 64 << 10
)

// standing compares how far the replicas are, and their clocks with this one.
func (x *examination) standing(replicas []*contact, snapshot *follower.Snapshot) {
	var highest uint64
	leaders := make(map[string][]string)
	for _, c := range replicas {
		if c.status != nil {
			highest = max(highest, c.status.GetCertifiedHeight())
			leaders[c.status.GetLeader()] = append(leaders[c.status.GetLeader()], c.ID)
		}
	}
	near := 0
	for _, c := range replicas {
		if c.status == nil {
			continue
		}
		lag := highest - c.status.GetCertifiedHeight()
		level := OK
		if lag > warnLagBlocks {
			level = Warn
		} else {
			near++
		}
		x.add(c.ID, "height", level, "look at its log (\"fetched blocks\" tells how far it is) and its disk; it catches up by itself once it reaches its peers", "applied %d, certified %d, %d blocks behind the highest", c.status.GetAppliedHeight(), c.status.GetCertifiedHeight(), lag)
		x.clock(c)
	}
	if x.answered == 0 {
		return
	}
	if snapshot != nil {
		x.quorum(near, snapshot)
	}
	if ids, none := leaders[""]; none {
		x.add(networkNode, "leader", Warn, "an election takes a second or two; if it lasts, see which replicas reach each other's raft_listen", "%s know no leader", strings.Join(ids, ", "))
	} else if len(leaders) > 1 {
		x.add(networkNode, "leader", Warn, "an election may be under way; ask again", "the replicas name %d leaders", len(leaders))
	} else {
		x.add(networkNode, "leader", OK, "", "all name one leader")
	}
}

// quorum counts who can cosign. A certificate shows exactly a quorum, so that
// its lines do not tell who was missing; not being reached, or lagging, does.
func (x *examination) quorum(near int, snapshot *follower.Snapshot) {
	config := snapshot.Config().Message
	n, q := len(config.GetReplicas()), int(config.GetQuorum())
	level, remedy := OK, "start the others: `lacre doctor` names them"
	switch {
	case near < q:
		level = Fail
	case near < n:
		level = Warn
	}
	x.add(networkNode, "cosigners", level, remedy, "%d of %d replicas answer and follow; %d must cosign", near, n, q)
}

// clock compares the cosigners' time stamps, which running replicas refresh each
// second, with this machine's clock.
func (x *examination) clock(c *contact) {
	const remedy = "check the time service on that replica and here; block time is the median of the cosigners' clocks (rule C4)"
	if c.certificate == nil {
		return
	}
	now := x.Now()
	level, worst, name := OK, time.Duration(0), ""
	for _, s := range c.certificate.Cosignatures {
		off := now.Sub(time.Unix(int64(min(s.TimestampUnix, 1<<40)), 0)).Round(time.Second)
		if off.Abs() >= worst.Abs() {
			worst, name = off, s.Name
		}
	}
	switch {
	case worst.Abs() > failClock:
		level = Fail
	case worst.Abs() > warnClock:
		level = Warn
	}
	x.add(c.ID, "clock", level, remedy, "in the certificate that %s shows, the stamp furthest from this clock is %s's: %s", c.ID, name, difference(worst))
}

func difference(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%s ahead", -d)
	}
	return fmt.Sprintf("%s behind", d)
}

// registration compares a node's keys with what the ledger registers.
func (x *examination) registration(n *node, snapshot *follower.Snapshot) {
	const remedy = "the organisation registers the node's keys in a statement that its root key signs, or the node gets the keys that are registered"
	entry, err := state.GetNode(snapshot, n.ID)
	switch {
	case err != nil:
		x.add(n.ID, "registration", Fail, remedy, "%v", err)
		return
	case entry == nil:
		x.add(n.ID, "registration", Fail, remedy, "the certified ledger registers no node %q", n.ID)
		return
	case entry.GetRevoked():
		x.add(n.ID, "registration", Fail, "a revoked id never returns: register the node under another one", "the registration of %q is revoked", n.ID)
		return
	case entry.GetRole() != int32(n.Role):
		x.add(n.ID, "registration", Fail, remedy, "the ledger registers %q as %v, the configuration is of %v", n.ID, recordv1.Role(entry.GetRole()), n.Role)
		return
	}
	wrong := false
	compare := func(use, have, want string) {
		if have != "" && have != want {
			wrong = true
			x.add(n.ID, "registration", Fail, remedy, "%s is %s, the ledger registers %s", use, have, want)
		}
	}
	compare(tlsKey, n.spki(), hex.EncodeToString(entry.GetTlsSpki()))
	compare(signingKey, n.tagged(signingKey, signature.Ed25519ZIP215), hex.EncodeToString(entry.GetKey()))
	if replica := snapshot.Config().Replica(n.ID); n.Role == recordv1.Role_ROLE_REPLICA && replica == nil {
		wrong = true
		x.outside(n, snapshot, entry.GetRegistrationIndex())
	} else if n.Role == recordv1.Role_ROLE_REPLICA {
		compare(cosignerKey, n.tagged(cosignerKey, signature.Ed25519), hex.EncodeToString(replica.GetCosignerKey()))
		compare(logKey, n.tagged(logKey, signature.Ed25519), hex.EncodeToString(replica.GetLogKey()))
	}
	if !wrong {
		x.add(n.ID, "registration", OK, "", "its keys are those that the ledger registers for it")
	}
}

// outside is said of a registered replica that the configuration does not name:
// it joins, or it was removed.
func (x *examination) outside(n *node, snapshot *follower.Snapshot, registered uint64) {
	config := snapshot.Config()
	if before := (state.Config{Message: config.Previous}); config.Previous != nil && before.Replica(n.ID) != nil {
		x.add(n.ID, "registration", Fail, "a removed replica stops by itself, with exit code 6; do not start it again", "configuration %d removed replica %q", config.Message.GetHeader().GetSequence(), n.ID)
		return
	}
	remedy := "once it is as far as the others, the configuration takes it in by a statement that a majority of the organisations signs; see docs/runbooks/replicas.md"
	if since, ok, err := snapshot.Block(config.Height); err == nil && ok && registered < since.Size {
		remedy = "the others give a replica its place only if it was registered since the configuration in force: register it again; see docs/runbooks/replicas.md"
	}
	x.add(n.ID, "joining", Warn, remedy, "replica %q is registered by record %d and of no configuration yet; it follows without a vote", n.ID, registered)
}

// tagged is the public half of a node's key as statements carry it; "" if the
// key could not be read.
func (n *node) tagged(use string, kind signature.Kind) string {
	key, ok := n.keys[use]
	if !ok {
		return ""
	}
	tagged, err := signature.KeyOf(kind, key.Public())
	if err != nil {
		return ""
	}
	return hex.EncodeToString(tagged.Bytes())
}

// algorithms wants an approved module, and an endorser that holds it.
func (x *examination) algorithms(ctx context.Context, contacts []*contact, snapshot *follower.Snapshot) {
	held, asked := make(map[string]int), 0
	for _, c := range contacts {
		if c.Role != recordv1.Role_ROLE_ENDORSER || c.connection == nil || c.door.dial != nil {
			continue // the port's check says why
		}
		asking, cancel := context.WithTimeout(ctx, x.Timeout)
		response, err := computev1.NewComputeServiceClient(c.connection).ListAlgorithms(asking, &computev1.ListAlgorithmsRequest{})
		cancel()
		if err != nil {
			continue
		}
		asked++
		for _, a := range response.GetAlgorithms() {
			held[hex.EncodeToString(a.GetAlgorithm())]++
		}
	}
	approved := 0
	var failed error
	snapshot.Keys(state.PrefixAlgorithm, func(key string) {
		id, err := digest.Parse(strings.TrimPrefix(key, state.PrefixAlgorithm))
		if err != nil {
			failed = err
			return
		}
		entry, err := state.GetAlgorithm(snapshot, id)
		if err != nil || entry.GetWithdrawn() {
			return
		}
		approved++
		switch {
		case asked == 0:
			x.add(networkNode, "modules", Skipped, "", "no endorser was asked for algorithm %s", id.Short())
		case held[id.String()] == 0:
			x.add(networkNode, "modules", Warn, "lacre module install FILE.wasm, at each endorser", "none of %d endorsers holds approved algorithm %s", asked, id.Short())
		default:
			x.add(networkNode, "modules", OK, "", "%d of %d endorsers hold algorithm %s", held[id.String()], asked, id.Short())
		}
	})
	switch {
	case failed != nil:
		x.add(networkNode, "algorithms", Fail, "run `lacre audit`", "%v", failed)
	case approved == 0:
		x.add(networkNode, "algorithms", Warn, "lacre approval draft, sign and submit; see docs/tutorials/first-measurement.md", "no algorithm is approved: nothing can be measured")
	default:
		x.add(networkNode, "algorithms", OK, "", "%d approved", approved)
	}
}

// operators asks the admin ports on this machine.
func (x *examination) operators(ctx context.Context) {
	versions := make(map[string][]string)
	for _, n := range x.nodes {
		if n.admin.Listen == "" {
			continue
		}
		var v admin.Version
		if err := x.get(ctx, n.admin.Listen, "/version", &v); err != nil {
			x.add(n.ID, "admin", Skipped, "", "%v", err)
			continue
		}
		if v.Node != n.ID {
			x.add(n.ID, "admin", Fail, "give every node its own admin.listen", "at %s answers node %q", n.admin.Listen, v.Node)
			continue
		}
		versions[v.Version] = append(versions[v.Version], n.ID)
		var ready struct {
			Ready    bool            `json:"ready"`
			Services map[string]bool `json:"services"`
		}
		if err := x.get(ctx, n.admin.Listen, "/readyz", &ready); err != nil {
			x.add(n.ID, "ready", Fail, "see the node's log", "%v", err)
			continue
		}
		x.readiness(n.ID, ready.Ready, ready.Services)
	}
	switch {
	case len(versions) == 1:
		for v, ids := range versions {
			x.add(networkNode, "versions", OK, "", "%d nodes run %s", len(ids), v)
		}
	case len(versions) > 1:
		x.add(networkNode, "versions", Warn, "finish the update: replicas of different builds must not meet a new format", "%v", versions)
	}
}

// readiness tells what a node waits for. A replica whose disk takes no writes
// serves nothing else than that word.
func (x *examination) readiness(id string, ready bool, services map[string]bool) {
	var waits []string
	for name, serving := range services {
		if !serving && name != "" { // "" is the process as a whole
			waits = append(waits, name)
		}
	}
	slices.Sort(waits)
	switch {
	case ready:
		x.add(id, "ready", OK, "", "it serves")
	case slices.Contains(waits, "disk"):
		x.add(id, "ready", Fail, "make room, or mount its file system for writing; it then goes on by itself: docs/operating.md",
			"its disk takes no writes: it serves nothing and waits")
	default:
		x.add(id, "ready", Warn, "a node is ready when it follows the certified ledger; its log says what it waits for", "not ready: %s", strings.Join(waits, ", "))
	}
}

// get reads JSON from an admin port, whatever the status.
func (x *examination) get(ctx context.Context, address, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+dialable(address)+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(into)
}
