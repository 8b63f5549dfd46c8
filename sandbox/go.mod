module github.com/lacre-metrology/lacre/sandbox

go 1.26.0

require (
	github.com/tetratelabs/wazero v1.12.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/oasisprotocol/curve25519-voi v0.0.0-20230904125328-1f23a7beb09a // indirect
	github.com/transparency-dev/merkle v0.0.2 // indirect
	golang.org/x/crypto v0.57.0 // indirect
)

require (
	github.com/lacre-metrology/lacre/algorithms v0.0.0
	github.com/lacre-metrology/lacre/core v0.0.0
	github.com/lacre-metrology/lacre/gen v0.0.0
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/lacre-metrology/lacre/algorithms => ../algorithms

replace github.com/lacre-metrology/lacre/core => ../core

replace github.com/lacre-metrology/lacre/gen => ../gen
