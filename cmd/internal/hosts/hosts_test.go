package hosts

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestListenerAnswersOnlyToNamesGivenToIt(t *testing.T) {
	self, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	loopback, all := []string{"127.0.0.1:9747"}, []string{":9747"}
	for _, tc := range []struct {
		name    string
		names   Names
		answers string
		refuses string
	}{
		{
			"loopback",
			Names{Listen: loopback},
			"localhost localhost:9747 LOCALHOST. 127.0.0.1:9747 127.1.2.3 [::1]:9747 [::ffff:127.0.0.1] ",
			"evil.example evil.example:9747 localhost.evil.example evil.localhost 192.0.2.1 0.0.0.0:9747 127.0.0.1.evil.example " +
				"evil@localhost localhost:80@evil.example localhost:x [::1 127.1 2130706433 [::2] 127.0.0.1/x " + self + ".evil",
		},
		{
			"one address",
			Names{Listen: []string{"192.0.2.1:9747"}},
			"192.0.2.1:9747 192.0.2.1 localhost 127.0.0.1", "192.0.2.2 evil.example",
		},
		{
			"a name", Names{Listen: []string{"gov-a.example:9747"}}, "gov-a.example Gov-A.Example:1", "gov-b.example example",
		},
		{"all interfaces", Names{Listen: all}, "192.0.2.1 [2001:db8::1]:9747 localhost " + self, "evil.example"},
		{"all interfaces, in words", Names{Listen: []string{"[::]:9747"}}, "192.0.2.1", "evil.example"},
		{"systemd", Names{Anywhere: true}, "192.0.2.1", "evil.example"},
		{
			"a URL",
			Names{Listen: loopback, URLs: []string{"https://gov.example/base", "", "http://192.0.2.7:1/"}},
			"gov.example gov.example:443 192.0.2.7", "evil.example x.gov.example 192.0.2.8",
		},
		{
			"allowed",
			Names{Listen: all, Allowed: []string{"governor.monitoring.svc", "*.shop.example"}},
			"governor.monitoring.svc:9747 a.shop.example a.b.shop.example", "shop.example evilshop.example monitoring.svc",
		},
		{"everything allowed", Names{Listen: loopback, Allowed: []string{"*"}}, "evil.example 192.0.2.1", ""},
		{"with credentials", Names{Listen: loopback, Authenticated: func() bool { return true }}, "gov.example", ""},
		{"credentials removed", Names{Listen: loopback, Authenticated: func() bool { return false }}, "localhost", "gov.example"},
	} {
		handler := tc.names.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		code := func(host string) int {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
			r.Host = host
			handler.ServeHTTP(w, r)
			return w.Code
		}
		for _, host := range append(strings.Fields(tc.answers), "") {
			if got := code(host); got != http.StatusTeapot {
				t.Errorf("%s: Host %q: %d", tc.name, host, got)
			}
		}
		for host := range strings.FieldsSeq(tc.refuses) {
			if got := code(host); got != http.StatusForbidden {
				t.Errorf("%s: Host %q: %d, want 403", tc.name, host, got)
			}
		}
	}
}
