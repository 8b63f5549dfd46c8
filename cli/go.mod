module github.com/lacre-metrology/lacre/cli

go 1.26

require (
	github.com/lacre-metrology/lacre/algorithms v0.0.0
	github.com/lacre-metrology/lacre/core v0.0.0
	github.com/lacre-metrology/lacre/gen v0.0.0
	github.com/lacre-metrology/lacre/meter v0.0.0
	github.com/lacre-metrology/lacre/platform v0.0.0
	github.com/lacre-metrology/lacre/sandbox v0.0.0
	github.com/lacre-metrology/lacre/services/approval v0.0.0
	github.com/lacre-metrology/lacre/services/compute v0.0.0
	github.com/lacre-metrology/lacre/services/ingest v0.0.0
	github.com/lacre-metrology/lacre/services/ledger v0.0.0
)

replace (
	github.com/lacre-metrology/lacre/core => ../core
	github.com/lacre-metrology/lacre/gen => ../gen
	github.com/lacre-metrology/lacre/platform => ../platform
)

replace github.com/lacre-metrology/lacre/algorithms => ../algorithms

replace github.com/lacre-metrology/lacre/sandbox => ../sandbox

replace github.com/lacre-metrology/lacre/meter => ../meter

replace github.com/lacre-metrology/lacre/services/ledger => ../services/ledger

replace github.com/lacre-metrology/lacre/services/compute => ../services/compute

replace github.com/lacre-metrology/lacre/services/ingest => ../services/ingest

replace github.com/lacre-metrology/lacre/services/approval => ../services/approval
