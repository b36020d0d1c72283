package models

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Law is how service times are spread around their mean. Every law has mean 1: a Config gives the mean as a duration, so
// a change of the law changes the variance and nothing else. The zero value is the exponential law.
//
//	law                squared coefficient of variation
//	deterministic      0
//	exponential        1
//	bimodal 10%, 5.5   5.5     the wait in M/G/1 grows in proportion to 1 + this number
//	lognormal 1.5      8.5
//	pareto 1.8         infinite
type Law struct {
	draw func(*rand.Rand) float64
}

// Exponential is the law without memory.
func Exponential() Law { return Law{} }

// Deterministic is the law under which all requests need the same time.
func Deterministic() Law { return Law{func(*rand.Rand) float64 { return 1 }} }

// Lognormal is the law under which the logarithm is normal with standard deviation sigma. Service times measured in the
// field often look like it, with a sigma around 1.
func Lognormal(sigma float64) Law {
	if !(sigma >= 0) || math.IsInf(sigma, 1) {
		panic(fmt.Sprintf("models: a sigma of %v", sigma))
	}
	return Law{func(r *rand.Rand) float64 { return math.Exp(sigma*r.NormFloat64() - sigma*sigma/2) }}
}

// Pareto is the law of heavy tails: P(X > x) falls as x^-alpha. It has no mean for alpha ≤ 1, so it panics on that, and
// no variance for alpha ≤ 2.
func Pareto(alpha float64) Law {
	if !(alpha > 1) || math.IsInf(alpha, 1) {
		panic(fmt.Sprintf("models: a Pareto law with alpha %v has no mean", alpha))
	}
	least := (alpha - 1) / alpha
	return Law{func(r *rand.Rand) float64 { return least * math.Pow(1-r.Float64(), -1/alpha) }}
}

// Bimodal is the law of two kinds of request that nobody can tell apart, each of them exponential (a hyperexponential
// law): for the given share the mean is slow times that of all, for the rest what is left. With a tenth at 5.5 times the
// mean, the rest have half of it. It panics where nothing is left for the rest.
func Bimodal(share, slow float64) Law {
	fast := (1 - share*slow) / (1 - share)
	if !(share > 0 && share < 1 && slow > 0 && fast > 0) {
		panic(fmt.Sprintf("models: a share of %v at %v times the mean leaves nothing for the rest", share, slow))
	}
	return Law{func(r *rand.Rand) float64 {
		if r.Float64() < share {
			return slow * r.ExpFloat64()
		}
		return fast * r.ExpFloat64()
	}}
}

// unit draws a service time in units of its mean.
func (l Law) unit(r *rand.Rand) float64 {
	if l.draw == nil {
		return r.ExpFloat64()
	}
	return l.draw(r)
}
