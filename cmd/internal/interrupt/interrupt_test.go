package interrupt

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A supervisor that sends several signals in a row must not kill a leader that is releasing its lock; a person who has
// waited may.
func TestFurtherSignalsAreAbsorbedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, over := make(chan os.Signal, 16), make(chan struct{})
		first, late := 0, 0
		go absorb(signals, over, func(os.Signal) { first++ }, nil, func(os.Signal) { late++ })
		for range 10 {
			signals <- syscall.SIGTERM
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(Patience - time.Second)
		signals <- os.Interrupt
		synctest.Wait()
		if first != 1 || late != 0 {
			t.Errorf("within %s: begun %d times, ended at once %d times; want 1 and 0", Patience, first, late)
		}
		time.Sleep(2 * time.Second)
		signals <- syscall.SIGTERM
		synctest.Wait()
		if first != 1 || late != 1 {
			t.Errorf("after %s: begun %d times, ended at once %d times; want 1 and 1", Patience, first, late)
		}
		close(over)
	})
}

// A second signal cuts the waiting short; one that comes at once is the first one again.
func TestSecondSignalHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, over := make(chan os.Signal, 16), make(chan struct{})
		hurried, late := 0, 0
		go absorb(signals, over, func(os.Signal) {}, func(os.Signal) { hurried++ }, func(os.Signal) { late++ })
		send := func(after time.Duration, wantHurried, wantLate int) {
			t.Helper()
			time.Sleep(after)
			signals <- syscall.SIGTERM
			synctest.Wait()
			if hurried != wantHurried || late != wantLate {
				t.Errorf("hurried %d times, ended at once %d times; want %d and %d", hurried, late, wantHurried, wantLate)
			}
		}
		send(0, 0, 0)
		send(time.Millisecond, 0, 0)
		send(10*time.Second, 1, 0)
		send(time.Second, 1, 0)
		send(Patience, 1, 1)
		close(over)
	})
}

func TestBurstOfHangupsIsTwoReloadsAndTheLastOneCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangups := make(chan os.Signal, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Time
		go coalesce(ctx, hangups, func(context.Context) { at = append(at, time.Now()) })
		var last time.Time
		for range 100 {
			select {
			case hangups <- syscall.SIGHUP:
			default:
			}
			last = time.Now()
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(at) != 2 || at[1].Before(last) {
			t.Errorf("100 hangups in half a second: reloads at %v, want two, the second after %v", at, last)
		}
		cancel()
	})
}
