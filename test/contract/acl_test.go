package contract

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

// A Consul that denies everything that no rule allows. Requests without a token, such as those that wait for its start,
// get the management token; every client of the tests has its own token.
const (
	management = "7f2c1c1e-2f0b-4e8e-9f0e-5d0a3c9b6a11"
	aclConfig  = `acl {
  enabled                = true
  default_policy         = "deny"
  enable_key_list_policy = true
  tokens {
    initial_management = "` + management + `"
    agent              = "` + management + `"
    default            = "` + management + `"
  }
}`
)

// documented returns the named policy from docs/consul-acl.md.
func documented(t *testing.T, name string) string { return shown(t, "consul-acl.md", "hcl "+name) }

// shown returns the code blocks of one kind on a page of the manual.
func shown(t *testing.T, page, kind string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```"+kind+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("docs/%s shows no %s", page, kind)
	}
	return block
}

// entitled returns clients of a Consul that denies everything that no rule allows, each with a token for the given
// rules.
func entitled(t *testing.T) func(name, rules string) *consul.Client {
	t.Helper()
	server := servers.Consul(t, servers.Config(aclConfig))
	root := connect(t, server.Address(), management)
	return func(name, rules string) *consul.Client {
		t.Helper()
		policy, _, err := root.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := root.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return connect(t, server.Address(), token.SecretID)
	}
}

// without returns rules without the line that starts with prefix.
func without(t *testing.T, rules, prefix string) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(rules) {
		if !strings.HasPrefix(line, prefix) {
			kept = append(kept, line)
		}
	}
	if less := strings.Join(kept, ""); less != rules {
		return less
	}
	t.Fatalf("no line starts with %s in\n%s", prefix, rules)
	return ""
}

// run runs an Elector until the test ends or stop is called.
func run(t *testing.T, client *consul.Client, instance string) (e *consul.Elector, stop func()) {
	t.Helper()
	e, err := consul.NewElector(client, consul.ElectorOptions{Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx, nil) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return e, stop
}

// Item A19: hashicorp/consul-esm#107. The policies in the manual are sufficient, and every rule in them is necessary.
func TestDocumentedPoliciesAreEnoughAndTheLeast(t *testing.T) {
	client := entitled(t)
	rules := documented(t, "governor")
	governor := client("governor", rules)
	guard := client("guard", documented(t, "guard"))
	operator := client("operator", documented(t, "operator"))
	keys := actuators.Keys{}

	e, stop := run(t, governor, "a")
	waittest.Until(t, "governor leads", func() bool { return e.State().Leading })
	fence, _ := e.Fence()

	// The guard watches, and sees what governor publishes.
	values := make(chan []byte, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	watcher := consul.Watcher{Client: guard, OnError: func(err error) {
		if ctx.Err() == nil {
			t.Error(err)
		}
	}}
	go func() { defer close(done); _ = watcher.Watch(ctx, "checkout", func(raw []byte) { values <- raw }) }()
	defer func() { cancel(); <-done }()
	<-values // nothing there yet
	publisher := consul.NewPublisher(governor, keys, consul.PublisherOptions{})
	setting := consultest.Setting("checkout", 40, fence.Epoch, actuators.Setting{})
	index, err := publisher.Publish(t.Context(), fence, setting, 0)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case raw := <-values:
		if _, err := actuators.Accept(raw, "checkout", actuators.Setting{}); err != nil {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the guard has not seen the setting")
	}
	if all, err := publisher.ReadAll(t.Context()); err != nil || all.Settings["checkout"].Index != index {
		t.Errorf("governor reads %+v, %v", all, err)
	}

	// What each token must not be able to do.
	putAs := func(c *consul.Client, key string) error {
		_, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte("{}")}, nil)
		return err
	}
	for name, err := range map[string]error{
		"guard writes its setting":            putAs(guard, keys.Setting("checkout")),
		"guard writes the operator's key":     putAs(guard, keys.Operator("checkout")),
		"guard writes the lock's key":         putAs(guard, keys.Leader()),
		"governor writes the kill switch":     putAs(governor, keys.Freeze()),
		"governor writes elsewhere":           putAs(governor, "other/key"),
		"operator writes the setting":         putAs(operator, keys.Setting("checkout")),
		"operator writes the lock's key":      putAs(operator, keys.Leader()),
		"guard reads another service":         errOf3(guard.KV().Get(keys.Setting("cart"), nil)),
		"guard creates a session":             errOf3(guard.Session().CreateNoChecks(&api.SessionEntry{}, nil)),
		"operator creates a session":          errOf3(operator.Session().CreateNoChecks(&api.SessionEntry{}, nil)),
		"operator writes another service's":   putAs(operator, keys.Operator("cart")),
		"guard destroys the leader's session": errOf2(guard.Session().Destroy(fence.Session, nil)),
	} {
		if err == nil {
			t.Errorf("%s", name)
		}
	}
	for name, err := range map[string]error{
		"operator freezes all":     putAs(operator, keys.Freeze()),
		"operator freezes one":     putAs(operator, keys.Operator("checkout")),
		"governor writes for one":  putAs(governor, keys.Operator("checkout")),
		"governor reads the brake": errOf3(governor.KV().Get(keys.Freeze(), nil)),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// An error names a missing rule: on a standby while another governor leads, and on a leader that writes.
	noSession, stopNoSession := run(t, client("no-session", without(t, rules, "session_prefix")), "b")
	waittest.Until(t, "the missing session rule is named by a standby that knows the leader", func() bool {
		s := noSession.State()
		return errors.Is(s.Err, consul.ErrDenied) &&
			strings.Contains(s.Err.Error(), `session_prefix "" { policy = "write" }`) && s.Holder.Instance == "a"
	})
	stopNoSession()
	noServices := client("no-services", without(t, rules, `key_prefix "governor/services/"`))
	bare := consul.NewPublisher(noServices, keys, consul.PublisherOptions{})
	_, err = bare.Publish(t.Context(), fence, consultest.Setting("checkout", 40, fence.Epoch, setting), index)
	if !errors.Is(err, consul.ErrDenied) ||
		!strings.Contains(err.Error(), `key_prefix "governor/services/" { policy = "write" }`) {
		t.Errorf("publish without the rule: %v", err)
	}
	stop()
	noLock, _ := run(t, client("no-lock", without(t, rules, `key "governor/leader"`)), "c")
	waittest.Until(t, "the missing rule for the lock is named", func() bool {
		err := noLock.State().Err
		return errors.Is(err, consul.ErrDenied) && strings.Contains(err.Error(), `key "governor/leader" { policy = "write" }`)
	})
}

// A rule below the prefix of a service that denies some of its keys would go unnoticed: Consul leaves them out of the list. So the
// guard names the prefix, if it is that of a service that it watches.
func TestKeysThatAreFilteredAreReported(t *testing.T) {
	client := entitled(t)
	keys := actuators.Keys{}
	governor := client("governor", documented(t, "governor"))
	for _, key := range []string{
		keys.Setting("checkout"), keys.Setting("checkout/export"), keys.Setting("cart"), keys.Setting("search"),
	} {
		if _, err := governor.KV().Put(&api.KVPair{Key: key, Value: []byte("{}")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	guard := client("denied", `
key_prefix "governor/services/" { policy = "list" }
key_prefix "governor/services/checkout/routes/" { policy = "deny" }
key_prefix "governor/services/cart/" { policy = "deny" }
`)
	for services, lacks := range map[string]string{"checkout": "checkout", "checkout search": "checkout", "search": ""} {
		t.Run(services, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			denied, values := make(chan error, 10), make(chan string, 10)
			watcher := consul.Watcher{Client: guard, OnError: func(err error) { denied <- err }}
			var watching sync.WaitGroup
			for service := range strings.FieldsSeq(services) {
				watching.Go(func() {
					_ = watcher.WatchParts(ctx, service, func(actuators.Part, []byte) { values <- service })
				})
			}
			defer func() { cancel(); watching.Wait() }()
			for range strings.FieldsSeq(services) {
				select {
				case <-values:
				case <-time.After(15 * time.Second):
					t.Fatal("no setting")
				}
			}
			if lacks == "" {
				if len(denied) > 0 {
					t.Errorf("reported %v", <-denied)
				}
				return
			}
			select {
			case err := <-denied:
				if prefix := keys.Service(lacks) + "routes/"; !errors.Is(err, consul.ErrDenied) || !strings.Contains(err.Error(), "watch "+prefix+": ") {
					t.Errorf("reported %v, expected %s to be named", err, prefix)
				}
			case <-time.After(15 * time.Second):
				t.Error("nothing reported")
			}
		})
	}
}

func errOf3[A, B any](_ A, _ B, err error) error { return err }
func errOf2[A any](_ A, err error) error         { return err }

// A guard with the rule for calls follows all keys of its service and no other's. With the rule for its own key alone it
// follows that, and says what it lacks.
func TestDocumentedPolicyForCalls(t *testing.T) {
	client := entitled(t)
	keys := actuators.Keys{}
	governor := client("governor", documented(t, "governor"))
	for key, text := range map[string]string{
		keys.Setting("checkout"): "own", keys.CallSetting("checkout", "payments"): "calls", keys.Setting("cart"): "foreign",
	} {
		if _, err := governor.KV().Put(&api.KVPair{Key: key, Value: []byte(text)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for policy, want := range map[string]string{"guard": "=own", "guard-calls": "=own payments=calls"} {
		guard := client(policy, documented(t, policy))
		ctx, cancel := context.WithCancel(t.Context())
		values, denied := make(chan string, 10), make(chan error, 10)
		watcher := consul.Watcher{Client: guard, OnError: func(err error) { denied <- err }}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = watcher.WatchParts(ctx, "checkout", func(part actuators.Part, raw []byte) { values <- part.Callee + "=" + string(raw) })
		}()
		var got []string
		for range strings.FieldsSeq(want) {
			select {
			case value := <-values:
				got = append(got, value)
			case <-time.After(15 * time.Second):
			}
		}
		cancel()
		<-done
		if strings.Join(got, " ") != want || len(values) > 0 {
			t.Errorf("%s: watched %q, expected %q", policy, got, want)
		}
		if lacks := len(denied) > 0 && errors.Is(<-denied, consul.ErrDenied); lacks != (policy == "guard") {
			t.Errorf("%s: denied %v", policy, lacks)
		}
		if _, _, err := guard.KV().List(keys.Service("cart"), nil); err == nil {
			t.Errorf("%s: reads the keys of another service", policy)
		}
	}
}
