package sidecar

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	guardwire "github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// chain is a sidecar around a service that makes two calls of payments for each request and copies to them what copies
// says. It returns what the service and payments receive, and the answer to one request with the header said.
func chain(
	t *testing.T, change func(*InboundConfig, *ForwardConfig), copies func(from, to http.Header), said http.Header,
) (service http.Header, payments []http.Header, answer http.Header) {
	t.Helper()
	g, err := guard.New(guard.Config{Service: "checkout", SLO: time.Second, Max: 40, Fallback: 40})
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(target(t, func(w http.ResponseWriter, r *http.Request) {
		payments = append(payments, r.Header)
		w.Header().Set(guardhttp.AnswerHeader, "threshold=1c0000000;hue=blue")
	}))
	if err != nil {
		t.Fatal(err)
	}
	forward := ForwardConfig{
		Guard: g, Dependency: "payments", Scheme: "http", Instances: []string{to.Host}, Transport: NewTransport(0, ""),
		Requests: NewRequests(), Log: slog.New(slog.DiscardHandler),
	}
	inbound := InboundConfig{Requests: forward.Requests, Log: forward.Log}
	if change != nil {
		change(&inbound, &forward)
	}
	t.Cleanup(forward.Transport.CloseIdleConnections)
	port := serve(t, NewForwardPort(forward), 0)
	inbound.Upstream, err = url.Parse(target(t, func(w http.ResponseWriter, r *http.Request) {
		service = r.Header
		for range 2 {
			call := request(t, port)
			copies(r.Header, call.Header)
			_, answered, _ := fetch(t, call)
			w.Header()[guardhttp.AnswerHeader] = answered[guardhttp.AnswerHeader]
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewInbound(inbound)
	t.Cleanup(proxy.Close)
	r := request(t, serve(t, guardhttp.New(g, proxy), Patience)+"/buy")
	r.Header = said
	code, answer, _ := fetch(t, r)
	if code != http.StatusOK || len(payments) != 2 {
		t.Fatalf("%d, %d calls", code, len(payments))
	}
	return service, payments, answer
}

func copyContext(from, to http.Header) { to[guardhttp.ContextHeader] = from[guardhttp.ContextHeader] }

func copyBaggage(from, to http.Header) { to["Baggage"] = from["Baggage"] }

func copyNothing(http.Header, http.Header) {}

// With one header that the service copies, its calls carry what the request has brought, and say what only the sidecar knows:
// that they continue, and for how long somebody waits.
func TestOneHeaderToCopy(t *testing.T) {
	const said = "rank=8f3a01c2;crit=critical;key=alice;api=shop%2Fcart;attempt=1"
	for name, x := range map[string]struct {
		change func(*InboundConfig, *ForwardConfig)
		copies func(from, to http.Header)
		said   http.Header
		want   string
	}{
		"the header": {nil, copyContext, http.Header{guardhttp.ContextHeader: {said + ";left=60000"}}, said},
		"baggage": {
			func(i *InboundConfig, _ *ForwardConfig) { i.Baggage = true }, copyBaggage,
			http.Header{guardhttp.ContextHeader: {said + ";left=60000"}},
			said,
		},
		"baggage that is there": {
			nil, copyBaggage,
			http.Header{"Baggage": {"a=1,guard-context=" + url.QueryEscape(said+";left=60000")}},
			said,
		},
		"a fan-out": {
			nil, func(from, to http.Header) {
				to.Set(guardhttp.ContextHeader, from.Get(guardhttp.ContextHeader)+";group=4")
			},
			http.Header{guardhttp.ContextHeader: {said + ";left=60000"}},
			said + ";group=4",
		},
	} {
		service, payments, _ := chain(t, x.change, x.copies, x.said)
		told := guardhttp.ContextOf(service)
		if told.Request == "" || told.Left <= 0 {
			t.Errorf("%s: the service was told %v", name, service)
		}
		want := guardwire.ParseContext(x.want + ";id=00000000")
		for i, h := range payments {
			got := guardhttp.ContextOf(h)
			if got.Left <= 0 || got.Left > time.Minute {
				t.Errorf("%s: %v are left", name, got.Left)
			}
			want.Left, want.Rank.Again, want.Rank.ID = got.Left, i == 1, got.Rank.ID
			if got != want {
				t.Errorf("%s, call %d: %+v, expected %+v", name, i, got, want)
			}
			if strings.Contains(h.Get("Baggage"), told.Request) {
				t.Errorf("%s: payments was told the request: %v", name, h)
			}
		}
	}
}

// The rank is the sidecar's own where the request has brought none.
func TestSidecarDrawsTheRank(t *testing.T) {
	service, payments, _ := chain(t, nil, copyContext, http.Header{})
	told := guardhttp.ContextOf(service)
	if !told.Rank.Drawn || told.Entry != "checkout/buy" {
		t.Errorf("the service was told %v", service)
	}
	for _, h := range payments {
		if c := guardhttp.ContextOf(h); c.Rank.Place != told.Rank.Place || c.Entry != told.Entry {
			t.Errorf("payments was told %v, the service %v", h, service)
		}
	}
}

// A service that copies nothing works as before. What it copied of a request that is over keeps what does not grow old.
func TestServiceThatCopiesLess(t *testing.T) {
	_, payments, _ := chain(t, nil, copyNothing, http.Header{guardhttp.ContextHeader: {"rank=8f3a01c2;key=alice"}})
	for _, h := range payments {
		if len(h[guardhttp.ContextHeader]) > 0 {
			t.Errorf("payments was told %v", h)
		}
	}
	_, payments, _ = chain(t, func(_ *InboundConfig, f *ForwardConfig) { f.Requests = NewRequests() }, func(from, to http.Header) {
		to.Set(guardhttp.ContextHeader, from.Get(guardhttp.ContextHeader)+";group=4;again;hue=blue")
	}, http.Header{guardhttp.ContextHeader: {"rank=8f3a01c2;key=alice;api=shop%2Fcart;left=60000"}})
	for _, h := range payments {
		if got := h.Get(guardhttp.ContextHeader); got != "rank=8f3a01c2;key=alice;api=shop%2Fcart" {
			t.Errorf("payments was told %q", got)
		}
	}
}

// An answer's Guard-Answer reaches the service, and, copied by it, the caller.
func TestAnswerTravels(t *testing.T) {
	_, _, answer := chain(t, nil, copyContext, http.Header{})
	if got := guardwire.ParseAdvice(answer.Get(guardhttp.AnswerHeader)); got.Threshold != 0x1c0000000 {
		t.Errorf("the answer says %v", answer)
	}
}

// A dependency outside the house learns nothing, and is not heard.
func TestOutsideDependencyLearnsNothing(t *testing.T) {
	outside := func(_ *InboundConfig, f *ForwardConfig) { f.Outside = true }
	for _, copies := range []func(from, to http.Header){copyContext, copyBaggage, copyNothing, func(from, to http.Header) {
		to["Guard-Key"], to["Guard-Criticality"] = []string{"alice"}, []string{"critical"}
	}} {
		_, payments, answer := chain(t, outside, copies, http.Header{
			guardhttp.ContextHeader: {"rank=8f3a01c2;key=alice"}, "Baggage": {"guard-context=key%3Dalice"},
		})
		for _, h := range payments {
			for name, values := range h {
				if strings.HasPrefix(name, "Guard-") || strings.Contains(strings.Join(values, ""), "alice") {
					t.Errorf("payments was told %s: %q", name, values)
				}
			}
		}
		if got := answer.Get(guardhttp.AnswerHeader); got != "" {
			t.Errorf("the answer says %q", got)
		}
	}
}

// A call does not outlast the wait of the caller of the service.
func TestCallEndsWithTheCallersWait(t *testing.T) {
	inbound, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	hangs := make(chan struct{})
	defer close(hangs)
	o := forwardTo(t, time.Hour, target(t, func(http.ResponseWriter, *http.Request) { <-hangs }))
	name, _ := o.inbound.enter(inbound)
	r := request(t, o.url)
	r.Header.Set(guardhttp.ContextHeader, "request="+name)
	code, _, body := fetch(t, r)
	if code != http.StatusGatewayTimeout || !strings.Contains(body, "for which the caller of the service waits") {
		t.Errorf("%d: %s", code, body)
	}
}
