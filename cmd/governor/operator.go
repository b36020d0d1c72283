package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	consulapi "github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/loops"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// operatorOptions is an order, and where to write it.
type operatorOptions struct {
	kind    actuators.OrderKind
	loop    loopName
	all     bool
	force   bool
	value   number
	reason  string
	actor   string
	expires orderSpan
	lasts   bool // expires was given
	address string
	prefix  string

	apart   []string        // routes of the service that is acted on as a whole: their loops are others
	steered map[string]bool // the loops that the leader has; nil: it did not tell
}

func freezeCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("freeze", "Keep the value in force, whatever governor measures, until the order expires "+
		"or `governor resume` ends it. A SERVICE without a knob: all its knobs. With --all: the kill switch; freeze every "+
		"loop of every service. The order goes straight to Consul, so it works while governor is down.")
	o := &operatorOptions{kind: actuators.Freeze}
	return o.register(cmd)
}

func resumeCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("resume", "End a freeze or an override: the loop continues from the value in force. "+
		"A SERVICE without a knob: all its knobs. With --all: lift the kill switch.")
	o := &operatorOptions{kind: actuators.Resume}
	return o.register(cmd)
}

func overrideCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("override", "Set a value by hand, within the configured bounds, until the order expires or "+
		"`governor resume` ends it.")
	o := &operatorOptions{kind: actuators.Override}
	return o.register(cmd)
}

// register declares what the commands have in common, and checks it before any request to Consul, so that mistakes on
// the command line are usage errors.
func (o *operatorOptions) register(cmd *kingpin.CmdClause) (string, command) {
	what := "The loop, as SERVICE/KNOB: checkout/concurrency; that of a route, as SERVICE/ROUTE/KNOB."
	if o.kind != actuators.Override {
		what = "The loop, as SERVICE/KNOB: checkout/concurrency; that of a route, as SERVICE/ROUTE/KNOB; or SERVICE, or " +
			"SERVICE/ROUTE, for all its knobs."
		o.loop.whole = true
	}
	loop := cmd.Arg("loop", what)
	if o.kind == actuators.Override {
		loop.Required()
	} else {
		cmd.Flag("all", "Every loop of every service: the kill switch.").BoolVar(&o.all)
	}
	loop.SetValue(&o.loop)
	if o.kind == actuators.Override {
		cmd.Arg("value", "The value: requests in flight per instance for concurrency, requests per second of the whole "+
			"service for rate, a share for shed, retries per request for retry (0 stops them).").Required().SetValue(&o.value)
	}
	cmd.Flag("reason", "Why, for the next person on call.").Required().PlaceHolder("TEXT").StringVar(&o.reason)
	if o.kind != actuators.Resume {
		cmd.Flag("expires", "How long the order lasts, at most 7d.").Default("15m").PlaceHolder("15m").
			IsSetByUser(&o.lasts).SetValue(&o.expires)
	}
	cmd.Flag("actor", "Who gives the order.").Envar("USER").Required().PlaceHolder("NAME").StringVar(&o.actor)
	cmd.Flag("consul.address", "Consul's HTTP address. Default: CONSUL_HTTP_ADDR, else 127.0.0.1:8500. The token comes "+
		"from CONSUL_HTTP_TOKEN, and so on.").PlaceHolder("HOST:PORT").StringVar(&o.address)
	cmd.Flag("consul.prefix", "Prefix of governor's keys, as in its configuration.").Default(actuators.DefaultPrefix).
		StringVar(&o.prefix)
	cmd.Flag("force", "Record the order although no such loop is known: for a loop that is yet to come, or when the keys that "+
		"would show it are gone.").BoolVar(&o.force)
	cmd.Validate(func(*kingpin.CmdClause) error { return o.check() })
	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := interrupt.Context(ctx, nil)
		defer stop()
		return o.give(ctx, plain.NewWriter(stdout), plain.NewWriter(os.Stderr), time.Now())
	}
}

// check reports what the action would be refused for, in terms of the command line.
func (o *operatorOptions) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch named := o.loop.service != ""; {
	case !named && !o.all && o.kind != actuators.Override:
		bad("which loop? name one as SERVICE/KNOB, all of one as SERVICE, or --all for every loop of every service")
	case named && o.all:
		bad("%s and --all: expected one of them", &o.loop)
	case isCall(o.loop.knob):
		bad("%s: the targets of calls take no orders of their own; freeze --all freezes them with all others", &o.loop)
	case o.all && o.lasts:
		bad("--expires=%s: the kill switch does not expire, it lasts until `governor resume --all`", &o.expires)
	}
	switch v := float64(o.value); {
	case o.kind != actuators.Override, v > 0 && !math.IsInf(v, 0):
	case o.loop.knob != "retry":
		bad("value %s: expected a number above 0", &o.value)
	case v != 0:
		bad("value %s: expected a number of at least 0", &o.value)
	}
	for _, flag := range []struct{ name, text string }{{"reason", o.reason}, {"actor", o.actor}} {
		if strings.TrimSpace(flag.text) == "" || len(flag.text) > actuators.MaxWords {
			bad("--%s=%q: expected 1 to %d bytes of text", flag.name, flag.text, actuators.MaxWords)
		}
	}
	if err := actuators.ValidPrefix(o.prefix); err != nil {
		bad("--consul.prefix=%s: %w", o.prefix, err)
	}
	return errors.Join(errs...)
}

// give records the order in Consul and reports the outcome.
func (o *operatorOptions) give(ctx context.Context, out, warnings io.Writer, now time.Time) error {
	config := consulapi.DefaultConfig()
	if o.address != "" {
		config.Address = o.address
	}
	client, err := consul.NewClient(config)
	if err != nil {
		return err
	}
	operators := consul.NewOperators(client, actuators.Keys{Prefix: o.prefix})
	targets, err := o.targets(ctx, operators)
	if err != nil {
		return hintOrder(err, client.Address())
	}
	var failed []error
	for _, target := range targets {
		a := o.action(target, now)
		done, err := operators.Do(ctx, a)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		unsteered := o.steered != nil && !o.steered[target.String()]
		for _, line := range receipt(a, done, unsteered) {
			fmt.Fprintln(out, plain.Clean(line))
		}
		if warning := doubtOf(a, done.Setting); warning != "" {
			fmt.Fprintf(warnings, "governor %s: warning: %s\n", o.kind, warning)
		}
	}
	if len(o.apart) > 0 {
		fmt.Fprintf(warnings, "governor %s: warning: the routes of %s have loops of their own, to which this does not apply: %s\n",
			o.kind, o.loop.service, strings.Join(o.apart, ", "))
	}
	if err = hintOrder(errors.Join(failed...), config.Address); err != nil && len(failed) < len(targets) {
		return fmt.Errorf("%d of the %d knobs of %s were not reached, the others above were: %w",
			len(failed), len(targets), o.loop.service, err)
	}
	return err
}

// leaderTimeout is how long a leader may take to say which loops it has.
const leaderTimeout = 2 * time.Second

// targets are the loops to act on; one without a name is the kill switch. Unless it is forced, an order is only for loops
// that there are: a typo must not pass for a freeze.
func (o *operatorOptions) targets(ctx context.Context, operators *consul.Operators) ([]loopName, error) {
	if o.force && (o.all || o.loop.knob != "") {
		return []loopName{o.loop}, nil
	}
	known, err := operators.Known(ctx)
	switch {
	case err != nil:
		return nil, err
	case o.all && !known.Used && (o.kind == actuators.Freeze || !known.Frozen):
		return nil, fmt.Errorf("there is no key below %s: no governor has ever worked there; another --consul.prefix or "+
			"--consul.address? (--force gives the order anyway)", actuators.Keys{Prefix: o.prefix}.Root())
	case o.all:
		return []loopName{o.loop}, nil
	}
	steered := askLeader(ctx, &known)
	if known.Leader != nil {
		o.steered = map[string]bool{}
		for _, name := range loops.Names(steered) {
			o.steered[name] = true
		}
	}
	for _, l := range steered {
		if o.kind == actuators.Override && l.Service == o.loop.service && string(l.Knob) == o.loop.knob {
			if err := overridable(l, float64(o.value)); err != nil {
				return nil, fmt.Errorf("override %s: %w", &o.loop, err)
			}
		}
	}
	var there []string
	for service, knobs := range known.Knobs {
		for _, knob := range knobs {
			there = append(there, service+"/"+knob)
		}
	}
	switch knobs := known.Knobs[o.loop.service]; {
	case o.loop.knob != "" && slices.Contains(knobs, o.loop.knob):
		return []loopName{o.loop}, nil
	case o.loop.knob == "" && len(knobs) > 0:
		var all []loopName
		for _, knob := range actuators.Knobs { // the targets of calls take no orders of their own
			if slices.Contains(knobs, knob) {
				all = append(all, loopName{service: o.loop.service, knob: knob})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(known.Knobs)) {
			if strings.HasPrefix(name, o.loop.service+"/") {
				o.apart = append(o.apart, name)
			}
		}
		return all, nil
	}
	hint := "--force gives the order anyway"
	if o.loop.knob == "" {
		hint = "to force an order, name the knob"
	}
	if known.Leader == nil {
		hint = "no leader could be asked, and a service in shadow has no Setting; " + hint
	}
	return nil, fmt.Errorf("%w (%s)", loops.Unknown(o.loop.String(), there), hint)
}

// overridable says why the leader would not obey the override of a loop, as its HTTP interface does; nil if it would.
func overridable(l api.Loop, value float64) error {
	switch {
	case l.Mode != control.Enforce:
		return fmt.Errorf("the service is in mode %s: nothing is published, so an override would change nothing "+
			"(--force records it anyway)", l.Mode)
	case value < l.Min || value > l.Max:
		return fmt.Errorf("value %g, expected %g to %g, the bounds in the configuration", value, l.Min, l.Max)
	}
	return nil
}

// askLeader adds the loops that the leader has, among them those without a Setting, and returns them. If it does not
// answer, its name is forgotten: what it has is not known.
func askLeader(ctx context.Context, known *consul.Known) []api.Loop {
	if known.Leader == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	client, err := api.NewClient(known.Leader.API)
	if err != nil {
		known.Leader = nil
		return nil
	}
	defer client.Close()
	all, err := client.Loops(ctx)
	if err != nil {
		known.Leader = nil
		return nil
	}
	for _, l := range all {
		if knob := string(l.Knob); !slices.Contains(known.Knobs[l.Service], knob) {
			known.Knobs[l.Service] = append(known.Knobs[l.Service], knob)
		}
	}
	return all
}

func (o *operatorOptions) action(target loopName, now time.Time) actuators.Action {
	now = now.UTC().Round(time.Microsecond)
	a := actuators.Action{
		Service: target.service, Knob: target.knob, Kind: o.kind, Value: float64(o.value),
		Actor: plain.Clean(o.actor), Reason: plain.Clean(o.reason), At: now,
	}
	if o.kind != actuators.Resume && !o.all {
		a.ExpiresAt = now.Add(time.Duration(o.expires))
	}
	return a
}

// receipt says what was ordered, and who enforces it. Unsteered: the leader has no such loop.
func receipt(a actuators.Action, done consul.Done, unsteered bool) []string {
	var what string
	until := ""
	if !a.ExpiresAt.IsZero() {
		until = " until " + format.Clock(a.ExpiresAt, a.At)
	}
	loop := a.Service + "/" + a.Knob
	switch {
	case a.Service == "" && a.Kind == actuators.Freeze:
		what = fmt.Sprintf("every loop frozen until `governor resume --all` by %s: %s", a.Actor, a.Reason)
	case a.Service == "":
		what = fmt.Sprintf("the kill switch lifted by %s: %s", a.Actor, a.Reason)
	case a.Kind == actuators.Resume:
		what = fmt.Sprintf("%s resumed by %s: %s", loop, a.Actor, a.Reason)
	case a.Kind == actuators.Override:
		what = fmt.Sprintf("%s set to %s%s by %s: %s", loop, trimmed(a.Value), until, a.Actor, a.Reason)
	default:
		at := ""
		if done.Setting != nil {
			if value, _, _, ok := done.Setting.Knob(a.Knob); ok {
				at = " at " + trimmed(value)
			}
		}
		what = fmt.Sprintf("%s frozen%s%s by %s: %s", loop, at, until, a.Actor, a.Reason)
	}
	who := api.NotEnforced
	switch {
	case done.LeaderErr != nil:
		who = fmt.Sprintf("recorded; it is not known whether a leader runs: %v", done.LeaderErr)
	case done.KillSwitch != nil:
		who = fmt.Sprintf("recorded; the kill switch outranks it until `governor resume --all`, by %s: %s",
			done.KillSwitch.Actor, done.KillSwitch.Reason)
	case done.Leader != nil && unsteered:
		who = fmt.Sprintf("recorded; %s (leader) has no such loop, so it enforces this only once its configuration has it",
			done.Leader.Instance)
	case done.Leader != nil:
		who = fmt.Sprintf("%s (leader) enforces it from its next tick", done.Leader.Instance)
	}
	return []string{what, who}
}

// doubtOf says what a person should check if the KV holds nothing for the loop; "" if all is well.
func doubtOf(a actuators.Action, s *actuators.Setting) string {
	switch {
	case a.Service == "":
		return ""
	case s == nil:
		return fmt.Sprintf("recorded; the KV holds no Setting of %s: check the name, or is the service in shadow?", a.Service)
	}
	if _, _, _, ok := s.Knob(a.Knob); !ok {
		return fmt.Sprintf("recorded; the Setting of %s has no %s: check the name of the knob", a.Service, a.Knob)
	}
	return ""
}

// hintOrder adds advice to an error from Consul.
func hintOrder(err error, address string) error {
	_, network := errors.AsType[*url.Error](err)
	switch {
	case errors.Is(err, consul.ErrUnknown):
		return fmt.Errorf("%w (it may have been recorded anyway; it is safe to give the order again)", err)
	case errors.Is(err, consul.ErrDenied):
		return fmt.Errorf("%w (nothing was recorded; the token comes from CONSUL_HTTP_TOKEN, the policy of an operator is "+
			"in docs/consul-acl.md)", err)
	case network && errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: %w", err)
	case network:
		return fmt.Errorf("%w (is a Consul agent at %s? its address is --consul.address or CONSUL_HTTP_ADDR)", err, address)
	}
	return err
}

func trimmed(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// loopName is a loop on the command line, SERVICE/KNOB or SERVICE/ROUTE/KNOB. No route is called like a knob.
type loopName struct {
	service, knob string // the service is SERVICE/ROUTE for a route
	whole         bool   // SERVICE or SERVICE/ROUTE alone is accepted, too: all knobs
}

// Set implements kingpin.Value.
func (l *loopName) Set(text string) error {
	isKnob := func(name string) bool { return slices.Contains(actuators.Knobs[:], name) }
	service, knob, found := strings.Cut(text, "/")
	callee, isCall := control.Knob(knob).Callee()
	if found && !isCall && !isKnob(knob) {
		route, of, deeper := strings.Cut(knob, "/")
		if deeper || l.whole {
			service, knob, found = service+"/"+route, of, deeper
		}
	}
	name := actuators.ValidCompartment(service)
	switch {
	case !found && l.whole && name == nil:
		l.service, l.knob = service, ""
		return nil
	case !found:
		return fmt.Errorf("%q: expected SERVICE/KNOB, like checkout/concurrency", text)
	case name != nil:
		return fmt.Errorf("%q: expected SERVICE/KNOB, with %w", text, name)
	case isCall && actuators.ValidServiceName(callee) != nil:
		return fmt.Errorf("%q: expected SERVICE/calls/DEPENDENCY, with %w", text, actuators.ValidServiceName(callee))
	case !isCall && strings.HasPrefix(knob, "calls/"):
		return fmt.Errorf("%q: a route has no calls of its own, they are those of its service: expected SERVICE/calls/DEPENDENCY", text)
	case !isCall && !isKnob(knob):
		return fmt.Errorf("%q: there is no knob %q, expected one of %s", text, knob, strings.Join(actuators.Knobs[:], ", "))
	}
	l.service, l.knob = service, knob
	return nil
}

// isCall says whether a knob is that of the calls to a dependency.
func isCall(knob string) bool {
	_, ok := control.Knob(knob).Callee()
	return ok
}

// String implements kingpin.Value.
func (l *loopName) String() string {
	if l.knob == "" {
		return l.service
	}
	return l.service + "/" + l.knob
}

// orderSpan is the duration of an order on the command line; see api.ParseExpiry.
type orderSpan time.Duration

// Set implements kingpin.Value.
func (d *orderSpan) Set(text string) error {
	v, err := api.ParseExpiry(text)
	if err != nil {
		return fmt.Errorf("--expires=%s: %w", text, err)
	}
	*d = orderSpan(v)
	return nil
}

// String implements kingpin.Value.
func (d *orderSpan) String() string { return time.Duration(*d).String() }

// number is a value on the command line.
type number float64

// Set implements kingpin.Value.
func (n *number) Set(text string) error {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("value %q: expected a number", text)
	}
	*n = number(v)
	return nil
}

// String implements kingpin.Value.
func (n *number) String() string { return trimmed(float64(*n)) }
