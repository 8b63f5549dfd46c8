module github.com/lacre-metrology/lacre/services/ingest

go 1.26.0

require (
	github.com/lacre-metrology/lacre/algorithms v0.0.0
	github.com/lacre-metrology/lacre/core v0.0.0
	github.com/lacre-metrology/lacre/gen v0.0.0
	github.com/lacre-metrology/lacre/platform v0.0.0
)

require (
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace (
	github.com/lacre-metrology/lacre/core => ../../core
	github.com/lacre-metrology/lacre/gen => ../../gen
	github.com/lacre-metrology/lacre/platform => ../../platform
)

replace github.com/lacre-metrology/lacre/algorithms => ../../algorithms
