//go:build !race

package guard

// seeds is how many runs of the queueing model a claim must survive.
const seeds = 4
