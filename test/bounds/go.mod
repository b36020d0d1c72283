module github.com/seed-de83e32b/governor/test/bounds

go 1.26.7

require gonum.org/v1/gonum v0.17.0
