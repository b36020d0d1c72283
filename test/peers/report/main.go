// Report reads rounds of `go test -bench Peers -cpu 1,2` from its standard input and prints the median cost of each row,
// the ratios between rows, and which goals (goals.go) are met. A ratio is the median of the ratios within each round,
// with the lowest and the highest round beside it: what else the machine did in a round met both rows of it.
//
// The cost of an operation is the time that the cores spent on it, divided by how many share the work. On idle cores that
// is the time that passes; on busy ones it leaves out the waiting for a core. Only contention needs both cores at once:
// a round in which a row did not get them does not count for it.
//
// A missed goal is printed as missed and is not an error. Input that is not complete is one.
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
)

func main() {
	if err := report(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// key is a row on a number of cores.
type key struct {
	row   string
	cores int
}

// rounds holds what was measured, one figure for each round.
type rounds struct {
	cpu    string
	rows   []string          // in the order of the benchmark
	ns     map[key][]float64 // NaN: the row did not get both cores
	allocs map[key][]float64
	count  int
}

// A row on two cores must have had this part of them. A median is that of so many rounds at least, or of all if there are
// fewer.
const (
	coresHad   = 0.9
	leastCount = 3
)

// prefix of the names of the rows, as benchfmt returns them.
const prefix = "Peers/"

func read(r io.Reader) (*rounds, error) {
	all := &rounds{ns: map[key][]float64{}, allocs: map[key][]float64{}}
	in := benchfmt.NewReader(r, "stdin")
	for in.Scan() {
		switch record := in.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, fmt.Errorf("read the output of go test -bench: %w; run it again, without -v", record)
		case *benchfmt.Result:
			if err := all.add(record); err != nil {
				return nil, err
			}
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the output of go test -bench: %w", err)
	}
	return all, all.complete()
}

func (all *rounds) add(r *benchfmt.Result) error {
	name, isRow := strings.CutPrefix(r.Name.String(), prefix)
	if !isRow {
		return nil
	}
	k := key{row: name, cores: 1} // go test leaves out -1
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		if n, err := strconv.Atoi(name[i+1:]); err == nil {
			k = key{row: name[:i], cores: n}
		}
	}
	seconds, ok := r.Value("cpu-sec/op") // benchfmt makes seconds of all ns
	allocs, counted := r.Value("allocs/op")
	if !ok || !counted {
		return fmt.Errorf("read row %s: it has no cpu-ns/op or no allocs/op: it is not a row of BenchmarkPeers", name)
	}
	seconds /= float64(k.cores)
	if cpus, ok := r.Value("cpus"); ok && k.cores > 1 && cpus < coresHad*float64(k.cores) {
		seconds = math.NaN()
	}
	if !slices.Contains(all.rows, k.row) {
		all.rows = append(all.rows, k.row)
	}
	all.cpu = r.GetConfig("cpu")
	all.ns[k] = append(all.ns[k], seconds*1e9)
	all.allocs[k] = append(all.allocs[k], allocs)
	all.count = max(all.count, len(all.ns[k]))
	return nil
}

// complete returns an error unless every row, and every one that a goal names, has a figure of every round on one core and
// on two.
func (all *rounds) complete() error {
	names := slices.Concat(all.rows, noAllocations)
	for _, g := range goals {
		names = append(names, g.row, g.of)
	}
	for _, name := range names {
		for _, cores := range []int{1, 2} {
			if n := len(all.ns[key{name, cores}]); n == 0 || n < all.count {
				return fmt.Errorf("row %s on %d cores has %d of %d rounds: a benchmark failed, or -cpu is not 1,2", name, cores,
					n, all.count)
			}
		}
	}
	return nil
}

// spread is the median of some figures, with the lowest and the highest. All are NaN if too few figures count.
type spread struct{ low, median, high float64 }

func spreadOf(figures []float64) spread {
	s := slices.DeleteFunc(slices.Clone(figures), math.IsNaN)
	n := len(s)
	if n < min(leastCount, len(figures)) {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(s)
	return spread{s[0], (s[(n-1)/2] + s[n/2]) / 2, s[n-1]}
}

func (s spread) String() string {
	if math.IsNaN(s.median) {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.low, s.high)
}

// ns writes the median of nanoseconds.
func (s spread) ns() string {
	if math.IsNaN(s.median) {
		return "–"
	}
	return fmt.Sprintf("%.1f", s.median)
}

// ratio is row ÷ of on so many cores, within each round.
func (all *rounds) ratio(row, of string, cores int) spread {
	a, b := all.ns[key{row, cores}], all.ns[key{of, cores}]
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return spreadOf(ratios)
}

// judge says whether the ratio keeps the bound, and which bound that is.
func (g goal) judge(ratio float64) (verdict, bound string) {
	met := ratio <= g.atMost
	bound = fmt.Sprintf("≤ %g", g.atMost)
	if g.atMost == 0 {
		met = ratio >= g.atLeast
		bound = fmt.Sprintf("≥ %g", g.atLeast)
	}
	if math.IsNaN(ratio) {
		return "not measured: the machine is busy", bound
	}
	return verdictOf(met), bound
}

func report(r io.Reader, w io.Writer) error {
	all, err := read(r)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %d rounds; medians, and (lowest–highest) of the rounds\n\n", all.cpu, all.count)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "row\tns, 1 core\tns, 2 cores\tallocations\t× two clock readings, 1 core\t2 cores")
	const clock = "clock/two_time.Since"
	for _, row := range all.rows {
		one, two := key{row, 1}, key{row, 2}
		fmt.Fprintf(out, "%s\t%s\t%s\t%g\t%v\t%v\n", row, spreadOf(all.ns[one]).ns(), spreadOf(all.ns[two]).ns(),
			spreadOf(all.allocs[one]).median, all.ratio(row, clock, 1), all.ratio(row, clock, 2))
	}
	fmt.Fprintln(out, "\ngoal\tbound\tcores\tmeasured\t")
	for _, g := range goals {
		for _, cores := range g.cores {
			ratio := all.ratio(g.row, g.of, cores)
			verdict, bound := g.judge(ratio.median)
			fmt.Fprintf(out, "%s\t%s\t%d\t%v\t%s\n", g.says, bound, cores, ratio, verdict)
		}
	}
	for _, cores := range []int{1, 2} {
		most := 0.0
		for _, row := range noAllocations {
			most = max(most, slices.Max(all.allocs[key{row, cores}]))
		}
		fmt.Fprintf(out, "acquire, release and refusal allocate nothing\t0\t%d\t%g\t%s\n", cores, most, verdictOf(most == 0))
	}
	return out.Flush()
}

func verdictOf(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}
