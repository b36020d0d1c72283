package demo

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// stage is what a story is played on: a World, or a substitute in tests.
type stage interface {
	SetLoad(times float64)
	SlowDependency(slow bool) error
	LosePrometheus(lose bool) error
	KillLeader(ctx context.Context) (string, error)
	Failed() <-chan error
}

// order is an order from the keyboard.
type order int

const (
	orderCalm order = iota
	orderSurge
	orderDependency // slow, or healthy again
	orderPrometheus // lost, or back
	orderLeader     // killed
	orderAuto       // the story plays on, or waits
)

// act returns the act that follows if an order is given during a.
func (o order) act(a Act) Act {
	next := Act{Load: a.Load, Slow: a.Slow, Lost: a.Lost}
	switch o {
	case orderCalm:
		next = Act{Name: calm, Load: 1, Title: fmt.Sprintf("all is well again: %.0f requests/s", BaseLoad)}
		if a.Load > 1 {
			next.Name = healed
		}
	case orderSurge:
		next.Name, next.Load = surge, Surge
	case orderDependency:
		next.Name, next.Slow = dependency, !a.Slow
		if !next.Slow {
			next.Name = next.rest(calm)
		}
	case orderPrometheus:
		next.Name, next.Lost = prometheus, !a.Lost
		if !next.Lost {
			next.Name = next.rest(back)
		}
	case orderLeader:
		next.Name, next.Kill = leader, true
	}
	if next.Title == "" {
		next.Title = next.describe()
	}
	next.Watch = watch[next.Name]
	return next
}

// rest names an act after what is still wrong in it, if anything.
func (a Act) rest(otherwise string) string {
	switch {
	case a.Lost:
		return prometheus
	case a.Slow:
		return dependency
	case a.Load > 1:
		return surge
	}
	return otherwise
}

// describe describes the situation in one line.
func (a Act) describe() string {
	parts := []string{fmt.Sprintf("%.0f requests/s", a.Load*BaseLoad)}
	for _, also := range []struct {
		is   bool
		text string
	}{
		{a.Slow, "a dependency is slow"}, {a.Lost, "Prometheus is lost"}, {a.Kill, "the leader is killed"},
	} {
		if also.is {
			parts = append(parts, also.text)
		}
	}
	return strings.Join(parts, ", ")
}

// scene is what is playing now.
type scene struct {
	act    Act
	number int // number of the act in the story, from 1; 0: an act made from the keyboard
	of     int // acts in the story
	from   time.Time
	end    time.Time // end of the story if it plays on; zero: it waits
	note   string    // why an order changed nothing
	noted  time.Time // when
}

// player plays a story, or what the keyboard asks for instead.
type player struct {
	stage  stage
	story  []Act
	orders chan order
	show   func(scene) // called with every change

	spans []Span // the acts played so far; the current one is last
	next  int    // index of the next act in the story
	until time.Time
	left  time.Duration // time left in an act of the story that is waiting
	auto  bool
	hand  bool // somebody has used the keys
	whole bool // the story was played to its end, and nobody used the keys
}

func newPlayer(s stage, story []Act, show func(scene)) *player {
	return &player{stage: s, story: story, show: show, orders: make(chan order), auto: true}
}

// tell passes an order to a running player; it gives up when ctx ends.
func (p *player) tell(ctx context.Context, o order) {
	select {
	case p.orders <- o:
	case <-ctx.Done():
	}
}

// run plays until the story is over, ctx ends or the stage fails. In every case spans then holds what was played, and
// the load is off.
func (p *player) run(ctx context.Context) error {
	defer func() {
		p.stage.SetLoad(0)
		p.close(time.Now())
	}()
	for {
		over := make(<-chan time.Time)
		if p.auto {
			if p.until.IsZero() || !time.Now().Before(p.until) {
				if p.next == len(p.story) {
					p.whole = !p.hand
					return nil
				}
				if err := p.follow(ctx); err != nil {
					return err
				}
			}
			over = time.After(time.Until(p.until))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.stage.Failed():
			return err
		case <-over:
		case o := <-p.orders:
			if err := p.obey(ctx, o); err != nil {
				return err
			}
		}
	}
}

// follow begins the next act of the story.
func (p *player) follow(ctx context.Context) error {
	act := p.story[p.next]
	p.next++
	err := p.begin(ctx, act)
	if act.Kill && err != nil && p.hand {
		act.Kill = false // the story kills one leader, and it is already dead
		err = p.begin(ctx, act)
	}
	if err != nil {
		return err
	}
	p.until = p.spans[len(p.spans)-1].From.Add(act.Lasts)
	p.tellScene("")
	return nil
}

// obey carries out an order from the keyboard. Only a failure of the stage is an error.
func (p *player) obey(ctx context.Context, o order) error {
	p.hand = true
	switch {
	case o == orderAuto && p.auto:
		p.auto, p.left = false, time.Until(p.until)
		p.tellScene("")
		return nil
	case o == orderAuto:
		p.auto, p.until = true, time.Time{}
		if p.left > 0 {
			p.until, p.left = time.Now().Add(p.left), 0
			p.tellScene("")
		}
		return nil
	}
	playing := p.spans[len(p.spans)-1].Act
	act := o.act(playing)
	if o == orderSurge && playing.Load == Surge {
		p.tellScene("the load is already at three times: 1 brings it back")
		return nil
	}
	if err := p.begin(ctx, act); err != nil {
		if act.Kill {
			p.tellScene(err.Error())
			return nil
		}
		return err
	}
	p.auto, p.left, p.until = false, 0, time.Time{}
	p.tellScene("")
	return nil
}

// begin makes an act happen. If the leader cannot be killed, everything stays as it was.
func (p *player) begin(ctx context.Context, act Act) error {
	if act.Kill {
		if _, err := p.stage.KillLeader(ctx); err != nil {
			return err
		}
	}
	if err := p.stage.SlowDependency(act.Slow); err != nil {
		return err
	}
	if err := p.stage.LosePrometheus(act.Lost); err != nil {
		return err
	}
	p.stage.SetLoad(act.Load)
	now := time.Now()
	p.close(now)
	p.spans = append(p.spans, Span{Act: act, From: now})
	return nil
}

// close ends the current act.
func (p *player) close(now time.Time) {
	if n := len(p.spans); n > 0 && p.spans[n-1].To.IsZero() {
		p.spans[n-1].To = now
	}
}

// tellScene shows the current act.
func (p *player) tellScene(note string) {
	span := p.spans[len(p.spans)-1]
	s := scene{act: span.Act, of: len(p.story), from: span.From, note: note, noted: time.Now()}
	if !p.until.IsZero() || p.left > 0 {
		s.number = p.next
	}
	if p.auto {
		s.end = p.until
		for _, a := range p.story[p.next:] {
			s.end = s.end.Add(a.Lasts)
		}
	}
	p.show(s)
}
