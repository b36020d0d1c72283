package demo

import (
	"fmt"
	"time"
)

// Act is one part of a Story: the situation from its first instant on, and what to watch for.
type Act struct {
	Name  string  // of its span in the scorecard
	Title string  // what happens
	Watch string  // what to look at
	Load  float64 // as a multiple of the base load
	Slow  bool    // a dependency
	Lost  bool    // Prometheus
	Kill  bool    // the leading governor dies as the act begins
	Lasts time.Duration
}

// The acts' names.
const (
	calm       = "calm"
	surge      = "surge"
	healed     = "healed"
	dependency = "dependency"
	prometheus = "prometheus"
	back       = "back"
	leader     = "leader"
)

// What to watch for in each act.
var watch = map[string]string{
	calm:       "nothing is refused; governor does not touch a limit that does not bind",
	surge:      "static soon answers everything late; governed refuses the least important",
	healed:     "static stays overloaded: retries alone keep it full. Governed recovers",
	dependency: "limiting cannot help a service that waits for another; governor says so",
	prometheus: "governor has no data: it holds, says why, and nothing moves",
	back:       "governor keeps holding until its samples fill a window again",
	leader:     "the last values stay; Consul takes 17 to 20 s to declare the leader dead",
}

// DefaultDuration is the length of the story as written, MinDuration the shortest possible.
const (
	DefaultDuration = 65 * time.Second
	MinDuration     = 50 * time.Second
)

// settling is the fixed length of the first act: governor says nothing before it has seen a window of four seconds, and
// a real Prometheus takes longer to find its targets.
const settling = 10 * time.Second

// takeover is the fixed length of the last act. Consul lets the session of a dead leader live for twice its TTL of ten
// seconds, less the time since it was last renewed.
const takeover = 22 * time.Second

// Story returns the acts, stretched or squeezed to a duration of at least MinDuration.
func Story(duration time.Duration) ([]Act, error) {
	if duration < MinDuration {
		return nil, fmt.Errorf("duration %s: expected at least %s; Consul alone takes 20 s to declare a leader dead",
			duration, MinDuration)
	}
	acts := []Act{
		{
			Name: calm, Title: fmt.Sprintf("calm: %.0f requests/s to each service, which can carry %.0f", BaseLoad, Capacity),
			Load: 1, Lasts: settling,
		},
		{Name: surge, Title: fmt.Sprintf("three times the load: %.0f requests/s, and clients retry failures twice",
			Surge*BaseLoad), Load: Surge, Lasts: 10 * time.Second},
		{
			Name: healed, Title: fmt.Sprintf("the load is back at %.0f requests/s", BaseLoad),
			Load: 1, Lasts: 8 * time.Second,
		},
		{Name: dependency, Title: fmt.Sprintf("a dependency is slow: half of the requests take %d ms longer",
			dependencyDelay.Milliseconds()), Load: 1, Slow: true, Lasts: 8 * time.Second},
		{
			Name: prometheus, Title: "the dependency is healthy again, and Prometheus is killed",
			Load: 1, Lost: true, Lasts: 4 * time.Second,
		},
		{Name: back, Title: "Prometheus is back", Load: 1, Lasts: 3 * time.Second},
		{
			Name: leader, Title: "the leading governor is killed; the other one stands by",
			Load: 1, Kill: true, Lasts: takeover,
		},
	}
	var written time.Duration
	scalable := acts[1 : len(acts)-1]
	for _, a := range scalable {
		written += a.Lasts
	}
	for i, a := range scalable {
		scaled := float64(a.Lasts) * float64(duration-settling-takeover) / float64(written)
		scalable[i].Lasts = time.Duration(scaled).Round(100 * time.Millisecond)
	}
	for i := range acts {
		acts[i].Watch = watch[acts[i].Name]
	}
	return acts, nil
}

// Until returns the acts up to the end of the one with the given name.
func Until(acts []Act, name string) ([]Act, error) {
	for i, a := range acts {
		if a.Name == name {
			return acts[:i+1], nil
		}
	}
	return nil, fmt.Errorf("no act is called %q", name)
}

// Span is an act as played.
type Span struct {
	Act
	From, To time.Time
}
