package ledger

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// follow: what compute, ingest and approval do with the stream.
func (r *reader) follow(t *testing.T) {
	spki := digest.Digest(r.identity(four[0]).SPKI())
	f, err := follower.New(follower.Config{NetworkID: r.mirror.ID.String(), Replicas: []follower.Endpoint{{
		Address: r.nodes[four[0]].config.Server.Listen, SPKI: spki.String(),
	}}}, r.gateway, logger())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	head := r.mirror.Store.Head()
	snapshot, err := f.Wait(r.context(), head.Height)
	if err != nil || snapshot.Head() != head {
		t.Errorf("the follower is at %+v (%v), the ledger at %+v", snapshot, err, head)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
