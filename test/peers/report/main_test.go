package main

import (
	"fmt"
	"strings"
	"testing"
)

// output is that of go test -bench for so many rounds on idle cores, in which every row takes the nanoseconds that ns says.
func output(rounds int, ns func(row string, cores, round int) float64) string {
	var out strings.Builder
	out.WriteString("goos: linux\ncpu: a test\n")
	for round := range rounds {
		seen := map[string]bool{}
		line := func(row string) {
			if seen[row] {
				return
			}
			seen[row] = true
			for _, cores := range []int{1, 2} {
				name := row
				if cores > 1 {
					name += "-2"
				}
				ns := ns(row, cores, round)
				fmt.Fprintf(&out, "BenchmarkPeers/%s \t 1000 \t %g ns/op \t %g cpu-ns/op \t %d cpus \t 0 B/op \t 0 allocs/op\n",
					name, ns, ns*float64(cores), cores)
			}
		}
		for _, g := range goals {
			line(g.row)
			line(g.of)
		}
		for _, row := range noAllocations {
			line(row)
		}
	}
	return out.String() + "PASS\n"
}

// A round in which the machine is ten times slower changes no ratio.
func TestRatiosAreThoseWithinARound(t *testing.T) {
	in := output(3, func(row string, cores, round int) float64 {
		ns := 100.0
		if row == guarded {
			ns = float64(150 * cores)
		}
		if round == 1 {
			ns *= 10
		}
		return ns
	})
	var out strings.Builder
	if err := report(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"≤ 1.8  1      1.50 (1.50–1.50)  met", "≤ 3.6  2      3.00 (3.00–3.00)  met", "≥ 2.5  1      0.67 (0.67–0.67)  MISSED",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

// Rows that had one core for two goroutines are not compared with others that had two. Waiting for a core costs nothing.
func TestRoundsWithoutTheCoresDoNotCount(t *testing.T) {
	in := output(5, func(string, int, int) float64 { return 100 })
	busy := func(n int) string {
		in := strings.ReplaceAll(in, " 100 ns/op", " 900 ns/op") // the time that passes
		return strings.Replace(in, "200 cpu-ns/op \t 2 cpus", "180 cpu-ns/op \t 1.2 cpus", n)
	}
	for n, want := range map[int]string{
		1:  "≤ 3.6  2      1.00 (1.00–1.00)  met", // the guard, in the first round
		-1: "≤ 3.6  2      –                 not measured",
	} {
		var out strings.Builder
		if err := report(strings.NewReader(busy(n)), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{want, "≤ 1.8  1      1.00 (1.00–1.00)  met"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%d rows with one core: no %q in\n%s", n, want, &out)
			}
		}
	}
}

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		figures []float64
		want    spread
	}{
		{[]float64{3, 1, 2}, spread{1, 2, 3}},
		{[]float64{4, 1, 3, 2}, spread{1, 2.5, 4}},
		{[]float64{7}, spread{7, 7, 7}},
	} {
		if got := spreadOf(c.figures); got != c.want {
			t.Errorf("of %v: %v, want %v", c.figures, got, c.want)
		}
	}
}

func TestIncompleteInputIsAnError(t *testing.T) {
	whole := output(2, func(string, int, int) float64 { return 100 })
	for name, in := range map[string]string{
		"nothing":           "PASS\n",
		"one core only":     strings.ReplaceAll(whole, "-2 \t", " \t"),
		"a round cut short": whole[:strings.LastIndex(whole, "BenchmarkPeers")],
		"a failed row":      strings.Replace(whole, "1000 \t 100 ns/op \t 100 cpu-ns/op", "--- FAIL: no figures", 1),
		"another benchmark": strings.ReplaceAll(whole, " cpu-ns/op", " other"),
		"no allocations":    strings.ReplaceAll(whole, " \t 0 allocs/op", ""),
	} {
		if err := report(strings.NewReader(in), &strings.Builder{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
