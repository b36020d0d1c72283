package embedded

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, options Options) *World {
	t.Helper()
	w, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// consulAt returns a client with its own connections, closed with the test.
func consulAt(t *testing.T, address string) *consul.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address, config.Token = address, ""
	client, err := consul.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestBothConsulsKeepTheContract(t *testing.T) {
	for name, address := range map[string]string{
		"real": servers.Consul(t).Address(), "embedded": start(t, Options{}).ConsulAddr(),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); consultest.Run(t, consulAt(t, address)) })
	}
}

func TestAnswersSayThatTheyAreEmbedded(t *testing.T) {
	w := start(t, Options{})
	for address, want := range map[string]string{
		w.PrometheusURL() + "/api/v1/query?query=up":         "prometheus",
		w.PrometheusURL() + "/-/ready":                       "prometheus",
		w.PrometheusURL() + "/nothing":                       "prometheus",
		"http://" + w.ConsulAddr() + "/v1/kv/none":           "kv",
		"http://" + w.ConsulAddr() + "/v1/catalog/services":  "kv",
		"http://" + w.ConsulAddr() + "/v1/status/leader?x=y": "kv",
	} {
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Governor-Embedded"); got != want {
			t.Errorf("GET %s: X-Governor-Embedded: %q, want %q", address, got, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestKilledConsulComesBackWithItsDataAndItsSessions(t *testing.T) {
	w := start(t, Options{})
	address := w.ConsulAddr()
	client := consulAt(t, address)
	id, _, err := client.Session().CreateNoChecks(&api.SessionEntry{TTL: "10s", LockDelay: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lock := &api.KVPair{Key: "lock", Session: id, Value: []byte("held")}
	if ok, _, err := client.KV().Acquire(lock, nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	pair, meta, err := client.KV().Get("lock", nil)
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() {
		_, _, err := client.KV().Get("lock", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute})
		blocked <- err
	}()
	time.Sleep(100 * time.Millisecond) // the query need not be there yet: refused or cut, it ends in an error
	w.Consul.Stop()
	w.Consul.Stop()
	select {
	case err := <-blocked:
		if err == nil {
			t.Error("a killed server has answered")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the blocked query outlives the server")
	}
	if _, _, err := client.KV().Get("lock", nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("read from a killed server: %v", err)
	}
	for range 2 {
		if err := w.Consul.Start(); err != nil {
			t.Fatal(err)
		}
	}
	again, _, err := client.KV().Get("lock", nil)
	if err != nil || again == nil || again.Session != id || again.ModifyIndex != pair.ModifyIndex {
		t.Errorf("after the restart: %+v, %v; want %+v", again, err, pair)
	}
	if w.ConsulAddr() != address {
		t.Errorf("restarted at %s, want %s", w.ConsulAddr(), address)
	}
	if entry, _, err := client.Session().Renew(id, nil); err != nil || entry == nil {
		t.Errorf("renew after the restart: %+v, %v", entry, err)
	}
}

func TestKilledPrometheusComesBackWithItsData(t *testing.T) {
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "x 1\n")
	}))
	defer exporter.Close()
	w := start(t, Options{
		ScrapeInterval: 50 * time.Millisecond,
		Targets:        []prom.TargetGroup{{Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}}},
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	query := func(q string) (string, error) {
		resp, err := client.Get(w.PrometheusURL() + "/api/v1/query?query=" + url.QueryEscape(q))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	eventually := func(what, q, wanted string) {
		t.Helper()
		waittest.Succeeds(t, 10*time.Second, what, func() error {
			body, err := query(q)
			if err == nil && !strings.Contains(body, wanted) {
				err = fmt.Errorf("the answer is %s", body)
			}
			return err
		})
	}
	eventually("scraped", "count_over_time(x[1m])>5", `"metric"`)
	w.Prometheus.Stop()
	if body, err := query("up"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a killed server answers %s, %v", body, err)
	}
	restarted := float64(time.Now().UnixMilli()) / 1000
	if err := w.Prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	if body, err := query("count_over_time(x[1m])>5"); err != nil || !strings.Contains(body, `"metric"`) {
		t.Errorf("after the restart: %s, %v", body, err)
	}
	eventually("scraped again", fmt.Sprintf("timestamp(x) > %.3f", restarted), `"metric"`)
	w.SetTargets()
	eventually("the removed target is stale", "absent(x)", `"metric"`)
}
