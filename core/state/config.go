package state

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Config is a configuration in force.
type Config struct {
	NetworkID digest.Digest           // statement digest of the genesis configuration
	Digest    digest.Digest           // statement digest of this one: what measurements and headers name
	Message   *recordv1.NetworkConfig // as signed
	Previous  *recordv1.NetworkConfig // the one before; nil for the genesis configuration
	Height    uint64                  // of the block that brought it
	Index     uint64                  // of its leaf
	sequence  uint64
}

// loadConfig decodes the configuration in force; nil before genesis. Nobody
// changes what it gives.
func (r *reader) loadConfig() (*Config, error) {
	value, err := message[statev1.Config](r, KeyConfig)
	if err != nil || value == nil {
		return nil, err
	}
	network, err := r.raw(KeyNetwork)
	if err != nil {
		return nil, err
	}
	// Each configuration names its predecessor, so its digest and place say all of it.
	place := value.GetLast()
	key := fmt.Sprintf("configuration/%d/%d", place.GetSequence(), place.GetIndex())
	return once(r.memory, key, place.GetDigest(), func() (*Config, error) { return decodeConfig(value, network) })
}

func decodeConfig(value *statev1.Config, network []byte) (*Config, error) {
	var err error
	c := &Config{Height: value.GetHeight(), Index: value.GetLast().GetIndex(), sequence: value.GetLast().GetSequence()}
	if c.NetworkID, err = digest.FromBytes(network); err != nil {
		return nil, corrupt("network id: %w", err)
	}
	if c.Digest, err = digest.FromBytes(value.GetLast().GetDigest()); err != nil {
		return nil, corrupt("configuration: %w", err)
	}
	c.Message = new(recordv1.NetworkConfig)
	if err := wire.Decode(value.GetPayload(), c.Message); err != nil {
		return nil, corrupt("configuration: %w", err)
	}
	if previous := value.GetPreviousPayload(); len(previous) > 0 {
		c.Previous = new(recordv1.NetworkConfig)
		if err := wire.Decode(previous, c.Previous); err != nil {
			return nil, corrupt("configuration before: %w", err)
		}
	}
	return c, nil
}

// Origin is the origin of the network's log (C2SP tlog-checkpoint).
func (c *Config) Origin() string {
	origin, err := tlog.Origin(c.Message.GetName(), c.NetworkID)
	if err != nil {
		return "" // the transition accepts no configuration of such a name
	}
	return origin
}

// Organisation finds an organisation; nil when it is not of the network.
func (c *Config) Organisation(id string) *recordv1.Organisation {
	for _, o := range c.Message.GetOrganisations() {
		if o.GetId() == id {
			return o
		}
	}
	return nil
}

// NotifiedBody finds a notified body; nil when it is not of the network.
func (c *Config) NotifiedBody(id string) *recordv1.NotifiedBody {
	for _, n := range c.Message.GetNotifiedBodies() {
		if n.GetId() == id {
			return n
		}
	}
	return nil
}

// Replica finds a replica by its node id; nil when it is not of the quorum.
func (c *Config) Replica(nodeID string) *recordv1.Replica { return replicaOf(c.Message, nodeID) }

func replicaOf(m *recordv1.NetworkConfig, nodeID string) *recordv1.Replica {
	for _, r := range m.GetReplicas() {
		if r.GetNodeId() == nodeID {
			return r
		}
	}
	return nil
}

func rootKeys(m *recordv1.NetworkConfig) []signature.Key {
	keys := make([]signature.Key, 0, len(m.GetOrganisations()))
	for _, o := range m.GetOrganisations() {
		keys = append(keys, storedKey(o.GetRootKey()))
	}
	return keys
}

// storedKey reads a key that was checked when it was accepted; the zero key,
// which verifies nothing, stands for one that cannot be read.
func storedKey(tagged []byte) signature.Key {
	key, err := signature.ParseKey(tagged)
	if err != nil {
		return signature.Key{}
	}
	return key
}

// NetworkID is the identity of the network that a genesis configuration
// founds: its statement digest, so it is known before the ledger exists.
func NetworkID(genesisConfig []byte) digest.Digest {
	return record.StatementDigest(record.TypeNetworkConfig, genesisConfig)
}
