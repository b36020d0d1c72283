package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fakeStage records what happens on it, with the second.
type fakeStage struct {
	began     time.Time
	governors int
	failed    chan error
	happened  []string
	load      float64
	slow      bool
	lost      bool
}

func newFakeStage() *fakeStage {
	return &fakeStage{began: time.Now(), governors: 2, failed: make(chan error, 1)}
}

func (f *fakeStage) note(what string) {
	f.happened = append(f.happened, fmt.Sprintf("%.0f %s", time.Since(f.began).Seconds(), what))
}

func (f *fakeStage) SetLoad(times float64) {
	if times != f.load {
		f.note(fmt.Sprintf("load %.0f", times))
	}
	f.load = times
}

func (f *fakeStage) SlowDependency(slow bool) error {
	if slow != f.slow {
		f.note(fmt.Sprintf("slow %v", slow))
	}
	f.slow = slow
	return nil
}

func (f *fakeStage) LosePrometheus(lose bool) error {
	if lose != f.lost {
		f.note(fmt.Sprintf("lost %v", lose))
	}
	f.lost = lose
	return nil
}

func (f *fakeStage) KillLeader(context.Context) (string, error) {
	if f.governors < 2 {
		return "", errors.New("no governor stands by")
	}
	f.governors--
	f.note("killed")
	return "governor-1", nil
}

func (f *fakeStage) Failed() <-chan error { return f.failed }

// play runs a story of three acts, with orders given at the specified seconds, and returns what happened.
func play(t *testing.T, orders map[int]order, meanwhile func(second int, p *player, cancel func())) (
	p *player, f *fakeStage, scenes []scene, err error,
) {
	t.Helper()
	story := []Act{
		{Name: calm, Load: 1, Lasts: 10 * time.Second},
		{Name: surge, Load: Surge, Lasts: 10 * time.Second},
		{Name: leader, Load: 1, Kill: true, Lasts: 10 * time.Second},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f = newFakeStage()
	p = newPlayer(f, story, func(s scene) { scenes = append(scenes, s) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = p.run(ctx)
	}()
	// At half seconds, so that no order coincides with the end of an act.
	time.Sleep(500 * time.Millisecond)
	for second := 0; ; second++ {
		synctest.Wait()
		select {
		case <-done:
			return p, f, scenes, err
		default:
		}
		if o, is := orders[second]; is {
			p.tell(ctx, o)
			synctest.Wait()
		}
		if meanwhile != nil {
			meanwhile(second, p, cancel)
		}
		time.Sleep(time.Second)
	}
}

func names(spans []Span) (all []string) {
	for _, s := range spans {
		all = append(all, fmt.Sprintf("%s %.1f", s.Name, s.To.Sub(s.From).Seconds()))
	}
	return all
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestStoryPlaysByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, scenes, err := play(t, nil, nil)
		if err != nil || !p.whole || p.hand {
			t.Errorf("error %v, whole %v, by hand %v", err, p.whole, p.hand)
		}
		same(t, "happened", f.happened, "0 load 1", "10 load 3", "20 killed", "20 load 1", "30 load 0")
		same(t, "played", names(p.spans), "calm 10.0", "surge 10.0", "leader 10.0")
		for i, s := range scenes {
			if s.number != i+1 || s.of != 3 || s.end.Sub(f.began) != 30*time.Second {
				t.Errorf("scene %d: number %d of %d, the story ends after %s", i, s.number, s.of, s.end.Sub(f.began))
			}
		}
	})
}

func TestKeysTakeOverFromTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, scenes, err := play(t, map[int]order{
			3: orderSurge, 5: orderDependency, 7: orderPrometheus, 9: orderDependency, 11: orderCalm, 40: orderLeader,
			42: orderLeader,
		}, func(second int, _ *player, cancel func()) {
			if second == 50 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || p.whole || !p.hand {
			t.Errorf("error %v, whole %v, by hand %v", err, p.whole, p.hand)
		}
		same(t, "happened", f.happened, "0 load 1", "4 load 3", "6 slow true", "8 lost true", "10 slow false",
			"12 lost false", "12 load 1", "40 killed", "50 load 0")
		same(t, "played", names(p.spans), "calm 3.5", "surge 2.0", "dependency 2.0", "prometheus 2.0", "prometheus 2.0",
			"healed 29.0", "leader 10.0")
		last := scenes[len(scenes)-1]
		if last.note != "no governor stands by" || last.act.Name != leader || !last.end.IsZero() || last.number != 0 {
			t.Errorf("a second kill shows %+v", last)
		}
	})
}

func TestStoryWaitsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, scenes, err := play(t, map[int]order{
			12: orderAuto, 30: orderAuto, // in the middle of the surge: 7.5 s are left of it
			40: orderLeader, // who has been dead since 38
		}, nil)
		if err != nil || p.whole {
			t.Errorf("error %v, whole %v", err, p.whole)
		}
		same(t, "happened", f.happened, "0 load 1", "10 load 3", "38 killed", "38 load 1", "48 load 0")
		same(t, "played", names(p.spans), "calm 10.0", "surge 28.0", "leader 10.0")
		if waits := scenes[2]; !waits.end.IsZero() || waits.number != 2 {
			t.Errorf("a story that waits shows %+v", waits)
		}
		if last := scenes[len(scenes)-1]; last.note == "" || last.end.Sub(f.began) != 48*time.Second {
			t.Errorf("an order that is refused shows %+v: the story goes on", last)
		}
	})
}

func TestStoryGoesOnAfterKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, _, err := play(t, map[int]order{2: orderDependency, 4: orderLeader, 6: orderAuto}, nil)
		if err != nil || p.whole {
			t.Errorf("error %v, whole %v", err, p.whole)
		}
		// The act in which the leader dies plays without that: the leader is already dead.
		same(t, "happened", f.happened, "0 load 1", "2 slow true", "4 killed", "6 slow false", "6 load 3", "16 load 1",
			"26 load 0")
		same(t, "played", names(p.spans), "calm 2.5", "dependency 2.0", "leader 2.0", "surge 10.0", "leader 10.0")
	})
}

func TestBrokenStageEndsTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("a sidecar has ended")
		p, f, _, err := play(t, nil, func(second int, p *player, _ func()) {
			if second == 4 {
				p.stage.(*fakeStage).failed <- broken
			}
		})
		if !errors.Is(err, broken) || p.whole {
			t.Errorf("error %v, whole %v", err, p.whole)
		}
		same(t, "happened", f.happened, "0 load 1", "4 load 0")
	})
}

func TestActsAreNamedAfterWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		now  Act
		do   order
		name string
	}{
		{Act{Load: 1}, orderSurge, surge},
		{Act{Load: Surge}, orderCalm, healed},
		{Act{Load: 1}, orderCalm, calm},
		{Act{Load: 1}, orderDependency, dependency},
		{Act{Load: 1, Slow: true}, orderDependency, calm},
		{Act{Load: Surge, Slow: true}, orderDependency, surge},
		{Act{Load: 1, Slow: true, Lost: true}, orderDependency, prometheus},
		{Act{Load: 1}, orderPrometheus, prometheus},
		{Act{Load: 1, Lost: true}, orderPrometheus, back},
		{Act{Load: 1, Lost: true, Slow: true}, orderPrometheus, dependency},
		{Act{Load: 1}, orderLeader, leader},
	} {
		got := tc.do.act(tc.now)
		if got.Name != tc.name || got.Title == "" || got.Watch == "" {
			t.Errorf("order %d in %+v makes %+v, want %s", tc.do, tc.now, got, tc.name)
		}
	}
}
