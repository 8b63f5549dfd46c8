package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// HistoryFile lies beside the trust bundle: the configurations that prove it.
const HistoryFile = "configurations"

// Fetch asks a replica for all configurations. Nothing in them is verified.
func Fetch(ctx context.Context, client ledgerv1.LedgerServiceClient) (*recordv1.ConfigurationHistory, error) {
	all := &recordv1.ConfigurationHistory{}
	for next := uint64(1); next > 0; {
		response, err := client.ListConfigurations(ctx, &ledgerv1.ListConfigurationsRequest{FromSequence: next})
		if err != nil {
			return nil, err
		}
		part, err := governance.Parse(response.GetHistory())
		if err != nil {
			return nil, err
		}
		all.Configurations = append(all.Configurations, part.GetConfigurations()...)
		following := response.GetNextSequence()
		if following != 0 && following <= next || len(all.Configurations) > trust.MaxEpochs {
			return nil, fmt.Errorf("the replica goes on at configuration %d after %d, of %d so far", following, next, len(all.Configurations))
		}
		next = following
	}
	return all, nil
}

// ReadHistory reads a file of configurations.
func ReadHistory(path string) (*recordv1.ConfigurationHistory, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h, err := governance.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s is no history of configurations: %w", path, err)
	}
	return h, nil
}

// Kept is what a network's directory says of the configuration in force, verified
// by the trust bundle in it; nil when it holds no history.
func Kept(dir string) (*governance.History, error) {
	h, err := ReadHistory(filepath.Join(dir, HistoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, founding.TrustFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pinned, err := trust.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	verified, err := governance.Verify(h, pinned)
	if err != nil {
		return nil, fmt.Errorf("%s, by %s: %w", filepath.Join(dir, HistoryFile), path, err)
	}
	return verified, nil
}

// Keep writes a verified history and the bundle that it extends, the history
// first: a bundle without its history is still good, the reverse says nothing new.
func Keep(trustPath string, h *recordv1.ConfigurationHistory, verified *governance.History) error {
	b, err := governance.Encode(h)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(filepath.Dir(trustPath), HistoryFile), b, 0o644); err != nil {
		return err
	}
	return durable.WriteFile(trustPath, verified.Trust.Bytes(), 0o644)
}
