package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// What is written is read, and what cannot be read counts for nothing.
func TestContext(t *testing.T) {
	full := Context{
		Arrival: guard.Arrival{
			Criticality: guard.Critical, Key: "a;b=ü", Entry: "shop/cart", Early: 12,
			Rank: guard.Rank{Place: 0x8f3a01c2, Drawn: true, Again: true, Group: 4, ID: 7},
		},
		Marked: true, Attempt: 2, Left: 250 * time.Millisecond, Request: "Q7",
	}
	none := ParseContext("")
	if none != (Context{Arrival: guard.Arrival{Criticality: guard.Default}}) {
		t.Fatalf("of nothing: %+v", none)
	}
	with := func(change func(*Context)) Context {
		c := none
		c.Rank.Place, c.Rank.Drawn = 0x8f3a01c2, true
		change(&c)
		return c
	}
	placed := with(func(*Context) {})
	for _, x := range []struct {
		text string
		want Context
	}{
		{full.String(), full},
		{placed.String(), placed},
		{" rank=8f3a01c2 ; hue=blue;again;lift=9", with(func(c *Context) { c.Rank.Again = true })},
		{"rank=8f3a01c2;group=4", placed},
		{"rank=8f3a01c2;group=256;id=00000001", placed},
		{"rank=8f3a01c2;again=yes", placed},
		{"rank=8f3a01c2;crit=royal", placed},
		{"rank=8f3a01c2;key=%zz;api=%", placed},
		{"rank=8f3a01c2;key=" + strings.Repeat("k", LongestName+1), placed},
		{"rank=8f3a01c2;left=-5;early=-1", placed},
		{"rank=8f3a01c2;left=99999999999999999999;early=5000000000", placed},
		{"rank=8f3a01c2;attempt=100", with(func(c *Context) { c.Marked = true })},
		{"rank=8f3a01c2;group=4;request=Q7", with(func(c *Context) { c.Rank.Group, c.Request = 4, "Q7" })},
		{"rank=8f3a01c2;request=" + strings.Repeat("q", longestRequest+1), placed},
		{"rank=8f3a01c2;request=;request=a-b", none},
		{"rank=8f3a01c2;request=a-b", placed},
		{"again;group=4;id=00000001", none},
		{"rank=8f3a01c;again", none},
		{"rank=8F3A01C2", none},
		{"rank=+f3a01c2", none},
		{"rank=ffffffff;rank=00000000", none},
		{"left=5;crit=critical;left=9", none},
		{"rank=ffffffff;" + strings.Repeat("x", Longest), none},
	} {
		if got := ParseContext(x.text); got != x.want {
			t.Errorf("%q: %+v, expected %+v", x.text, got, x.want)
		}
	}
	lasting := placed
	lasting.Criticality, lasting.Key, lasting.Entry = full.Criticality, full.Key, full.Entry
	lasting.Marked, lasting.Attempt, lasting.Request = true, 2, "Q7"
	if got := full.Lasting(); got != lasting {
		t.Errorf("%+v lasts, expected %+v", got, lasting)
	}
	full.Key = strings.Repeat("ü", LongestName)
	if got := ParseContext(full.String()); got.Key != "" || got.Entry != full.Entry {
		t.Errorf("a key that is too long: %+v", got)
	}
}

// The text of an answer.
func TestAdvice(t *testing.T) {
	full := guard.Advice{NoRetry: true, Background: true, Threshold: guard.LevelOf(guard.Sheddable, guard.Rank{Place: 0xc0000000})}
	for _, x := range []struct {
		text string
		want guard.Advice
	}{
		{"no-retry;background;threshold=1c0000000", full},
		{"hue=blue; background", guard.Advice{Background: true}},
		{"threshold=4c0000000;no-retry=1", guard.Advice{}},
		{"threshold=1c000000", guard.Advice{}},
		{"threshold=1C0000000", guard.Advice{}},
		{"no-retry;no-retry", guard.Advice{}},
		{"", guard.Advice{}},
	} {
		if got := ParseAdvice(x.text); got != x.want {
			t.Errorf("%q: %+v, expected %+v", x.text, got, x.want)
		}
	}
	if got := FormatAdvice(full); got != "no-retry;background;threshold=1c0000000" {
		t.Errorf("written as %q", got)
	}
	if got := FormatAdvice(guard.Advice{}); got != "" {
		t.Errorf("nothing to say: %q", got)
	}
}

// Whatever arrives, what is read can be written and read again, stays within its bounds, and is no better placed than the
// text says.
func FuzzContext(f *testing.F) {
	f.Add("rank=8f3a01c2;crit=critical;key=alice;again;group=4;id=51d0aa37")
	f.Add("rank=8f3a01c2;;=;key=%00;crit=;api=shop%2Fcart;early=9")
	f.Add("again;group=9;rank=;left=1;attempt=3")
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseContext(text)
		if !c.Rank.Drawn && c.Rank != (guard.Rank{}) {
			t.Fatalf("%q: a rank that is not drawn: %+v", text, c.Rank)
		}
		if c.Rank.Drawn && !strings.Contains(text, fmt.Sprintf("rank=%08x", c.Rank.Place)) {
			t.Fatalf("%q: place %08x", text, c.Rank.Place)
		}
		if c.Criticality == guard.Critical && !strings.Contains(text, "crit=critical") {
			t.Fatalf("%q: critical", text)
		}
		if c.Left < 0 || c.Attempt < 0 || c.Attempt > 99 {
			t.Fatalf("%q: left %v, attempt %d", text, c.Left, c.Attempt)
		}
		if again := ParseContext(c.String()); again != c {
			t.Fatalf("%q: %+v, then %+v", text, c, again)
		}
	})
}

// FuzzAdvice is the same of an answer.
func FuzzAdvice(f *testing.F) {
	f.Add("no-retry;background;threshold=1c0000000")
	f.Fuzz(func(t *testing.T, text string) {
		a := ParseAdvice(text)
		if a.Threshold > guard.LevelOf(guard.Critical, guard.Rank{Place: 0xffffffff}) {
			t.Fatalf("%q: threshold %x", text, a.Threshold)
		}
		if again := ParseAdvice(FormatAdvice(a)); again != a {
			t.Fatalf("%q: %+v, then %+v", text, a, again)
		}
	})
}

// What a hop costs.
func BenchmarkContext(b *testing.B) {
	c := ParseContext("rank=8f3a01c2;crit=critical;key=alice;api=shop%2Fcart;attempt=0;left=250")
	text := c.String()
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.String()
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ParseContext(text)
		}
	})
}
