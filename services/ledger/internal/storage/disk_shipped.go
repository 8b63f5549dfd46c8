//go:build !robustness

package storage

// systemDisk is the operating system's.
func systemDisk() disk { return osDisk{} }
