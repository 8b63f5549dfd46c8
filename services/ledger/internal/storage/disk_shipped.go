//go:build !robustness

package storage

// systemDisk is the operating system's.
func systemDisk() disk { return osDisk{} }

// defaultSegmentBytes is Options.SegmentBytes if that is 0.
const defaultSegmentBytes = 64 << 20
