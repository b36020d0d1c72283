package conformance

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// exchange is a case in which the client sends raw bytes, and the service answers each request with raw bytes.
type exchange struct {
	name   string
	send   string
	fin    bool   // the client ends its side of the connection when it has sent all
	answer string // by the service, to each request; empty: plainAnswer
	close  bool   // the service closes the connection after its answer
	sees   string // by the service; empty: what was sent
	gets   string // by the client; empty: what was answered

	// The sidecar may answer with one of these statuses instead; cutOff: it may end the connection.
	may []int
	// The same, and it must.
	must []int
}

// cutOff is the outcome of a client whose connection ends before it has an answer, or in the middle of it.
const cutOff = 0

const plainAnswer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n" +
	"Content-Length: 2\r\n\r\nok"

// refusedAnswer is what the service itself says to a request that is malformed.
const refusedAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// added are the fields that the sidecar may add to a request.
var added = []string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "guard-context"}

// text joins lines as HTTP does.
func text(lines ...string) string { return strings.Join(lines, "\r\n") }

// get is a GET of the target, with these fields.
func get(target string, fields ...string) string {
	return bare("GET "+target+" HTTP/1.1", append([]string{"Host: shop"}, fields...)...)
}

// bare is a message without a body.
func bare(start string, fields ...string) string {
	return text(append(append([]string{start}, fields...), "", "")...)
}

// post is a POST whose fields and body follow, as they are.
func post(fieldsAndBody ...string) string {
	return text(append([]string{"POST /orders HTTP/1.1", "Host: shop"}, fieldsAndBody...)...)
}

// ok is an answer with 200 whose fields and body follow, as they are.
func ok(fieldsAndBody ...string) string {
	return text(append([]string{"HTTP/1.1 200 OK", "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Type: text/plain"}, fieldsAndBody...)...)
}

// play runs the exchange once, from the client's end, and returns the answers that the client got, one for each request
// at most.
func (e exchange) play(client *peer) []message {
	go func() {
		client.send(e.send)
		if e.fin {
			client.closeWrite()
		}
	}()
	var answers []message
	for _, method := range e.methods() {
		m := client.answer(method)
		answers = append(answers, m)
		if m.broken != "" || m.lists("connection", "close") {
			break
		}
	}
	client.closeWrite()
	last := &answers[len(answers)-1]
	if rest, _ := io.ReadAll(client.r); len(rest) > 0 && last.broken == "" {
		last.trailers = append(last.trailers, field{"bytes that follow the answer", string(rest)})
	}
	return answers
}

// methods of the requests that the client sends, at least one.
func (e exchange) methods() []string {
	var methods []string
	for _, m := range parse(e.sees, false) {
		methods = append(methods, m.method)
	}
	if len(methods) == 0 {
		method, _, _ := strings.Cut(e.send, " ")
		methods = []string{method}
	}
	return methods
}

// serve plays the service.
func (e exchange) serve(p *peer) {
	for {
		m, got := p.request()
		if !got {
			return
		}
		if m.broken != "" {
			p.send(refusedAnswer)
			p.closeWrite()
			return
		}
		p.send(e.answer)
		if e.close {
			p.closeWrite()
			return
		}
	}
}

func (e exchange) withDefaults() exchange {
	if e.answer == "" {
		e.answer = plainAnswer
	}
	if e.sees == "" {
		e.sees = e.send
	}
	if e.gets == "" {
		e.gets = e.answer
	}
	return e
}

// run plays the exchange directly and through the sidecar.
func (e exchange) run(t *testing.T, kind lane) {
	e = e.withDefaults()
	w := borrow(t, kind)
	sees := parse(e.sees, false)
	var gets []message
	for _, method := range e.methods() {
		gets = append(gets, parse(e.gets, true, method)...)
	}

	clean := true
	for _, through := range []bool{false, true} {
		l := w.begin(through, e.serve)
		client, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		answers := e.play(client)
		client.close()
		clean = w.end(l) && clean

		if !through {
			// What the service does is this file's own; this is the check that the case says what it means.
			if whole(sees) && e.sees == e.send && e.gets == e.answer {
				if faults := judge(gets, answers, false); len(faults) > 0 {
					t.Fatalf("asked directly, the service gives another answer than the case says: %s", strings.Join(faults, "\n"))
				}
			}
			continue
		}
		own, faults := e.judge(gets, answers)
		faults = append(faults, judgeSeen(sees, l.seen, own)...)
		if len(faults) > 0 {
			t.Errorf("through the sidecar:\n\t%s\nthe service saw %v\nthe client got %v",
				strings.Join(faults, "\n\t"), l.seen, answers)
		}
	}
	w.giveBack(clean && !t.Failed())
}

func whole(messages []message) bool {
	return len(messages) > 0 && !slices.ContainsFunc(messages, func(m message) bool { return m.broken != "" })
}

// judge compares the answers that the client got with those it should get. own says that the last one is an error of the
// sidecar's own.
func (e exchange) judge(want, got []message) (own bool, faults []string) {
	allowed := append(slices.Clone(e.may), e.must...)
	last := got[len(got)-1]
	n := min(len(got), len(want))
	differs := len(got) != len(want) || len(differ(want[n-1], last, "date")) > 0
	if (differs || len(e.must) > 0) && isError(last) && allows(allowed, last) {
		return true, judge(want[:n-1], got[:len(got)-1], true)
	}
	if len(e.must) > 0 {
		return false, []string{"want an error, one of " + names(e.must)}
	}
	return false, judge(want, got, true)
}

// judge compares answers one by one. An answer that should be cut off may be an error of the sidecar's own instead.
func judge(want, got []message, through bool) (faults []string) {
	var mayAdd []string
	if through {
		mayAdd = []string{"date"}
	}
	for i := range want {
		if i >= len(got) {
			return append(faults, "an answer is missing: "+want[i].String())
		}
		if got[i].broken == timedOut {
			return append(faults, "the client waited in vain for: "+want[i].String())
		}
		if through && want[i].broken != "" && got[i].broken == "" && got[i].status() >= 500 {
			return faults
		}
		if want[i].broken != "" && got[i].broken != "" && got[i].start == "" {
			return faults
		}
		for _, line := range differ(want[i], got[i], mayAdd...) {
			faults = append(faults, "answer "+line)
		}
	}
	return faults
}

// judgeSeen compares what the service has seen. If the client got an error of the sidecar's own, the service may have
// seen less.
func judgeSeen(want, got []message, own bool) (faults []string) {
	for i, m := range got {
		for _, name := range added {
			if slices.Contains(m.values(name), "") {
				faults = append(faults, "request + "+name+` with an empty value`)
			}
		}
		switch {
		case i >= len(want):
			faults = append(faults, "a request that nobody sent: "+m.String())
		case m.broken != "" && own, m.broken != "" && want[i].broken != "":
		default:
			for _, line := range differ(want[i], m, append([]string{"host"}, added...)...) {
				faults = append(faults, "request "+line)
			}
		}
	}
	if len(got) < len(want) && !own {
		faults = append(faults, "the service did not see: "+want[len(got)].String())
	}
	return faults
}

func isError(m message) bool {
	return m.broken != timedOut && (m.broken != "" || m.status() >= 400)
}

func allows(allowed []int, m message) bool {
	if m.broken != "" {
		return slices.Contains(allowed, cutOff)
	}
	return slices.Contains(allowed, m.status())
}

func names(statuses []int) string {
	all := make([]string, len(statuses))
	for i, s := range statuses {
		if all[i] = strconv.Itoa(s); s == cutOff {
			all[i] = "a cut connection"
		}
	}
	return strings.Join(all, ", ")
}

// playAll runs all the exchanges of a table, each as a test of its own.
func playAll(t *testing.T, kind lane, table []exchange) {
	t.Parallel()
	seen := map[string]bool{}
	for _, e := range table {
		if seen[e.name] {
			t.Fatalf("two cases are named %q", e.name)
		}
		seen[e.name] = true
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.run(t, kind)
		})
	}
}
