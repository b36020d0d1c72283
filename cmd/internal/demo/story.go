package demo

import (
	"context"
	"fmt"
	"time"
)

// Act is one part of a Story: something happens to the world, and then there is time to watch.
type Act struct {
	Name  string // of its span in the scorecard
	Title string
	Load  float64 // in terms of the base load
	Lasts time.Duration
	do    func(ctx context.Context, w *World) error
}

// The acts that the scorecard looks at.
const (
	surge      = "surge"
	healed     = "healed"
	dependency = "dependency"
)

// DefaultDuration is that of the story as it is written; MinDuration the shortest to which it can be told.
const (
	DefaultDuration = 90 * time.Second
	MinDuration     = 50 * time.Second
)

// settling is how long the first act lasts in any case: governor says nothing before it has seen a window of four
// seconds, and a Prometheus of its own takes some more to find its targets.
const settling = 10 * time.Second

// takeover is how long the last act lasts in any case. Consul lets the session of a dead leader live for twice its TTL
// of ten seconds, less what had passed since it was renewed.
const takeover = 22 * time.Second

// Story returns the acts, stretched or squeezed to a duration of at least MinDuration.
func Story(duration time.Duration) ([]Act, error) {
	if duration < MinDuration {
		return nil, fmt.Errorf("duration %s: expected at least %s, of which Consul takes 20 s to find a leader dead",
			duration, MinDuration)
	}
	nothing := func(context.Context, *World) error { return nil }
	acts := []Act{
		{"calm", fmt.Sprintf("calm: %.0f requests/s to each, each can carry %.0f", BaseLoad, Capacity),
			1, settling, nothing},
		{surge, fmt.Sprintf("three times the load: %.0f requests/s, and who fails tries again, twice",
			Surge*BaseLoad), Surge, 20 * time.Second, nothing},
		{healed, fmt.Sprintf("the load is back at %.0f requests/s", BaseLoad), 1, 12 * time.Second, nothing},
		{dependency, fmt.Sprintf("a dependency is slow: half of the answers take %d ms longer",
			dependencyDelay.Milliseconds()), 1, 14 * time.Second,
			func(_ context.Context, w *World) error { return w.SlowDependency(true) }},
		{"prometheus", "the dependency is well again, and Prometheus is lost: governor is blind", 1, 8 * time.Second,
			func(_ context.Context, w *World) error {
				if err := w.SlowDependency(false); err != nil {
					return err
				}
				return w.LosePrometheus(true)
			}},
		{"back", "Prometheus is back", 1, 4 * time.Second,
			func(_ context.Context, w *World) error { return w.LosePrometheus(false) }},
		{"leader", "the leading governor is killed: values stay until the standby takes over", 1, takeover,
			func(ctx context.Context, w *World) error {
				_, err := w.KillLeader(ctx)
				return err
			}},
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
	return acts, nil
}

// Span is an act as it was played.
type Span struct {
	Name     string
	From, To time.Time
}

// Play makes the acts happen, and calls begin before each one and watch once a second. It returns what was played when.
func Play(ctx context.Context, w *World, acts []Act, begin func(Act), watch func(Frame)) ([]Span, error) {
	var spans []Span
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, act := range acts {
		begin(act)
		if err := act.do(ctx, w); err != nil {
			return spans, err
		}
		w.SetLoad(act.Load)
		from := time.Now()
		over := time.After(act.Lasts)
		for playing := true; playing; {
			select {
			case <-ctx.Done():
				return spans, ctx.Err()
			case err := <-w.Failed():
				return spans, err
			case <-tick.C:
				watch(w.Look(ctx))
			case <-over:
				playing = false
			}
		}
		spans = append(spans, Span{act.Name, from, time.Now()})
	}
	w.SetLoad(0)
	return spans, nil
}
