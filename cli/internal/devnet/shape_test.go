package devnet

import (
	"fmt"
	"os"
	"testing"
	"time"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// TestShapes founds networks of other shapes: each has the nodes that it was asked
// for, every one with a configuration, and one gateway and approval service.
func TestShapes(t *testing.T) {
	for _, s := range []Shape{{1, 1}, {1, 3}, {3, 2}, {4, 3}, {7, 3}} {
		t.Run(fmt.Sprintf("%d replicas, %d endorsers", s.Replicas, s.Endorsers), func(t *testing.T) {
			n, err := Create(t.TempDir(), s, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for role, want := range map[recordv1.Role]int{
				recordv1.Role_ROLE_REPLICA: s.Replicas, recordv1.Role_ROLE_ENDORSER: s.Endorsers,
				recordv1.Role_ROLE_GATEWAY: 1, recordv1.Role_ROLE_APPROVAL: 1,
			} {
				if got := len(n.ByRole(role)); got != want {
					t.Errorf("%d nodes of role %v, want %d", got, role, want)
				}
			}
			for _, node := range n.Nodes {
				if _, err := os.Stat(n.NodeDir(node.ID)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, s := range []Shape{{}, {Replicas: 8, Endorsers: 1}, {Replicas: 4, Endorsers: 4}, {Replicas: -1, Endorsers: 1}} {
		if _, err := Create(t.TempDir(), s, time.Now()); err == nil {
			t.Errorf("a network of %+v was founded", s)
		}
	}
	if err := DefaultShape().Check(); err != nil {
		t.Error(err)
	}
}
