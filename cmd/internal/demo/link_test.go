package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func TestCutLinkIsDeadUntilItIsMended(t *testing.T) {
	hold := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "here")
	}))
	defer server.Close()
	defer close(hold)
	l, err := newLink(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.cut()
	address := l.address
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) (string, error) {
		resp, err := client.Get("http://" + address + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	if body, err := get("/"); err != nil || body != "here" {
		t.Fatalf("through the link: %q, %v", body, err)
	}
	hanging := make(chan error, 1)
	go func() {
		_, err := get("/hangs")
		hanging <- err
	}()
	waittest.Until(t, "the call is under way", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) > 0
	})
	l.cut()
	l.cut()
	if err := <-hanging; err == nil || strings.Contains(err.Error(), "Client.Timeout") {
		t.Errorf("a call under way when the link was cut ended with %v, want a broken connection at once", err)
	}
	if _, err := get("/"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("through a cut link: %v", err)
	}
	for range 2 {
		if err := l.mend(); err != nil {
			t.Fatal(err)
		}
	}
	if body, err := get("/"); err != nil || body != "here" || l.address != address {
		t.Errorf("through the mended link at %s: %q, %v", l.address, body, err)
	}
}
