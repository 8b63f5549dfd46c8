module github.com/lacre-metrology/lacre/meter

go 1.26.0

require (
	github.com/lacre-metrology/lacre/core v0.0.0
	github.com/lacre-metrology/lacre/gen v0.0.0
	go.opentelemetry.io/otel v1.45.0
	go.opentelemetry.io/otel/trace v1.45.0
	golang.org/x/sys v0.48.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/lacre-metrology/lacre/algorithms v0.0.0 // indirect
	github.com/oasisprotocol/curve25519-voi v0.0.0-20230904125328-1f23a7beb09a // indirect
	github.com/transparency-dev/merkle v0.0.2 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/lacre-metrology/lacre/algorithms => ../algorithms

replace github.com/lacre-metrology/lacre/core => ../core

replace github.com/lacre-metrology/lacre/gen => ../gen
