package frames

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// party is a fleet with its scenes.
type party struct {
	name   string
	daemon func() *daemon // nil: there is none
	words  []string       // that the first scene says on a screen of 30 lines or more, in any theme
	scenes []scene        // the first one is what stands there at the beginning
}

// scene is a screen, and the keys that lead to it.
type scene struct {
	name  string
	keys  string // from the first scene of the fleet
	shows string // what stands there, at the latest, when it is complete
	back  string // keys that lead back to the first scene
	// typing says that the scene has a text input, so the cursor may be visible.
	typing bool
}

// Keys as a terminal sends them. Escape uses the long form of terminals that have one: only the time after the short
// form, a single byte, distinguishes it from the start of another key, and on a busy machine that fails.
const (
	escape = "\x1b[27u"
	enter  = "\r"
)

var none = control.Number(math.NaN())

func fleets() []party {
	return []party{
		{
			name: "mixed", daemon: func() *daemon { return fleet(nil) },
			words: []string{
				"v CUTTING", "^ RAISING", "= STEADY", "! AT MIN", "! AT MAX", "! INEFFECTIVE", "! INFEASIBLE", "~ HOLD",
				"* FROZEN", "M OVERRIDE", "ENFORCE", "shadow", "LIVE",
			},
			scenes: []scene{
				{shows: "10 loops"},
				{name: "last", keys: "G", shows: "10 loops", back: "g"},
				{name: "sorted", keys: "sS", shows: "sort:name", back: "Sssssg"},
				{name: "filtering", keys: "/conc", shows: "conc", back: escape + "g", typing: true},
				{name: "filtered", keys: "/!ENFORCE" + enter, shows: "1/10", back: escape + "g"},
				{name: "filtered-out", keys: "/nothing" + enter, shows: "0/10", back: escape + "g"},
				{name: "detail-concurrency", keys: "/checkout" + enter + enter, shows: "setpoint", back: escape + escape + "g"},
				{name: "detail-rate", keys: "/cart" + enter + enter, shows: "cart/rate", back: escape + escape + "g"},
				{name: "detail-shed", keys: "/payments" + enter + enter, shows: "payments/shed", back: escape + escape + "g"},
				{name: "detail-override", keys: "/ledger" + enter + enter, shows: "ledger/rate", back: escape + escape + "g"},
				{name: "detail-hold", keys: "/auth" + enter + enter, shows: "auth/conc", back: escape + escape + "g"},
				{name: "detail-hour", keys: enter + "--", shows: "report/concurrency", back: "==" + escape},
				{name: "decisions", keys: "a", shows: "ecisions", back: escape},
				{name: "decisions-one", keys: enter + "a", shows: "ecisions", back: escape + escape},
				{name: "health", keys: "h", shows: "ealth", back: escape},
				{name: "help", keys: "?", shows: "Moving", back: escape},
				{name: "help-searched", keys: "?/rewind" + enter, shows: "rewind", back: escape},
				{name: "paused", keys: " ", shows: "PAUSED", back: " "},
				{name: "past", keys: "[[[", shows: "PAST", back: escape},
				{name: "past-detail", keys: enter + "[", shows: "PAST", back: escape + escape},
				{name: "freeze", keys: "f", shows: "reason", back: escape, typing: true},
				{name: "override", keys: "o", shows: "value", back: escape, typing: true},
				{name: "override-wrong", keys: "o7" + enter, shows: "value", back: escape, typing: true},
				{name: "resume", keys: "/feed" + enter + "r", shows: "reason", back: escape + escape + "g", typing: true},
			},
		},
		{
			name: "routes", daemon: func() *daemon { return fleet(routes) }, words: []string{"└ import/con", "! INEFFECTIVE", "shop"},
			scenes: []scene{
				{shows: "10 loops"},
				{name: "folded", keys: "z", shows: "+2", back: "z"},
				{name: "reversed", keys: "ssssS", shows: "sort:value ^", back: "Ss"},
				{name: "filtered", keys: "/import" + enter, shows: "1/10", back: escape + "g"},
				{name: "detail", keys: "jj" + enter, shows: "checkout/export/concurrency", back: escape + "g"},
				{name: "bare", keys: "/shop" + enter + "g", shows: "no loop of its own", back: escape + "g"},
				{name: "order", keys: "jjf", shows: "confirm", back: escape + "g", typing: true},
			},
		},
		{
			name: "steady", daemon: func() *daemon { return fleet(calm) }, words: []string{"= STEADY", "LIVE"},
			scenes: []scene{{shows: "10 loops"}},
		},
		{
			name: "empty", daemon: func() *daemon { return fleet(many(0)) }, words: []string{"No loops"},
			scenes: []scene{{shows: "No loops"}},
		},
		{
			name: "blind", daemon: func() *daemon { return fleet(blind) }, words: []string{"~ HOLD", "DOWN"},
			scenes: []scene{{shows: "10 loops"}},
		},
		{
			name: "stopped", daemon: func() *daemon { return fleet(stopped) }, words: []string{"* FROZEN"},
			scenes: []scene{{shows: "10 loops"}},
		},
		{
			name: "warned", daemon: func() *daemon { return fleet(warned) },
			scenes: []scene{{shows: "10 loops"}},
		},
		{
			name: "team", daemon: func() *daemon { return fleet(team) },
			scenes: []scene{{shows: "48 loops"}},
		},
		{
			name: "foreign", daemon: func() *daemon { return fleet(foreign) },
			scenes: []scene{{shows: "10 loops"}},
		},
		{
			name: "connecting", daemon: func() *daemon { return fleet(func(d *daemon) { d.mute = true }) },
			words: []string{"CONNECTING"}, scenes: []scene{{shows: "CONNECTING"}},
		},
		{
			name: "unreachable", words: []string{"connection refused", "govtop --connect"},
			scenes: []scene{{shows: "Attempt 1 failed; retry in 1s"}},
		},
	}
}

// calm has nothing that needs attention.
func calm(d *daemon) { d.consistsOf(fixture.Calm()) }

// routes has services with routes.
func routes(d *daemon) {
	d.consistsOf(fixture.Routes())
	d.history = fixture.HistoryOf(d.Loops)
}

// blind has lost Prometheus and the leader: every loop holds.
func blind(d *daemon) {
	const long = 95 * time.Second
	lost := fixture.Now.Add(-long)
	d.Status.Prometheus = api.Dependency{
		Address: "http://localhost:9090", Error: "connect: connection refused", Latency: none, LastOK: &lost,
	}
	d.Status.Leader = api.LeaderInfo{}
	d.consistsOf(fixture.Blind(long))
}

// stopped is a fleet whose kill switch is pulled.
func stopped(d *daemon) {
	order := &actuators.Order{
		Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412: the limiter itself is under suspicion",
		At: fixture.Now.Add(-6 * time.Minute),
	}
	d.Status.Freeze = order
	d.consistsOf(fixture.Stopped(order))
}

// warned has a configuration that does not load, and a warning for a person.
func warned(d *daemon) {
	d.Status.Role, d.Status.Instance = api.Standby, "gov-b"
	d.Status.Config.Error = "governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%\n" +
		"governor.yml:6:5: services.checkout.concurency: unknown key; did you mean \"concurrency\"?"
	d.Status.Warnings = []string{"Prometheus scrapes cart, checkout about every 15s, but the configuration says 5s: " +
		"set timing.scrape_interval to the real interval"}
}

// team has services whose names differ only at their ends.
func team(d *daemon) {
	many(48)(d)
	for i := range d.Loops {
		d.rename(i, fmt.Sprintf("team-0-service-%d", i))
	}
}

// foreign has names and reasons that try to drive the terminal, or take more room than they have letters.
func foreign(d *daemon) {
	calm(d)
	for i, name := range []string{
		"a-service-with-a-very-long-name-that-somebody-generated-from-the-path-of-its-repository",
		"結帳サービス決済基盤", "cafe\u0301-re\u0301servation\u0308s", "🛒-warenkorb-🧾",
		"kontó\u200bzero\u200dwidth",
		"esc\x1b[31mred\x1b]0;owned\x07", "right\u202eot-left\u202c", "tab\tand\nnewline", "مدفوعات",
		"c1\u009b2J-🇩🇪-👨\u200d👩\u200d👧",
	} {
		d.rename(i, name)
		d.Loops[i].Decision.Reason = "reason of " + name + ": steady"
	}
	d.Status.Instance, d.Status.Leader.Instance = "gov\x1b[5m-a", "gov\x1b[5m-a"
}
