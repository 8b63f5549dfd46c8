module github.com/lacre-metrology/lacre/algorithms

go 1.26
