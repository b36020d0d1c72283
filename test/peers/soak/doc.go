// Package soak runs a guard for minutes and holds its memory to be flat. Whatever a request brings along may be invented
// by whoever sends it: a million keys, more entries and routes than a guard knows apart, and instances of dependencies
// that come and go as pods do. Overload comes and goes, so that everything a guard remembers fills and fades.
//
//	make soak DURATION=10m
//
//	calm ─ overload ─ calm ─ … ┊ calm ─ overload ─ calm ─ …
//	          heap after a collection ┴ may not be more here ┘
//
// The clock is told, so that hours of the guard pass in minutes: the lease runs out, averages fade, places are drawn anew.
// `go test` runs it for a few seconds.
package soak
