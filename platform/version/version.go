// Package version says which build of Lacre a binary is.
package version

import "runtime/debug"

// version is set by the linker: -ldflags "-X github.com/lacre-metrology/lacre/platform/version.version=...".
var version string

// String is the version that `make build` stamped (git describe), else the module version of an installed binary, else
// "devel".
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
