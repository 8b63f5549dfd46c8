package rpcerror

import (
	"errors"
	"maps"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
)

// FuzzFromStatus: whatever status a server answers with, a client makes one
// refusal of it, and passing it on changes nothing of what it says.
func FuzzFromStatus(f *testing.F) {
	for _, err := range []error{
		reason.New(reason.BadSignature, "have %s, want %s", "a", "b"),
		With(reason.New(reason.NotReady, "soon"), RetryAfter(time.Second), Leader("replica-01"), Fact("k", "v")),
		errors.New("inner"),
	} {
		b, err := proto.Marshal(status.Convert(ToStatus(err)).Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{8, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		answer := new(spb.Status)
		if proto.Unmarshal(b, answer) != nil {
			return
		}
		received := FromStatus(status.ErrorProto(answer))
		if received == nil {
			if answer.GetCode() != 0 {
				t.Fatalf("%v is no error", answer)
			}
			return
		}
		var first, again *Error
		if !errors.As(received, &first) {
			t.Fatalf("%v is read as %T", answer, received)
		}
		_, _, _ = received.Error(), LeaderHint(received), IsPermanent(received)
		if first.Reason == "" {
			return
		}
		if !errors.As(FromStatus(ToStatus(received)), &again) {
			t.Fatalf("%v is lost on the way", first)
		}
		metadata := maps.Clone(first.Metadata)
		if again.Reason != first.Reason || again.Code != first.Code || again.Detail != first.Detail || !maps.Equal(again.Metadata, metadata) ||
			first.RetryAfter > 0 && again.RetryAfter != first.RetryAfter {
			t.Fatalf("%#v is passed on as %#v", first, again)
		}
		if reason.Of(received) != first.Reason {
			t.Fatalf("reason %s is seen as %s", first.Reason, reason.Of(received))
		}
	})
}
