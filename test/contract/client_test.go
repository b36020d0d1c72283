package contract

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

// A token that was deleted and one that lacks a rule are told apart by Consul's own words, and a new token in the file is
// used without a restart.
func TestRotatedTokenIsUsedAndAnUnknownOneIsCalledSo(t *testing.T) {
	server := servers.Consul(t, servers.Config(aclConfig))
	root := connect(t, server.Address(), management)
	policy, _, err := root.ACL().PolicyCreate(&api.ACLPolicy{Name: "guard", Rules: documented(t, "guard-calls")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	issue := func() *api.ACLToken {
		t.Helper()
		token, _, err := root.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return token
	}
	keys := actuators.Keys{}
	first := issue()
	client, err := consul.NewClient(&api.Config{Address: server.Address(), TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	if _, err := publisher.Read(t.Context(), "checkout"); err != nil {
		t.Fatal(err)
	}
	if _, err := publisher.Read(t.Context(), "cart"); !errors.Is(err, consul.ErrDenied) ||
		errors.Is(err, consul.ErrUnknownToken) || !strings.Contains(err.Error(), "lacks the rule") {
		t.Errorf("a missing rule: %v", err)
	}
	if _, err := root.ACL().TokenDelete(first.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	waittest.Within(t, 30*time.Second, "Consul to forget the token", func() bool {
		_, err := publisher.Read(t.Context(), "checkout")
		return errors.Is(err, consul.ErrUnknownToken) && !strings.Contains(err.Error(), "rule")
	})
	second := issue()
	waittest.Within(t, 30*time.Second, "the new token", func() bool {
		_, err := publisher.Read(t.Context(), "checkout")
		return err == nil
	})
	if text := fmt.Sprint(client.Address(), err); strings.Contains(text, second.SecretID) {
		t.Errorf("a token is shown: %s", text)
	}
}

// Guards beyond the number of connections that Consul accepts from one address are told so, print nothing of their own, and
// get their Settings as soon as there is room.
func TestWatchesBeyondConsulsConnectionLimitSurvive(t *testing.T) {
	var printed waittest.Buffer
	log.SetOutput(&printed)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	server := servers.Consul(t, servers.Config("limits {\n  http_max_conns_per_client = 5\n}"))
	keys := actuators.Keys{}
	writer := connect(t, server.Address(), "")
	if _, err := writer.KV().Put(&api.KVPair{Key: keys.Setting("checkout"), Value: []byte("v")}, nil); err != nil {
		t.Fatal(err)
	}
	writer.CloseIdleConnections()
	const watches = 12
	var mu sync.Mutex
	var errs []string
	applied := map[int]bool{}
	cancels := make([]context.CancelFunc, watches)
	var watching sync.WaitGroup
	for i := range watches {
		client := connect(t, server.Address(), "")
		watcher := &consul.Watcher{Client: client, Wait: 2 * time.Second, MaxPause: time.Second, OnError: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err.Error())
		}}
		var ctx context.Context
		ctx, cancels[i] = context.WithCancel(t.Context())
		watching.Go(func() {
			defer client.CloseIdleConnections()
			_ = watcher.WatchParts(ctx, "checkout", func(_ actuators.Part, raw []byte) {
				mu.Lock()
				defer mu.Unlock()
				applied[i] = string(raw) == "v"
			})
		})
	}
	supplied := func() int { mu.Lock(); defer mu.Unlock(); return len(applied) }
	refused := func() int { mu.Lock(); defer mu.Unlock(); return len(errs) }
	waittest.Within(t, 30*time.Second, "the first watches, and refusals of others", func() bool {
		return supplied() >= 4 && refused() >= 10
	})
	for more := true; more; { // those that have their Setting make room, until all had it
		mu.Lock()
		for i := range applied {
			cancels[i]()
		}
		more = len(applied) < watches
		before := len(applied)
		mu.Unlock()
		if more {
			waittest.Within(t, 30*time.Second, "a watch that had no connection", func() bool { return supplied() > before })
		}
	}
	for _, cancel := range cancels {
		cancel()
	}
	watching.Wait()
	for _, text := range errs {
		if !strings.Contains(text, "http_max_conns_per_client") || strings.Contains(text, "\n") {
			t.Errorf("%s: want one line that names the limit", text)
		}
	}
	if text := printed.String(); text != "" {
		t.Errorf("printed %s", text)
	}
}

// One token and one connection for all guards of a process.
func TestDocumentedPolicyForSeveralGuards(t *testing.T) {
	client := entitled(t)
	keys := actuators.Keys{}
	governor := client("governor", documented(t, "governor"))
	for _, service := range []string{"checkout", "cart"} {
		if _, err := governor.KV().Put(&api.KVPair{Key: keys.Setting(service), Value: []byte(service)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	values := make(chan string, 10)
	watcher := &consul.Watcher{Client: client("guards", documented(t, "guards")), OnError: func(err error) { values <- err.Error() }}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	for _, service := range []string{"checkout", "cart"} {
		watching.Go(func() {
			_ = watcher.WatchParts(ctx, service, func(_ actuators.Part, raw []byte) { values <- string(raw) })
		})
	}
	got := map[string]bool{}
	for range 2 {
		select {
		case value := <-values:
			got[value] = true
		case <-time.After(15 * time.Second):
		}
	}
	cancel()
	watching.Wait()
	if !got["checkout"] || !got["cart"] || len(values) > 0 {
		t.Errorf("got %v, and %d more", got, len(values))
	}
}
