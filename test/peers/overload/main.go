// Overload puts a real HTTP server on loopback under three times the load that it can serve, and compares what it answers
// in time without a limit, behind guardhttp, and behind failsafe-go's adaptive limiter.
//
//	this process                                       a process of its own, on one core
//	load, open loop: half of what the server can do,   limiter ──► handler that computes for 2 ms
//	then three times as much                                              in 20 parts
//
// Between the parts the handler gives way to others, as one does that reads a database or a lock. That decides what any
// limiter in the server can see. A handler that never gives way ends before the next one begins, and its queue is in the
// scheduler, before the limiter: -parts=1 shows that.
//
// Both limiters know what a newcomer would tell them: guard the SLO, failsafe-go nothing. No governor runs. Each round
// measures first what the server can do, then starts a new server for each variant, so that what else the machine does
// meets all variants. Half the load lets a limiter learn how fast the service is. What is counted is the whole of the
// overload, from its first request.
//
// The load does not wait for answers, and a client gives up after ten SLOs. The server has one core (GOMAXPROCS=1), which
// leaves the other of a machine of two for the load. Two columns say whether that was enough: "sent" is the share
// of the intended requests that were sent, and "core" how much of its core the server had. It needs 0.9 here, because it is
// half idle before the overload; with much less, something else was running, and the other figures say little.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	slo     = 100 * time.Millisecond
	work    = 2 * time.Millisecond // of one request, on an idle core
	patient = 10 * slo             // how long a client waits
	times   = 3                    // what the server can do
)

var (
	rounds   = flag.Int("rounds", 3, "how often each variant is measured")
	calm     = flag.Duration("calm", 2*time.Second, "how long half the load lasts, before each overload")
	parts    = flag.Int("parts", 20, "how many parts a request is computed in")
	overload = flag.Duration("overload", 8*time.Second, "how long each overload lasts")
)

func main() {
	flag.Parse()
	do := run
	if flag.Arg(0) == "serve" {
		do = func() error { return serve(flag.Arg(1), flag.Args()[2:]) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

func run() error {
	steps := calibrate()
	all := map[string][]score{}
	var capacities []float64
	for range *rounds {
		capacity, err := measure(steps)
		if err != nil {
			return err
		}
		capacities = append(capacities, capacity)
		for _, v := range variants {
			s, err := attack(v.name, steps, capacity)
			if err != nil {
				return err
			}
			all[v.name] = append(all[v.name], s)
		}
	}
	return write(os.Stdout, capacities, all)
}

// server is a running server of a variant.
type server struct {
	url  string
	cmd  *exec.Cmd
	stay io.WriteCloser // the server ends when this does
}

func start(variant string, steps int) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), self, "serve", variant, strconv.Itoa(steps), strconv.Itoa(*parts))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stay, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server %s: %w", variant, err)
	}
	s := &server{cmd: cmd, stay: stay}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_, ended := s.stop()
		return nil, fmt.Errorf("start the server %s: it names no address: %w", variant, errors.Join(err, ended))
	}
	s.url = "http://" + strings.TrimSpace(address)
	return s, nil
}

// stop returns the time that the server has had of the cores.
func (s *server) stop() (used time.Duration, err error) {
	s.stay.Close()
	if err := s.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("stop the server: %w", err)
	}
	return s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime(), nil
}

// measure returns how many requests per second the server can do without a limit, if it has a core. Four clients ask,
// and wait.
func measure(steps int) (perSecond float64, err error) {
	s, err := start(bare, steps)
	if err != nil {
		return 0, err
	}
	const span = 1500 * time.Millisecond
	answered := 0
	attacker := vegeta.NewAttacker(vegeta.Workers(4), vegeta.MaxWorkers(4), vegeta.Timeout(patient))
	for r := range attacker.Attack(target(s.url), vegeta.ConstantPacer{}, span, "") {
		if r.Code == http.StatusOK {
			answered++
		}
	}
	used, err := s.stop()
	if err != nil {
		return 0, err
	}
	if answered == 0 {
		return 0, fmt.Errorf("measure the server: it answered nothing in %v", span)
	}
	return float64(answered) / used.Seconds(), nil
}

func target(url string) vegeta.Targeter {
	return vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: url})
}

// attack puts a variant under load and returns what came of the overload.
func attack(variant string, steps int, capacity float64) (score, error) {
	s, err := start(variant, steps)
	if err != nil {
		return score{}, err
	}
	load := func(perSecond float64, span time.Duration) (results vegeta.Results) {
		attacker := vegeta.NewAttacker(vegeta.Workers(32), vegeta.Connections(10000), vegeta.Timeout(patient))
		pace := vegeta.Rate{Freq: int(math.Round(perSecond)), Per: time.Second}
		for r := range attacker.Attack(target(s.url), pace, span, variant) {
			results.Add(r)
		}
		return results
	}
	began := time.Now()
	load(capacity/2, *calm)
	result := scoreOf(load(times*capacity, *overload), capacity, *overload)
	span := time.Since(began)
	used, err := s.stop()
	result.core = used.Seconds() / span.Seconds()
	return result, err
}

// score is what came of one overload.
type score struct {
	good     float64 // answers within the SLO, as a share of what the server can do
	slowest  float64 // p99 of the latency of the answers, in SLOs; NaN without answers
	answered float64 // shares of the requests that were sent
	refused  float64
	failed   float64 // given up, or never connected
	sent     float64 // share of the requests that were to be sent
	core     float64 // share of a core that the server had, from before the overload
}

func scoreOf(results vegeta.Results, capacity float64, span time.Duration) score {
	var latencies []time.Duration
	good, refused, failed := 0, 0, 0
	for _, r := range results {
		switch r.Code {
		case http.StatusOK:
			latencies = append(latencies, r.Latency)
			if r.Latency <= slo {
				good++
			}
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			refused++
		default:
			failed++
		}
	}
	possible, n := capacity*span.Seconds(), float64(len(results))
	s := score{
		good: float64(good) / possible, slowest: math.NaN(), sent: n / (times * possible),
		answered: float64(len(latencies)) / n, refused: float64(refused) / n, failed: float64(failed) / n,
	}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		s.slowest = float64(latencies[(len(latencies)*99-1)/100]) / float64(slo)
	}
	return s
}

// columns of a variant.
var columns = []struct {
	title string
	of    func(score) float64
}{
	{"goodput, share of what the server can do", good},
	{"p99 of the answers, SLOs", slowest},
	{"answered", func(s score) float64 { return s.answered }},
	{"refused", func(s score) float64 { return s.refused }},
	{"failed", func(s score) float64 { return s.failed }},
	{"sent", func(s score) float64 { return s.sent }},
	{"core", func(s score) float64 { return s.core }},
}

func good(s score) float64    { return s.good }
func slowest(s score) float64 { return s.slowest }

func write(w io.Writer, capacities []float64, all map[string][]score) error {
	fmt.Fprintf(w, "%d × the load that the server can do (%s requests/s), SLO %v, %d rounds of %v; medians, and "+
		"(lowest–highest)\n\n", times, spread(capacities, "%.0f"), slo, len(capacities), *overload)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	of := func(variant string, figure func(score) float64) (figures []float64) {
		for _, s := range all[variant] {
			figures = append(figures, figure(s))
		}
		return figures
	}
	fmt.Fprint(out, "variant")
	for _, c := range columns {
		fmt.Fprint(out, "\t", c.title)
	}
	for _, v := range variants {
		fmt.Fprint(out, "\n", v.name)
		for _, c := range columns {
			fmt.Fprint(out, "\t", spread(of(v.name, c.of), "%.2f"))
		}
	}
	fmt.Fprintln(out, "\n\nguardhttp ÷\tgoodput\tp99 of the answers")
	for _, v := range variants {
		if v.name != guarded {
			fmt.Fprintf(out, "%s\t%s\t%s\n", v.name, spread(ratios(of(guarded, good), of(v.name, good)), "%.2f"),
				spread(ratios(of(guarded, slowest), of(v.name, slowest)), "%.2f"))
		}
	}
	return out.Flush()
}

// ratios are those within each round.
func ratios(a, b []float64) []float64 {
	of := make([]float64, len(a))
	for i := range a {
		of[i] = a[i] / b[i]
	}
	return of
}

// spread writes the median of some figures, with the lowest and the highest.
func spread(figures []float64, format string) string {
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	return fmt.Sprintf(format+" ("+format+"–"+format+")", (s[(n-1)/2]+s[n/2])/2, s[0], s[n-1])
}
