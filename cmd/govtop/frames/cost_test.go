package frames

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/terminal"
)

// await waits until the daemon has reported its loops that often.
func await(t testing.TB, d *daemon, rounds int) {
	t.Helper()
	waittest.Succeeds(t, terminal.Patience, "govtop listens", func() error {
		if told := d.rounds(); told < rounds {
			return fmt.Errorf("%d rounds of %d", told, rounds)
		}
		return nil
	})
}

// TestIdleScreenSendsNothing counts the bytes sent to the terminal while the governor decides the same ten times a
// second, on every screen.
func TestIdleScreenSendsNothing(t *testing.T) {
	d := fleet(routes)
	term := show(t, d, size{Width: 120, Height: 30}, themes[0])
	term.Waits("the first frame", whole)
	for _, keys := range []string{"", "z", "z?", escape + enter, escape + "a", escape + "h"} {
		term.Types(keys)
		term.Settle(quiet)
		before, _ := term.Written()
		await(t, d, d.rounds()+30)
		if after, _ := term.Written(); after != before {
			t.Errorf("after the keys %q: %d bytes sent in three seconds in which nothing changed", keys, after-before)
		}
	}
	term.Types("\x03")
	term.Ends(0)
}

// TestFramesAreFew sends five hundred decisions a second, each with a different number.
func TestFramesAreFew(t *testing.T) {
	d := fleet(func(d *daemon) { d.every, d.round = 20*time.Millisecond, wander })
	term := show(t, d, size{Width: 120, Height: 30}, themes[0])
	term.Waits("the first frame", whole)
	await(t, d, 50)
	_, before := term.Written()
	began, told := time.Now(), d.rounds()
	await(t, d, told+200)
	_, after := term.Written()
	took, frames := time.Since(began), after-before
	t.Logf("%d frames in %s, of %d decisions", frames, took, (d.rounds()-told)*len(d.Loops))
	if most := int(4*took.Seconds()) + 2; frames > most {
		t.Errorf("%d frames in %s, want at most four a second", frames, took)
	}
	if frames < 3 {
		t.Errorf("%d frames in %s: it does not follow", frames, took)
	}
	term.Types("\x03")
	term.Ends(0)
}

// wander gives every loop a new decision.
func wander(n int, loops []api.Loop) {
	for i := range loops {
		d := &loops[i].Decision
		d.At = fixture.Now.Add(time.Duration(n) * time.Second)
		d.Value = control.Number(50 + (n+7*i)%100)
		d.Measured = control.Number(0.05 + 0.001*float64((3*n+i)%100))
		d.Inputs.Requests++
	}
}

// many is a fleet of n loops.
func many(n int) func(*daemon) {
	return func(d *daemon) {
		d.consistsOf(fixture.Fleet{Loops: []api.Loop{}})
		d.history = api.History{}
		for i := 0; i < n; {
			kinds := fixture.Mixed()
			for j := range kinds.Loops[:min(len(kinds.Loops), n-i)] {
				d.Loops = append(d.Loops, kinds.Loops[j])
				d.journal = append(d.journal, kinds.Decisions[2*j:2*j+2]...)
				d.rename(i, fmt.Sprintf("service-%03d", i))
				i++
			}
		}
	}
}

// BenchmarkIdle reports the share of a core that govtop takes with 500 loops, each decided every five seconds, while
// nobody presses a key: once with the same decisions again and again, once with new numbers in each.
func BenchmarkIdle(b *testing.B) {
	const long = 30 * time.Second
	for name, round := range map[string]func(int, []api.Loop){"same": nil, "changing": wander} {
		b.Run(name, func(b *testing.B) {
			d := fleet(func(d *daemon) {
				many(500)(d)
				d.every, d.beat, d.round = 5*time.Second, api.Heartbeat, round
			})
			term := show(b, d, size{Width: 120, Height: 30}, themes[0])
			term.Waits("the first frame", func(s terminal.Screen) bool { return s.Shows("500 loops") })
			term.Settle(time.Second)
			for b.Loop() {
				began, cpu := time.Now(), cpuTime(b, term)
				bytes, frames := term.Written()
				time.Sleep(long)
				used, took := cpuTime(b, term)-cpu, time.Since(began)
				moreBytes, moreFrames := term.Written()
				b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
				b.ReportMetric(float64(moreFrames-frames)/took.Seconds(), "frames/s")
				b.ReportMetric(float64(moreBytes-bytes)/took.Seconds(), "B/s")
			}
			term.Types("\x03")
			term.Ends(0)
		})
	}
}

// cpuTime is the CPU time of a program's threads, as reported by Linux.
func cpuTime(b *testing.B, term *terminal.TestTerminal) time.Duration {
	b.Helper()
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", term.Process().Pid))
	if len(threads) == 0 {
		b.Skip("no /proc to read the program's CPU time from")
	}
	var all time.Duration
	for _, path := range threads {
		var ran, waited, slices int64
		if stat, err := os.ReadFile(path); err != nil {
			b.Fatal(err)
		} else if _, err := fmt.Sscan(string(stat), &ran, &waited, &slices); err != nil {
			b.Fatal(err)
		}
		all += time.Duration(ran)
	}
	return all
}

// TestMemoryIsFlatOverHours runs the screen's model through six hours of twenty loops that are decided every five
// seconds, with a user at the keys every few minutes. The hours pass on a simulated clock; the model, its commands and
// its frames are the real ones. The screen keeps an hour of history. After the second hour that is full, and the live
// memory must not exceed that after the sixth.
func TestMemoryIsFlatOverHours(t *testing.T) {
	if testing.Short() {
		t.Skip("ninety thousand decisions")
	}
	synctest.Test(t, func(t *testing.T) {
		const hours = 6
		d := fleet(many(20))
		heap := make([]uint64, 0, hours)
		live(t, d, hours*time.Hour+time.Minute, func(hour int) {
			runtime.GC()
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			heap = append(heap, stats.HeapAlloc)
		})
		t.Logf("live heap after each hour, bytes: %d", heap)
		if len(heap) != hours {
			t.Fatalf("%d hours passed, want %d", len(heap), hours)
		}
		if grown := float64(heap[hours-1])/float64(heap[1]) - 1; grown > 0.03 {
			t.Errorf("the live heap grew by %.1f %% from the second to the last hour: %d bytes", 100*grown, heap)
		}
	})
}

// live runs a screen for the given time, calls hourly after each hour, and presses keys every few minutes.
func live(t *testing.T, d *daemon, long time.Duration, hourly func(hour int)) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages := make(chan tea.Msg)
	var run func(cmd tea.Cmd)
	run = func(cmd tea.Cmd) {
		if cmd == nil {
			return
		}
		go func() {
			msg := cmd()
			// A batch, or a sequence, whose type is not exported.
			if list := reflect.ValueOf(msg); msg != nil && list.Kind() == reflect.Slice {
				if cmds, ok := reflect.TypeAssert[[]tea.Cmd](list.Convert(reflect.TypeFor[[]tea.Cmd]())); ok {
					for _, c := range cmds {
						run(c)
					}
					return
				}
			}
			select {
			case messages <- msg:
			case <-ctx.Done():
			}
		}()
	}
	var m tea.Model = ui.New(ctx, &source{d}, "http://governor.test:9747", "0.3.0", ui.Options{Actor: "ana"})
	do := func(msg tea.Msg) {
		next, cmd := m.Update(msg)
		m = next
		run(cmd)
		_ = m.View()
	}
	run(m.Init())
	do(tea.WindowSizeMsg{Width: 120, Height: 30})
	began := time.Now()
	visits := time.NewTicker(10 * time.Minute)
	defer visits.Stop()
	key := time.NewTicker(7 * time.Second)
	defer key.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	var keys []tea.KeyPressMsg
	for n := 0; time.Since(began) < long; {
		select {
		case msg := <-messages:
			do(msg)
		case <-visits.C:
			keys = visit()
		case <-key.C:
			if len(keys) > 0 {
				do(keys[0])
				keys = keys[1:]
			}
		case <-hour.C:
			n++
			hourly(n)
		}
	}
	cancel()
	time.Sleep(time.Minute) // the commands in flight end
}

// visit is the key sequence of a user who looks at every screen.
func visit() []tea.KeyPressMsg {
	special := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "down": tea.KeyDown, "end": tea.KeyEnd}
	var keys []tea.KeyPressMsg
	for k := range strings.FieldsSeq("down enter - = a esc esc a esc h esc ? esc s s s s s / 0 7 enter / esc " +
		"space space [ [ ] ] esc f esc end enter esc g") {
		if code, ok := special[k]; ok {
			keys = append(keys, tea.KeyPressMsg{Code: code})
			continue
		}
		if k == "space" {
			k = " "
		}
		keys = append(keys, tea.KeyPressMsg{Code: []rune(k)[0], Text: k})
	}
	return keys
}

// source is a daemon without a network.
type source struct{ *daemon }

func (s *source) Status(context.Context) (api.Status, error) { return s.daemon.Status, nil }

func (s *source) Loops(context.Context) ([]api.Loop, error) { return s.daemon.Loops, nil }

func (s *source) LoopsAt(_ context.Context, at time.Time) ([]api.Loop, error) {
	return s.loopsAt(at.Format(time.RFC3339Nano)), nil
}

func (s *source) History(context.Context, time.Duration, time.Duration) (api.History, error) {
	return s.history, nil
}

func (s *source) LoopHistory(
	_ context.Context, service string, knob control.Knob, since, _ time.Duration,
) (api.LoopHistory, error) {
	return s.past(service, string(knob), since.String()), nil
}

func (s *source) Decisions(_ context.Context, q api.Query) (api.Decisions, error) {
	return s.decisions(q.Service, string(q.Knob)), nil
}

func (s *source) Audit(context.Context) (api.Audit, error) { return fixture.Audit(), nil }

func (s *source) Order(
	context.Context, string, control.Knob, actuators.OrderKind, api.Command,
) (api.Receipt, error) {
	return api.Receipt{}, nil
}

func (s *source) OrderAll(context.Context, actuators.OrderKind, api.Command) (api.Receipt, error) {
	return api.Receipt{}, nil
}

// Stream sends new decisions every five seconds, as long as the screen listens.
func (s *source) Stream(ctx context.Context, _ uint64, deliver func(api.Event) error) error {
	snapshot := s.daemon.Snapshot
	if err := deliver(api.Event{Seq: 1000, Snapshot: &snapshot}); err != nil {
		return err
	}
	loops := slices.Clone(s.daemon.Loops)
	beats := time.NewTicker(api.Heartbeat)
	defer beats.Stop()
	rounds := time.NewTicker(5 * time.Second)
	defer rounds.Stop()
	for n, seq := 0, uint64(1000); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beats.C:
			if err := deliver(api.Event{}); err != nil {
				return err
			}
		case <-rounds.C:
			n++
			wander(n, loops)
			for i := range loops {
				seq++
				l := loops[i]
				if err := deliver(api.Event{Seq: seq, Loop: &l}); err != nil {
					return err
				}
			}
		}
	}
}
