//go:build !linux

package daemon

// scheduleInBatches: only Linux has the policy.
func scheduleInBatches() {}
