//go:build race

package guard

// seeds is one under the race detector: the model runs on a single goroutine, and there is nothing to find but time.
const seeds = 1
