module github.com/lacre-metrology/lacre/sandbox

go 1.26
