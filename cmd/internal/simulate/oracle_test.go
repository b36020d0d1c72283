// The tests of this package judge governor by what it does to simulated services: the scenarios of models/scenarios,
// the contenders of simulate, three seeds each.
//
//	go test ./cmd/internal/simulate -run TestTable -v        prints the table of goodput against the oracle
//
// The oracle is the best fixed limit for each phase, found by trying them all; testdata/oracle.tsv keeps what it got,
// because the search takes longer than everything else together. After a change to the plant or to a scenario:
//
//	go test ./cmd/internal/simulate -run TestOracle -update
package simulate_test

import (
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/test/golden"
)

const oracleFile = "testdata/oracle.tsv"

// seeds of everything here.
var seeds = []uint64{1, 2, 3}

// rigs are the scenarios of the published table: the first chapters of the manual.
func rigs() (all []simulate.Scenario) {
	for _, chapter := range simulate.Chapters()[:4] {
		all = append(all, chapter.Scenarios...)
	}
	return all
}

// oracle returns what the best fixed limits got in each phase.
var oracle = sync.OnceValue(func() map[string][]float64 {
	found := map[string][]float64{}
	f, err := os.Open(oracleFile)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = '\t'
	rows, err := r.ReadAll()
	if err != nil {
		panic(err)
	}
	for _, row := range rows[1:] {
		good, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			panic(err)
		}
		found[row[0]+row[1]] = append(found[row[0]+row[1]], good)
	}
	return found
})

// ofOracle is the goodput of a run's phase, in percent of the oracle's.
func ofOracle(r simulate.Run, result simulate.Result, phase int) float64 {
	best := oracle()[r.Scenario.Name+strconv.FormatUint(r.Seed, 10)]
	if len(best) != len(result.Score.Phases) {
		panic(fmt.Sprintf("%s knows nothing of scenario %s with seed %d: run with -update",
			oracleFile, r.Scenario.Name, r.Seed))
	}
	return 100 * float64(result.Score.Phases[phase].Good) / best[phase]
}

// TestOracle checks the file against a fresh search for one scenario, or rewrites it.
func TestOracle(t *testing.T) {
	if *golden.Update {
		rewriteOracle(t)
		return
	}
	s, err := simulate.Get("half")
	if err != nil {
		t.Fatal(err)
	}
	kept := oracle()[s.Name+"1"]
	for i, good := range simulate.Best(s, 1).Good {
		if math.Abs(float64(good)-kept[i]) > 0.001*kept[i] {
			t.Errorf("phase %s: the best fixed limit gets %d good requests, %s says %.0f: run with -update",
				s.Phases[i].Name, good, oracleFile, kept[i])
		}
	}
}

func rewriteOracle(t *testing.T) {
	var out strings.Builder
	out.WriteString("scenario\tseed\tphase\tgood\tlimit\n")
	for _, s := range rigs() {
		for _, seed := range seeds {
			best := simulate.Best(s, seed)
			for i, p := range s.Phases {
				fmt.Fprintf(&out, "%s\t%d\t%s\t%d\t%g\n", s.Name, seed, p.Name, best.Good[i], best.Limit[i])
			}
		}
	}
	if err := os.WriteFile(oracleFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
