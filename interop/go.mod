// The interoperability test stands outside go.work: what it depends on is other projects' and would lift the versions of
// everybody in the workspace. It imports nothing of this repository: it reads files and talks to sockets, as a stranger
// would. Run it with `make interop`.
module github.com/lacre-metrology/lacre/interop

go 1.26.0

require (
	filippo.io/torchwood v0.9.0
	golang.org/x/mod v0.42.0
)

require (
	golang.org/x/crypto v0.46.0 // indirect
	golang.org/x/sync v0.19.0 // indirect
)
