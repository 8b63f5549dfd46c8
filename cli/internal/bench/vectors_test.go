package bench

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// TestVectorsAreDistinctAndOfTheShapeAskedFor decodes what was prepared.
func TestVectorsAreDistinctAndOfTheShapeAskedFor(t *testing.T) {
	for _, encoding := range []string{"rice", "int16"} {
		o := Defaults()
		o.Profiles, o.Encoding, o.Duration, o.Warmup = 2, encoding, 10_000_000, 0
		p, err := newPool(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]recordv1.Encoding{"rice": recordv1.Encoding_ENCODING_RICE, "int16": recordv1.Encoding_ENCODING_INT16}[encoding]
		seen := make(map[string]bool)
		for range p.vectors {
			raw := p.take()
			if seen[string(raw)] {
				t.Errorf("%s: a vector came twice", encoding)
			}
			seen[string(raw)] = true
			if _, err := vector.Decode(want, uint32(o.Channels), uint32(o.Samples), raw); err != nil {
				t.Errorf("%s: %v", encoding, err)
			}
		}
		if len(seen) != 20 {
			t.Errorf("%s: %d vectors, want 20 for 10 ms", encoding, len(seen))
		}
		if !seen[string(p.take())] {
			t.Errorf("%s: after the last vector comes a new one", encoding)
		}
	}
}

func TestOptionsNameEveryFault(t *testing.T) {
	if err := Defaults().Check(); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*Options){
		"clients":      func(o *Options) { o.Clients = 0 },
		"rate":         func(o *Options) { o.Rate = -1 },
		"duration":     func(o *Options) { o.Duration = 0 },
		"meters":       func(o *Options) { o.Meters = "rsa" },
		"call":         func(o *Options) { o.Call = "carrier pigeon" },
		"channels":     func(o *Options) { o.Channels = 1 },
		"samples":      func(o *Options) { o.Samples = 1 },
		"endorsements": func(o *Options) { o.Endorsements = 4 },
		"encoding":     func(o *Options) { o.Encoding = "mp3" },
		"kill":         func(o *Options) { o.KillLeaderAfter = o.Duration },
	} {
		o := Defaults()
		alter(&o)
		if o.Check() == nil {
			t.Errorf("%s: a bad setting passes", name)
		}
	}
}
