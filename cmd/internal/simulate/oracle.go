package simulate

import (
	"math"
	"sync"

	"github.com/seed-de83e32b/governor/models"
)

// Oracle is the best result that fixed limits could have achieved, the same limit on every instance: it knows what will
// happen and may choose a different limit for each phase of a scenario.
type Oracle struct {
	Good  []int     // by phase
	Limit []float64 // that achieved it
}

// Grid returns the limits that the oracle tries unless the scenario lists others, about 20% apart in the important range.
func Grid() []float64 {
	return []float64{4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 36, 40, 48, 60, 80, 128, 200, 400, math.Inf(1)}
}

var oracles sync.Map // oracleKey → func() Oracle

type oracleKey struct {
	scenario string
	seed     uint64
}

// bound is the oracle of a scenario of several services, in which no limit takes part: the optimum of the fluid plant, as
// a share of what was offered in a run.
func bound(s Scenario, score *models.Score) Oracle {
	var best Oracle
	for i, o := range s.Optimum() {
		offered := 0.0
		for _, rate := range o.Offered {
			offered += rate
		}
		best.Good = append(best.Good, int(math.Round(o.Good/offered*float64(score.Phases[i].Offered))))
		best.Limit = append(best.Limit, math.NaN())
	}
	return best
}

// Best returns the oracle of a scenario. It tries every limit of Scenario.Fixed, once per process.
func Best(s Scenario, seed uint64) Oracle {
	search := sync.OnceValue(func() Oracle {
		n := len(s.Phases)
		best := Oracle{Good: make([]int, n), Limit: make([]float64, n)}
		for _, limit := range s.Fixed {
			score := Run{Scenario: s, Contender: Static, Timing: Usual, Seed: seed, Limit: limit}.Do().Score
			for i, p := range score.Phases {
				if p.Good > best.Good[i] {
					best.Good[i], best.Limit[i] = p.Good, limit
				}
			}
		}
		return best
	})
	f, _ := oracles.LoadOrStore(oracleKey{s.Name, seed}, search)
	return f.(func() Oracle)()
}
