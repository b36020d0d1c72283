package guard

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// counters are what requests count at a guard. Each is split into shards that processors rarely share, and added up where
// it is read: a word that every processor writes costs each of them more than the rest of the guard.
//
//	            shard 0     shard 1     …     of the request's ticket, or of the goroutine
//	failed        812         790             + = 1602
//
// A shard only grows, so the sum of several reads never goes back.
type counters struct {
	failed  [maxShards]failures
	refused [maxShards]refusals
	early   [criticalities]atomic.Uint64 // requests refused by callers in place of this guard
}

const maxShards = 8

// line keeps what is written often on cache lines of its own. With one before and one after it, that holds wherever the
// allocator puts it.
type line [64]byte

// failures are the admitted requests that have failed.
type failures struct {
	_ line
	n atomic.Uint64
	_ line
}

// refusals are the requests that a guard has refused.
type refusals struct {
	_       line
	byClass [criticalities][policies]atomic.Uint64
	_       line
}

// shardsInUse is how many shards are worth their memory here: a power of two.
func shardsInUse() uint32 {
	n := uint32(1)
	for n < maxShards && int(n) < runtime.GOMAXPROCS(0) {
		n *= 2
	}
	return n
}

// home returns a number for this goroutine. Two goroutines that run at the same time have stacks at different addresses, so that
// they rarely have the same upper bits.
func home() uint32 {
	var local byte
	stack := uint64(uintptr(unsafe.Pointer(&local))) >> 11 // the smallest stack has 2 kB
	return uint32(stack * golden >> 32)
}

// here returns the shard of this goroutine, for requests that have no ticket.
func here() uint32 { return home() >> (32 - 3) } // log2 of maxShards

// golden is 2^64 divided by the golden ratio: multiplied by it, neighbors are spread (Knuth, TAOCP 6.4).
const golden = 0x9e3779b97f4a7c15

// refuse counts a request that a policy has refused, and returns how many the shard has counted.
func (c *counters) refuse(class Criticality, policy int) uint64 {
	return c.refused[here()].byClass[class][policy].Add(1)
}

// refusedOf counts the requests of a class that a policy has refused.
func (c *counters) refusedOf(class, policy int) (n uint64) {
	for i := range c.refused {
		n += c.refused[i].byClass[class][policy].Load()
	}
	return n
}

// failures counts the admitted requests that failed.
func (c *counters) failures() (n uint64) {
	for i := range c.failed {
		n += c.failed[i].n.Load()
	}
	return n
}

func sum(of [criticalities]uint64) (n uint64) {
	for _, one := range of {
		n += one
	}
	return n
}
