package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// head follows the newest certified block for all clients: a road has one meter
// for each lane, which asks every few seconds; hundreds of them asking one
// gateway would be a load that no road has.
type head struct {
	verifier   *meter.Verifier
	connection *grpc.ClientConn
	known      atomic.Pointer[meter.KnownBlock]
}

// headInterval is how often the gateway is asked.
const headInterval = time.Second

func newHead(network *devnet.Network, verifier *meter.Verifier) (*head, error) {
	connection, err := network.Dial(devnet.Gateway, nil)
	return &head{verifier: verifier, connection: connection}, err
}

// newest is the block that headers name.
func (h *head) newest() meter.KnownBlock { return *h.known.Load() }

// ask learns the newest block.
func (h *head) ask(ctx context.Context) error {
	response, err := ingestv1.NewIngestServiceClient(h.connection).GetHead(ctx, &ingestv1.GetHeadRequest{})
	if err != nil {
		return err
	}
	block, err := h.verifier.Head(response.GetProof())
	if err != nil {
		return err
	}
	// The ledger refuses a sample from before the block that it names (rule S2).
	if old := h.known.Load(); old == nil || block.Height > old.Height && !block.CertifiedAt.After(time.Now()) {
		h.known.Store(&block)
	}
	return nil
}

// await asks until the gateway knows a height.
func (h *head) await(ctx context.Context, height uint64) error {
	for {
		err := h.ask(ctx)
		if err == nil && h.newest().Height >= height {
			return nil
		}
		if waited := pause(ctx, 20*time.Millisecond); waited != nil {
			return errors.Join(waited, err)
		}
	}
}

// follow asks until ctx ends. A gateway that is down for a moment is no failure.
func (h *head) follow(ctx context.Context, say func(string, ...any)) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := h.ask(call); err != nil && ctx.Err() == nil {
			say("the newest block is not known: %v", err)
		}
		cancel()
		_ = pause(ctx, headInterval) // the loop sees that ctx ended
	}
}

func (h *head) close() error {
	if err := h.connection.Close(); err != nil {
		return fmt.Errorf("connection to the gateway: %w", err)
	}
	return nil
}
