module github.com/seed-de83e32b/governor

go 1.26
