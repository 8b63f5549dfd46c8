package meter

import (
	"golang.org/x/sys/unix"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// HostClock says what the kernel knows of the host's clock (adjtimex(2)):
// synchronised as long as a time daemon disciplines it and the error that the
// kernel estimates stays within its bound, otherwise not. The kernel knows no
// meter's specified bound, so it never says holdover.
func HostClock() recordv1.ClockSync {
	state, err := unix.Adjtimex(&unix.Timex{}) // no mode: it only reads
	if err != nil || state == unix.TIME_ERROR {
		return recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED
	}
	return recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED
}
