package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// serve answers every request like a governor of version 1.2.3, with the given status and body.
func serve(t *testing.T, code int, body string, header http.Header) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(VersionHeader, "1.2.3")
		w.Header().Set("Content-Type", "application/json")
		maps.Copy(w.Header(), header)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	client, err := NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestLoopSurvivesTheWire(t *testing.T) {
	sent := Loop{
		Service: "checkout", Knob: control.KnobConcurrency, Mode: control.Enforce, Min: 20, Max: 400, Fallback: 89,
		Since:     time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC),
		Decision:  control.Decision{Service: "checkout", State: control.Cutting, From: 96, Value: 64, Publish: true},
		Published: &Published{Key: "governor/services/checkout/setting", Value: 64, Epoch: 3, Revision: 7},
	}
	body, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	got, err := serve(t, 200, string(body), nil).Loop(t.Context(), "checkout", control.KnobConcurrency)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("got %+v, want %+v", got, sent)
	}
}

func TestUnknownNumbersSurviveTheWire(t *testing.T) {
	body, err := json.Marshal([]Loop{{Decision: control.Decision{Measured: control.Number(math.NaN())}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := serve(t, 200, string(body), nil).Loops(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !math.IsNaN(float64(got[0].Decision.Measured)) {
		t.Errorf("got %+v, want one loop whose measurement is unknown", got)
	}
}

func TestRequestsNameTheResource(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		w.Header().Set(VersionHeader, "1.2.3")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("null"))
	}))
	defer server.Close()
	client, err := NewClient(server.URL + "/governor/") // behind a proxy's prefix
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err1 := client.Status(t.Context())
	_, err2 := client.Loop(t.Context(), "a b", control.KnobRate)
	_, err3 := client.Decisions(t.Context(), Query{Since: 42})
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	want := []string{
		"/governor/api/v1/status", "/governor/api/v1/loops/a%20b/rate", "/governor/api/v1/decisions?since=42",
	}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestErrorsSayWhatToTry(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	absent, err := NewClient(gone.URL)
	if err != nil {
		t.Fatal(err)
	}
	html := http.Header{"Content-Type": {"text/html"}}
	stranger := http.Header{VersionHeader: nil, "Content-Type": {"text/html"}}

	for _, c := range []struct {
		name   string
		client *Client
		want   []string
	}{
		{"nobody there", absent, []string{gone.URL, "refused", "governor run", "--web.listen-address"}},
		{
			"its own error", serve(t, 404, `{"error":"no loop x/rate","hint":"the loops are: checkout/concurrency"}`, nil),
			[]string{"/api/v1/status", "no loop x/rate", "the loops are: checkout/concurrency"},
		},
		{"another program", serve(t, 200, "<html>", stranger), []string{"not come from a governor", DefaultAddress}},
		{
			"a resource it lacks", serve(t, 404, "<html>", html),
			[]string{"governor 1.2.3 does not have", "the one that came with"},
		},
		{
			"types it changed", serve(t, 200, `{"loops":"many"}`, nil),
			[]string{"governor 1.2.3", "the one that came with"},
		},
		{"locked", serve(t, 401, "", nil), []string{"credentials"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.client.Status(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestCancelledCallIsNotAnAbsentDaemon(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := serve(t, 200, "{}", nil).Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestBaseURL(t *testing.T) {
	for spelled, want := range map[string]string{
		"127.0.0.1:9747":             "http://127.0.0.1:9747",
		"https://u:p@gov.example/x/": "https://u:xxxxx@gov.example/x",
		"ftp://host":                 "",
		"":                           "",
		"http://":                    "",
	} {
		client, err := NewClient(spelled)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: no error", spelled)
		case want != "" && (err != nil || client.Address() != want):
			t.Errorf("%q: got %v, %v, want %s", spelled, client, err, want)
		}
	}
}
