package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/consul/memkv"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/servers"
)

// plays runs governor as a separate process.
func playsGovernor(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), plays+"=1", "USER=ana", "CONSUL_HTTP_TOKEN=")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

// kv is a store behind a listener.
func kv(t *testing.T) (address string, client *consulapi.Client) {
	t.Helper()
	server := httptest.NewServer(memkv.New())
	t.Cleanup(server.Close)
	client, err := consulapi.NewClient(&consulapi.Config{Address: server.URL, HttpClient: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, client
}

func put(t *testing.T, client *consulapi.Client, key string, value any) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err == nil {
		_, err = client.KV().Put(&consulapi.KVPair{Key: key, Value: raw}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// leads gives the leader's lock to an instance.
func leads(t *testing.T, client *consulapi.Client, instance string) {
	t.Helper()
	leadsAt(t, client, instance, "")
}

// leadsAt is leads, with the address of the instance's HTTP interface.
func leadsAt(t *testing.T, client *consulapi.Client, instance, address string) {
	t.Helper()
	session, _, err := client.Session().CreateNoChecks(&consulapi.SessionEntry{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(consul.Holder{Instance: instance, API: address, Epoch: 41})
	if err != nil {
		t.Fatal(err)
	}
	pair := &consulapi.KVPair{Key: actuators.Keys{}.Leader(), Value: raw, Session: session}
	if ok, _, err := client.KV().Acquire(pair, nil); !ok || err != nil {
		t.Fatalf("the lock is not free: %v", err)
	}
}

func stored(t *testing.T, client *consulapi.Client, service string) actuators.Operator {
	t.Helper()
	pair, _, err := client.KV().Get(actuators.Keys{}.Operator(service), nil)
	if err != nil || pair == nil {
		t.Fatalf("no operator key of %s: %v", service, err)
	}
	o, err := actuators.DecodeOperator(pair.Value, service)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFreezeOverrideAndResumeThroughTheKVAlone(t *testing.T) {
	address, client := kv(t)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	put(t, client, actuators.Keys{}.Setting("checkout"), consultest.Setting("checkout", 72, 41, actuators.Setting{}))

	began := time.Now()
	out, errs, code := playsGovernor(t, env, "freeze", "checkout/concurrency", "--reason=INC-1412", "--expires=1d")
	order := stored(t, client, "checkout").Orders["concurrency"]
	want := fmt.Sprintf("checkout/concurrency frozen at 72 until %s by ana: INC-1412\n%s\n",
		format.Clock(order.ExpiresAt, order.At), api.NotEnforced)
	if code != exitOK || out != want || errs != "" {
		t.Errorf("freeze: exit code %d, stderr %q, stdout\n%s\nwant\n%s", code, errs, out, want)
	}
	if order.Kind != actuators.Freeze || order.Actor != "ana" || order.Reason != "INC-1412" ||
		order.ExpiresAt.Sub(order.At) != 24*time.Hour || order.At.Before(began.Add(-time.Second)) {
		t.Errorf("the KV holds %+v", order)
	}

	leads(t, client, "gov-a")
	out, _, code = playsGovernor(t, nil, "override", "checkout/concurrency", "90", "--reason=retry storm", "--actor=ben",
		"--consul.address="+address)
	order = stored(t, client, "checkout").Orders["concurrency"]
	if order.Kind != actuators.Override || order.Value != 90 ||
		order.ExpiresAt.Sub(order.At) != 15*time.Minute {
		t.Errorf("the KV holds %+v", order)
	}
	want = fmt.Sprintf("checkout/concurrency set to 90 until %s by ben: retry storm\n"+
		"gov-a (leader) enforces it from its next tick\n", format.Clock(order.ExpiresAt, order.At))
	if code != exitOK || out != want {
		t.Errorf("override: exit code %d, stdout\n%s\nwant\n%s", code, out, want)
	}

	out, _, code = playsGovernor(t, env, "resume", "checkout/concurrency", "--reason=INC-1412 is over")
	if want := "checkout/concurrency resumed by ana: INC-1412 is over\n"; code != exitOK || !strings.HasPrefix(out, want) {
		t.Errorf("resume: exit code %d, stdout %q", code, out)
	}
	o := stored(t, client, "checkout")
	var kinds []actuators.OrderKind
	for _, a := range o.Audit {
		kinds = append(kinds, a.Kind)
	}
	if len(o.Orders) != 0 || fmt.Sprint(kinds) != "[freeze override resume]" {
		t.Errorf("after all: orders %v, audit %v", o.Orders, kinds)
	}

	// An order for a name that the KV does not have is recorded if it is forced, with a warning.
	for loop, doubt := range map[string]string{
		"chekcout/concurrency": "the KV holds no Setting of chekcout: check the name, or is the service in shadow?",
		"checkout/rate":        "the Setting of checkout has no rate",
	} {
		_, errs, code = playsGovernor(t, env, "freeze", loop, "--reason=x", "--force")
		if doubt = "governor freeze: warning: recorded; " + doubt; code != exitOK || !strings.HasPrefix(errs, doubt) {
			t.Errorf("freeze %s: exit code %d, stderr %q", loop, code, errs)
		}
	}
}

// TestATypoIsNoOrder: a loop, a service or a prefix that there is not is an error that says what was meant; nothing is
// recorded, unless the order is forced.
func TestATypoIsNoOrder(t *testing.T) {
	address, client := kv(t)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	keys := actuators.Keys{}
	put(t, client, keys.Setting("checkout"), consultest.Setting("checkout", 72, 41, actuators.Setting{}))
	for args, want := range map[string]string{
		"override chekout/concurrency 5":         "there is no loop chekout/concurrency; did you mean checkout/concurrency?",
		"freeze chekout/concurrency":             "there is no loop chekout/concurrency; did you mean checkout/concurrency?",
		"resume chekout/concurrency":             "there is no loop chekout/concurrency; did you mean checkout/concurrency?",
		"freeze chekout":                         "there is no service chekout; did you mean checkout?",
		"resume chekout --force":                 "to force an order, name the knob",
		"freeze checkout/shed":                   "there is no loop checkout/shed; checkout has checkout/concurrency",
		"freeze checkout/limit":                  "there is no loop checkout/limit; checkout has checkout/concurrency",
		"freeze --all --consul.prefix=governo/":  "no key below governo/: no governor has ever worked there",
		"resume --all --consul.prefix=governo/":  "no key below governo/: no governor has ever worked there",
		"freeze checkout --consul.prefix=other/": "there is no service checkout (",
	} {
		out, errs, code := playsGovernor(t, env, append(strings.Fields(args), "--reason=x")...)
		if code != exitError || out != "" || !strings.Contains(errs, want) {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
	if all, _, err := client.KV().Keys("", "", nil); err != nil || len(all) != 1 {
		t.Errorf("something was recorded: %v, %v", all, err)
	}
}

// TestOrdersForRoutes: a route is named as its service and itself, and takes orders like a service.
func TestOrdersForRoutes(t *testing.T) {
	address, client := kv(t)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	keys := actuators.Keys{}
	s := consultest.Setting("checkout/export", 30, 41, actuators.Setting{})
	s.Shed = &actuators.Shed{Threshold: 0.5, Fallback: 1, Min: 0.4, Max: 1}
	put(t, client, keys.Setting("checkout"), consultest.Setting("checkout", 72, 41, actuators.Setting{}))
	put(t, client, keys.Setting("checkout/export"), s)
	for _, tc := range []struct{ args, want, warning string }{
		{"override checkout/export/concurrency 40", "checkout/export/concurrency set to 40 until", ""},
		{"freeze checkout/export", "checkout/export/concurrency frozen at 30", ""},
		{"resume checkout/export/shed", "checkout/export/shed resumed by ana", ""},
		{
			"freeze checkout", "checkout/concurrency frozen at 72",
			"governor freeze: warning: the routes of checkout have loops of their own, to which this does not apply: checkout/export\n",
		},
	} {
		out, errs, code := playsGovernor(t, env, append(strings.Fields(tc.args), "--reason=x")...)
		if code != exitOK || !strings.Contains(out, tc.want) || errs != tc.warning {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q", tc.args, code, out, errs)
		}
	}
	if o := stored(t, client, "checkout/export").Orders; len(o) != 1 || o["concurrency"].Kind != actuators.Freeze {
		t.Errorf("the orders of the route are %+v", o)
	}
	if o := stored(t, client, "checkout").Orders; len(o) != 1 {
		t.Errorf("the orders of the service are %+v", o)
	}
	for args, want := range map[string]string{
		"freeze checkout/exprt":                 "there is no loop or route checkout/exprt; did you mean checkout/export?",
		"override checkout/exprt/concurrency 5": "there is no loop checkout/exprt/concurrency; did you mean checkout/export/concurrency?",
		"freeze export":                         "there is no service export; did you mean checkout/export?",
		"override checkout/export/rate 5":       "checkout/export has checkout/export/concurrency, checkout/export/shed",
	} {
		if out, errs, code := playsGovernor(t, env, append(strings.Fields(args), "--reason=x")...); code != exitError || !strings.Contains(errs, want) {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}

// TestAServiceInShadowIsKnownToItsLeader: it has no Setting, but its loops take orders.
func TestAServiceInShadowIsKnownToItsLeader(t *testing.T) {
	address, client := kv(t)
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.VersionHeader, "0.3.0")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`[{"service": "cart", "knob": "rate"}, {"service": "cart", "knob": "calls/payments"}]`))
	}))
	defer leader.Close()
	leadsAt(t, client, "gov-a", leader.URL)
	for _, loop := range []string{"cart/rate", "cart"} {
		out, errs, code := playsGovernor(t, []string{"CONSUL_HTTP_ADDR=" + address}, "freeze", loop, "--reason=x")
		if code != exitOK || !strings.HasPrefix(out, "cart/rate frozen until ") || strings.Contains(out, "calls/") {
			t.Errorf("freeze %s: exit code %d, stdout %q, stderr %q", loop, code, out, errs)
		}
	}
	_, errs, code := playsGovernor(t, []string{"CONSUL_HTTP_ADDR=" + address}, "freeze", "cart/shed", "--reason=x")
	if want := "there is no loop cart/shed; did you mean cart/rate?"; code != exitError || strings.Contains(errs, "no leader could") {
		t.Errorf("exit code %d, stderr %q, want %q", code, errs, want)
	}
}

// TestOverrideThatTheLeaderWouldNotObey: where the KV has no Setting that tells the mode and the bounds, the leader does.
func TestOverrideThatTheLeaderWouldNotObey(t *testing.T) {
	address, client := kv(t)
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.VersionHeader, "0.3.0")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`[{"service": "cart", "knob": "rate", "mode": "shadow", "min": 1, "max": 100},
			{"service": "checkout", "knob": "rate", "mode": "enforce", "min": 1, "max": 100}]`))
	}))
	defer leader.Close()
	leadsAt(t, client, "gov-a", leader.URL)
	for _, tc := range []struct{ loop, value, want string }{
		{"cart/rate", "50", "the service is in mode shadow: nothing is published, so an override would change nothing"},
		{"checkout/rate", "1e300", "value 1e+300, expected 1 to 100, the bounds in the configuration"},
		{"checkout/rate", "50", ""},
	} {
		_, errs, code := playsGovernor(t, []string{"CONSUL_HTTP_ADDR=" + address}, "override", tc.loop, tc.value, "--reason=x")
		if refused := tc.want != ""; refused != (code == exitError) || !strings.Contains(errs, tc.want) {
			t.Errorf("override %s %s: exit code %d, stderr %q, want %q", tc.loop, tc.value, code, errs, tc.want)
		}
	}
}

// TestALoopThatOnlyTheKVHas: the Setting of a service or a route stays when the configuration loses it, and the leader obeys
// no order for it.
func TestALoopThatOnlyTheKVHas(t *testing.T) {
	address, client := kv(t)
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.VersionHeader, "0.3.0")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`[{"service": "checkout", "knob": "concurrency", "mode": "enforce", "min": 1, "max": 100}]`))
	}))
	defer leader.Close()
	leadsAt(t, client, "gov-a", leader.URL)
	for _, name := range []string{"checkout", "checkout/export"} {
		put(t, client, actuators.Keys{}.Setting(name), consultest.Setting(name, 30, 41, actuators.Setting{}))
	}
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	for loop, want := range map[string]string{
		"checkout":                    "gov-a (leader) enforces it from its next tick",
		"checkout/export":             "gov-a (leader) has no such loop",
		"checkout/export/concurrency": "gov-a (leader) has no such loop",
	} {
		out, errs, code := playsGovernor(t, env, "freeze", loop, "--reason=x")
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("freeze %s: exit code %d, stdout %q, stderr %q, want %q", loop, code, out, errs, want)
		}
	}
	_, errs, code := playsGovernor(t, env, "freeze", "checkout/shed", "--reason=x")
	if want := "checkout has checkout/concurrency (--force"; code != exitError || !strings.Contains(errs, want) {
		t.Errorf("exit code %d, stderr %q, want %q: each loop once", code, errs, want)
	}
}

// TestAllKnobsOfAServiceTogether: SERVICE alone freezes and resumes each of its knobs; those that fail are named, and the
// others are in force.
func TestAllKnobsOfAServiceTogether(t *testing.T) {
	address, client := kv(t)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	s := consultest.Setting("checkout", 72, 41, actuators.Setting{})
	s.Rate = &actuators.Rate{PerSecond: 100, Burst: 10, Instances: 1, Fallback: 100, Min: 1, Max: 100}
	s.Shed = &actuators.Shed{Threshold: 0.5, Fallback: 1, Min: 0.4, Max: 1}
	put(t, client, actuators.Keys{}.Setting("checkout"), s)
	out, errs, code := playsGovernor(t, env, "freeze", "checkout", "--reason=INC-1412")
	for _, knob := range []string{"concurrency frozen at 72", "rate frozen at 100", "shed frozen at 0.5"} {
		if !strings.Contains(out, "checkout/"+knob) {
			t.Errorf("it does not say %q: exit code %d, stdout\n%s%s", knob, code, out, errs)
		}
	}
	if n := len(stored(t, client, "checkout").Orders); code != exitOK || n != 3 {
		t.Errorf("exit code %d, %d orders in the KV, want 3", code, n)
	}
	if _, errs, code = playsGovernor(t, env, "resume", "checkout", "--reason=over"); code != exitOK ||
		len(stored(t, client, "checkout").Orders) != 0 {
		t.Errorf("resume: exit code %d, stderr %q, orders %v", code, errs, stored(t, client, "checkout").Orders)
	}

	// The second write is refused.
	writes := 0
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			if writes++; writes == 2 {
				http.Error(w, "disk full", http.StatusInternalServerError)
				return
			}
		}
		target, err := url.Parse(address)
		if err != nil {
			panic(err)
		}
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
	}))
	defer flaky.Close()
	out, errs, code = playsGovernor(t, nil, "freeze", "checkout", "--reason=x", "--consul.address="+flaky.URL)
	if code != exitError || !strings.Contains(errs, "1 of the 3 knobs of checkout were not reached") ||
		strings.Count(out, " frozen at ") != 2 || len(stored(t, client, "checkout").Orders) != 2 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestKillSwitch(t *testing.T) {
	address, client := kv(t)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	keys := actuators.Keys{Prefix: "teams/shop/"}
	key := keys.Freeze()
	put(t, client, keys.Setting("checkout"), consultest.Setting("checkout", 72, 41, actuators.Setting{}))
	all := []string{"--all", "--reason=INC-1412", "--consul.prefix=teams/shop/"}
	out, errs, code := playsGovernor(t, env, append([]string{"freeze"}, all...)...)
	want := "every loop frozen until `governor resume --all` by ana: INC-1412\n" + api.NotEnforced + "\n"
	if code != exitOK || out != want || errs != "" {
		t.Errorf("exit code %d, stderr %q, stdout\n%s\nwant\n%s", code, errs, out, want)
	}
	pair, _, err := client.KV().Get(key, nil)
	if err != nil || pair == nil {
		t.Fatalf("no kill switch: %v", err)
	}
	o := actuators.DecodeFreeze(pair.Value)
	if o.Actor != "ana" || o.Reason != "INC-1412" || !o.ExpiresAt.IsZero() || o.At.IsZero() {
		t.Errorf("the kill switch reads %+v", o)
	}
	out, _, code = playsGovernor(t, env, "freeze", "checkout/concurrency", "--reason=x", "--consul.prefix=teams/shop/")
	if want = "recorded; the kill switch outranks it until `governor resume --all`, by ana: INC-1412\n"; code != exitOK ||
		!strings.HasSuffix(out, want) {
		t.Errorf("an order under the kill switch: exit code %d, stdout\n%s\nwant\n%s", code, out, want)
	}
	out, _, code = playsGovernor(t, env, append([]string{"resume"}, all...)...)
	if want = "the kill switch lifted by ana: INC-1412\n"; code != exitOK || !strings.HasPrefix(out, want) {
		t.Errorf("exit code %d, stdout %q, want %q", code, out, want)
	}
	if pair, _, err = client.KV().Get(key, nil); err != nil || pair != nil {
		t.Errorf("the kill switch stands: %v, %v", pair, err)
	}
}

// Mistakes on the command line are reported before any request to Consul, which is not there.
func TestOrdersThatAreRefusedByTheCommandLine(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"freeze checkout/concurrency", "'--reason' not provided"},
		{"freeze --reason=x", "which loop? name one as SERVICE/KNOB, all of one as SERVICE, or --all"},
		{"override checkout 5 --reason=x", `"checkout": expected SERVICE/KNOB, like checkout/concurrency`},
		{"freeze check\tout --reason=x", `expected SERVICE/KNOB`},
		{"freeze checkout --all --reason=x", "checkout and --all: expected one of them"},
		{"freeze check\tout/rate --reason=x", "a service name: 1 to 128 ASCII letters"},
		{"override checkout/limit 5 --reason=x", `there is no knob "limit", expected one of concurrency, rate, shed, retry`},
		{"freeze checkout/export/limit --reason=x", `there is no knob "limit", expected one of concurrency, rate, shed, retry`},
		{"freeze checkout//rate --reason=x", "after the slash the name of a route, which is valid as a service name"},
		{"freeze checkout/export/calls/payments --reason=x", "a route has no calls of its own, they are those of its service"},
		{"freeze checkout/rate --all --reason=x", "checkout/rate and --all: expected one of them"},
		{"freeze --all --expires=15m --reason=x", "the kill switch does not expire"},
		{"freeze checkout/rate --expires=15 --reason=x", "--expires=15: not a duration like 90s, 15m, 2h30m or 1d"},
		{"freeze checkout/rate --expires=0s --reason=x", "--expires=0s: must be more than 0"},
		{"freeze checkout/rate --expires=8d --reason=x", "--expires=8d: at most 7d"},
		{"freeze checkout/rate --expires=169h --reason=x", "--expires=169h: at most 7d"},
		{"freeze checkout/rate --reason=", `--reason="": expected 1 to 200 bytes of text`},
		{"freeze checkout/rate --actor= --reason=x", `--actor="": expected 1 to 200 bytes of text`},
		{"freeze checkout/rate --reason=x --consul.prefix=//", "--consul.prefix=//: "},
		{"resume --reason=x", "which loop?"},
		{"resume checkout/rate --expires=15m --reason=x", "unknown long flag '--expires'"},
		{"override checkout/rate --reason=x", "'value' not provided"},
		{"override checkout/rate much --reason=x", `value "much": expected a number`},
		{"override checkout/rate 0 --reason=x", "value 0: expected a number above 0"},
		{"override checkout/rate NaN --reason=x", "value NaN: expected a number above 0"},
		{"override checkout/rate Inf --reason=x", "value +Inf: expected a number above 0"},
		{"freeze checkout/calls/payments --reason=x", "checkout/calls/payments: the targets of calls take no orders of their own"},
		{"freeze checkout/calls/ --reason=x", "expected SERVICE/calls/DEPENDENCY, with a service name"},
		{"override checkout/retry NaN --reason=x", "value NaN: expected a number of at least 0"},
		{"override --all 5 --reason=x", "unknown long flag '--all'"},
		{"explain", "'loop' not provided"},
		{"explain ../rate", "expected SERVICE/KNOB"},
		{"explain checkout/rate --connect=ftp://x", "--connect: \"ftp://x\" is not the address of a governor"},
	} {
		out, errs, code := playsGovernor(t, []string{"CONSUL_HTTP_ADDR=127.0.0.1:1"}, strings.Split(tc.args, " ")...)
		if code != exitUsage || out != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q, want it to say %q", tc.args, code, out, errs, tc.want)
		}
	}
}

func TestOrdersThatConsulDoesNotTake(t *testing.T) {
	address, client := kv(t)
	keys := actuators.Keys{}
	put(t, client, keys.Setting("checkout"), consultest.Setting("checkout", 72, 41, actuators.Setting{}))
	put(t, client, keys.Operator("cart"), "\x1b[2Jnonsense\u009b")
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			http.Error(w, "Permission denied: token lacks permission 'key:write'", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Consul-Index", "1")
		http.NotFound(w, r)
	}))
	defer denies.Close()
	hangsUp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Consul-Index", "1")
		http.NotFound(w, r)
	}))
	defer hangsUp.Close()
	for _, tc := range []struct {
		address, args string
		want          []string
	}{
		{hangsUp.URL, "freeze checkout/concurrency --force", []string{"EOF", "it may have been recorded anyway"}},
		{hangsUp.URL, "resume --all --force", []string{"EOF", "it may have been recorded anyway"}},
		{servers.Unused(t), "resume --all", []string{"connection refused", "is a Consul agent at 127.0.0.1:"}},
		{servers.Unused(t), "freeze checkout/concurrency", []string{
			"connection refused", "is a Consul agent at 127.0.0.1:", "--consul.address or CONSUL_HTTP_ADDR",
		}},
		{denies.URL, "freeze checkout/concurrency --force", []string{
			`the token lacks the rule key "governor/services/checkout/operator" { policy = "write" }`, "docs/consul-acl.md",
		}},
		{denies.URL, "freeze --all --force", []string{`the token lacks the rule key "governor/freeze" { policy = "write" }`}},
		{address, "override checkout/concurrency 2000", []string{"value 2000, expected 1 to 1000, the bounds"}},
		{address, "override checkout/rate 50 --force", []string{"the Setting of checkout has no rate"}},
		{address, "freeze cart/concurrency", []string{
			"the operator key of service", "consul kv delete governor/services/cart/operator",
		}},
	} {
		args := append(strings.Split(tc.args, " "), "--reason=x", "--consul.address="+tc.address)
		out, errs, code := playsGovernor(t, nil, args...)
		if code != exitError || out != "" || strings.Count(errs, "\n") != 1 || acted(errs) != "" {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q", tc.args, code, out, errs)
		}
		for _, want := range tc.want {
			if !strings.Contains(errs, want) {
				t.Errorf("governor %s: stderr %q, want it to say %q", tc.args, errs, want)
			}
		}
	}
	if pair, _, err := client.KV().Get(keys.Operator("checkout"), nil); err != nil || pair != nil {
		t.Errorf("something was recorded: %v, %v", pair, err)
	}
}

// An order is recorded and reported as recorded even if the leader cannot be determined.
func TestOrderIsRecordedThoughTheLeaderIsUnknown(t *testing.T) {
	address, client := kv(t)
	leads(t, client, "gov-a")
	pair, _, err := client.KV().Get(actuators.Keys{}.Leader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pair.Value = []byte("nonsense")
	if ok, _, err := client.KV().Acquire(pair, nil); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	out, _, code := playsGovernor(t, []string{"CONSUL_HTTP_ADDR=" + address}, "freeze", "checkout/rate", "--reason=x", "--force")
	if code != exitOK || !strings.Contains(out, "recorded; it is not known whether a leader runs: the lock governor/leader is held by ") {
		t.Errorf("exit code %d, stdout %q", code, out)
	}
	if o := stored(t, client, "checkout"); len(o.Orders) != 1 {
		t.Errorf("the KV holds %+v", o)
	}
}

// hostile is text that Consul, Prometheus or a person might send: a color, a title, a C1 control, a forged line, a
// bidirectional override.
const hostile = "\x1b[31mred\x1b]0;owned\a \u009b2J\x9b \u202e\nlevel=info msg=forged"

// acted returns the part of a text that a terminal would act on; "" if there is none.
func acted(text string) string {
	if i := strings.IndexFunc(text, func(r rune) bool {
		return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028')
	}); i >= 0 {
		return fmt.Sprintf("%q", text[max(0, i-10):min(len(text), i+10)])
	}
	return ""
}

// No foreign text reaches a terminal unchanged.
func TestForeignTextIsCleanedEverywhere(t *testing.T) {
	address, client := kv(t)
	leads(t, client, "gov\u009b-"+hostile)
	env := []string{"CONSUL_HTTP_ADDR=" + address}
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "execution", "error": hostile})
	}))
	defer rude.Close()
	file := filepath.Join(t.TempDir(), "governor.yml")
	config := strings.ReplaceAll(goodConfig, "http://localhost:9090", rude.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := write(t, strings.ReplaceAll(goodConfig, "99%", `"\e[31m99\x9b"`))

	// A Setting with hostile text, and one that cannot be read at all.
	setting := consultest.Setting("checkout", 72, 41, actuators.Setting{})
	setting.Reason = hostile
	put(t, client, actuators.Keys{}.Setting("checkout"), setting)
	put(t, client, actuators.Keys{}.Setting("broken"), hostile)

	for _, tc := range []struct {
		args []string
		says string // of what was told
	}{
		{[]string{"freeze", "checkout/concurrency", "--reason=" + hostile, "--actor=\x1b]0;x\aana"}, "red"},
		{[]string{"check-config", bad}, "99"},
		{[]string{"check-config", "--online", file}, "level=info msg=forged"},
	} {
		out, errs, _ := playsGovernor(t, env, tc.args...)
		if bad := acted(out + errs); bad != "" || !strings.Contains(out+errs, tc.says) {
			t.Errorf("governor %s prints %s, or does not say %s:\n%s%s", tc.args[0], bad, tc.says, out, errs)
		}
		if strings.Contains("\n"+out+errs, "\nlevel=info") {
			t.Errorf("governor %s prints a forged line:\n%s%s", tc.args[0], out, errs)
		}
	}
}

// A sidecar logs what is wrong with a Setting, and why its upstream does not answer, in one line each.
func TestSidecarLogsForeignTextQuoted(t *testing.T) {
	address, client := kv(t)
	put(t, client, actuators.Keys{}.Setting("checkout"), hostile)
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			log := &waittest.Buffer{}
			cmd := exec.Command(self, "sidecar", "--service=checkout", "--slo.latency=1s", "--listen=127.0.0.1:0",
				"--web.listen-address=127.0.0.1:0", "--log.format="+format)
			cmd.Env = append(os.Environ(), plays+"=1", "CONSUL_HTTP_ADDR="+address)
			cmd.Stdout, cmd.Stderr = log, log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			waittest.Until(t, "the Setting is refused in the log", func() bool {
				return strings.Contains(log.String(), "setting refused")
			})
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the sidecar ends with %v", err)
			}
			if bad := acted(log.String()); bad != "" || !strings.Contains(log.String(), "red") ||
				strings.Contains(log.String(), "\nlevel=info msg=forged") {
				t.Errorf("the log holds %s, or does not say what it was:\n%s", bad, log)
			}
		})
	}
}
