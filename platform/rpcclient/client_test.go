package rpcclient_test

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
)

// probe is a name service that keeps what it is told and finds nothing.
type probe struct{ options chan resolver.BuildOptions }

func (p *probe) Scheme() string { return "probe" }
func (p *probe) Build(_ resolver.Target, _ resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	p.options <- o
	return p, nil
}
func (p *probe) ResolveNow(resolver.ResolveNowOptions) {}
func (p *probe) Close()                                {}

// A name server is asked for addresses alone: neither does its silence about anything else delay a connection, nor does
// what it says of retries and deadlines count.
func TestNameServersSayAddressesOnly(t *testing.T) {
	p := &probe{options: make(chan resolver.BuildOptions, 1)}
	resolver.Register(p)
	connection, err := rpcclient.Dial("probe:///replica.example:7401", rpcclient.Options{
		Server: identity.Pin(identity.SPKI{}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	connection.Connect()
	if o := <-p.options; !o.DisableServiceConfig {
		t.Error("the name service may give a service configuration")
	}
}
