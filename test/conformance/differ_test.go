package conformance

import "testing"

// TestDifferencesAreNoticed proves that the comparison can fail a message, for each part that it covers, and passes what
// is left to the connection.
func TestDifferencesAreNoticed(t *testing.T) {
	want := ok("X-A: 1", "X-A: 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", "")
	for name, c := range map[string]struct {
		got  string
		same bool
	}{
		"the same":                 {want, true},
		"names":                    {ok("set-cookie: a", "x-a: 1", "X-a:   2  ", "Transfer-Encoding: chunked", "", "1", "o", "1", "k", "0", "x-sum: 7", "", ""), true},
		"the order of values":      {ok("X-A: 2", "X-A: 1", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"values joined":            {ok("X-A: 1, 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"a field missing":          {ok("X-A: 1", "X-A: 2", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"a field added":            {ok("X-A: 1", "X-A: 2", "X-B: 1", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"a byte of a value":        {ok("X-A: 1", "X-A: 2", "Set-Cookie: A", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"a byte of the body":       {ok("X-A: 1", "X-A: 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "oK", "0", "X-Sum: 7", "", ""), false},
		"a trailer missing":        {ok("X-A: 1", "X-A: 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "", ""), false},
		"a trailer as a header":    {ok("X-A: 1", "X-A: 2", "X-Sum: 7", "Set-Cookie: a", "Content-Length: 2", "", "ok"), false},
		"cut off before its end":   {ok("X-A: 1", "X-A: 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", ""), false},
		"another status":           {answered("201 OK", "Content-Type: text/plain", "X-A: 1", "X-A: 2", "Set-Cookie: a", "Transfer-Encoding: chunked", "", "2", "ok", "0", "X-Sum: 7", "", ""), false},
		"an answer that is before": {bare("HTTP/1.1 103 Early Hints") + want, false},
	} {
		if lines := differ(parse(want, true, "GET")[0], parse(c.got, true, "GET")[0]); (len(lines) == 0) != c.same {
			t.Errorf("%s: differences %q", name, lines)
		}
	}
	part, all := ok("Content-Length: 4", "", "ha"), ok("Content-Length: 2", "", "ha")
	if faults := judge(parse(part, true, "GET"), parse(all, true, "GET"), true); len(faults) == 0 {
		t.Error("a part that is passed off as the whole is not noticed")
	}
	if faults := judgeSeen(parse(get("/"), false), parse(get("/")+smuggled, false), false); len(faults) == 0 {
		t.Error("a request that nobody sent is not noticed")
	}
	if faults := judgeSeen(parse(post("Content-Length: 4", "", "ha"), false), parse(post("Content-Length: 2", "", "ha"), false), true); len(faults) == 0 {
		t.Error("a part of a request that seems whole is not noticed")
	}
}
