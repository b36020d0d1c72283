package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// invalid is what a proxy may say to a request that does not follow the protocol.
var invalid = []int{400, cutOff}

// TestRequestsArriveAsTheyWereSent covers methods, targets and fields.
func TestRequestsArriveAsTheyWereSent(t *testing.T) { playAll(t, overTCP, requests) }

// TestRequestsArriveOverAUnixSocket does the same for a service that listens on a Unix socket.
func TestRequestsArriveOverAUnixSocket(t *testing.T) { playAll(t, overUnix, overSocket) }

var overSocket = []exchange{
	{name: "GET", send: get("/a|b?x=%2F")},
	{name: "POST", send: post("Content-Length: 5", "", "hello")},
	{name: "chunks and a trailer", send: post("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "5", "hello", "0", "X-Sum: 7", "", "")},
	{name: "no Host", send: "GET / HTTP/1.0\r\n\r\n"},
	{name: "an answer with a trailer", send: get("/", "TE: trailers"), answer: ok("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "2", "ok", "0", "X-Sum: 7", "", "")},
	{name: "a cut answer", send: get("/"), answer: ok("Content-Length: 10", "", "half"), close: true},
}

var requests = []exchange{
	// Methods.
	{name: "method GET", send: get("/")},
	{name: "method HEAD", send: bare("HEAD / HTTP/1.1", "Host: shop"), answer: ok("Content-Length: 2", "", "")},
	{name: "method POST without a body", send: bare("POST / HTTP/1.1", "Host: shop", "Content-Length: 0")},
	{name: "method POST without a length", send: bare("POST / HTTP/1.1", "Host: shop")},
	{name: "method PUT", send: "PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "method PATCH", send: "PATCH / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "method DELETE", send: bare("DELETE /a HTTP/1.1", "Host: shop")},
	{name: "method DELETE with a body", send: "DELETE /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "method GET with a body", send: "GET /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "method OPTIONS", send: bare("OPTIONS /a HTTP/1.1", "Host: shop")},
	{name: "method OPTIONS for the whole service", send: bare("OPTIONS * HTTP/1.1", "Host: shop")},
	{name: "method TRACE", send: bare("TRACE /a HTTP/1.1", "Host: shop", "Max-Forwards: 0"), may: []int{405, 501}},
	{name: "method PROPFIND", send: "PROPFIND /dav HTTP/1.1\r\nHost: shop\r\nDepth: 1\r\nContent-Length: 6\r\n\r\n<all/>"},
	{name: "method M-SEARCH", send: bare("M-SEARCH /a HTTP/1.1", "Host: shop")},
	{name: "method that nobody knows", send: bare("BREW /pot HTTP/1.1", "Host: shop")},
	{name: "method in lower case", send: bare("get / HTTP/1.1", "Host: shop")},
	{name: "method of odd characters", send: bare("!#$%&'*+-.^_`|~9 / HTTP/1.1", "Host: shop")},
	{name: "method that is no token", send: bare("G@T / HTTP/1.1", "Host: shop"), may: invalid},
	{name: "method CONNECT", send: bare("CONNECT shop:443 HTTP/1.1", "Host: shop:443"), may: []int{400, 405, 501, cutOff}},

	// Paths.
	{name: "path with a bar", send: get("/a|b")},
	{name: "path with braces", send: get("/{x}")},
	{name: "path with brackets", send: get("/[x]")},
	{name: "path with quotes and accents", send: get("/\"a\"/^/`")},
	{name: "path with a backslash", send: get(`/a\b`)},
	{name: "path with angle brackets", send: get("/<a>")},
	{name: "path with empty segments", send: get("//a//b")},
	{name: "path of two slashes", send: get("//")},
	{name: "path that looks like a host", send: get("//evil.example/a")},
	{name: "path that ends in slashes", send: get("/a//")},
	{name: "path of an encoded slash", send: get("/%2F")},
	{name: "path with encodings in both cases", send: get("/a%2fb%2Fc")},
	{name: "path with an encoded NUL", send: get("/a%00")},
	{name: "path with encoded line ends", send: get("/a%0d%0aX:%20y")},
	{name: "path with a needless encoding", send: get("/%41%7e")},
	{name: "path with dot segments", send: get("/a/./b/../c")},
	{name: "path above the root", send: get("/../../etc/passwd")},
	{name: "path with encoded dots", send: get("/%2e%2e/a")},
	{name: "path with a semicolon", send: get("/a;v=1/b;w")},
	{name: "path with a colon first", send: get("/:80/x")},
	{name: "path with what may stand in one", send: get("/!$&'()*+,;=:@~-._")},
	{name: "path with a star", send: get("/*")},
	{name: "path with an encoded space and a plus", send: get("/a%20b+c")},
	{name: "path in UTF-8, not encoded", send: get("/é"), may: invalid},
	{name: "path with a byte of no encoding", send: get("/\xff"), may: invalid},
	{name: "path with a cut encoding", send: get("/a%"), may: invalid},
	{name: "path with a wrong encoding", send: get("/a%zz"), may: invalid},
	{name: "path of 8 kB", send: get("/" + strings.Repeat("abcdefg/", 1000))},
	{name: "path with a fragment", send: get("/a#b"), may: invalid},
	{name: "path with a space", send: get("/a b"), must: invalid},
	{name: "path without a slash", send: get("a"), may: invalid},
	{name: "two spaces before the path", send: bare("GET  / HTTP/1.1", "Host: shop"), must: invalid},
	{name: "path of 2 MB", send: get("/" + strings.Repeat("x", 2<<20)), may: []int{400, 414, 431, cutOff}},

	// Queries.
	{name: "query that is empty", send: get("/a?")},
	{name: "query of the root that is empty", send: get("/?")},
	{name: "query with semicolons", send: get("/?a=1;b=2")},
	{name: "query with a wrong encoding", send: get("/?a=%zz&b=%")},
	{name: "query with repeated and empty names", send: get("/?b=2&a=1&b=1&&=&c")},
	{name: "query with what needs encoding", send: get("/?q={a|b}\"<c>\"[]`^\\")},
	{name: "query with a second question mark", send: get("/?a=1?b=2/c")},
	{name: "query with a plus and an encoded one", send: get("/?a+b=c%2Bd%20e")},
	{name: "query in UTF-8, not encoded", send: get("/?a=é"), may: invalid},
	{name: "query that is a URL", send: get("/?to=http://a.example/b?c=d")},

	// Absolute targets: the authority in the target counts, not the Host.
	{name: "absolute target", send: bare("GET http://shop/a|b?x=1 HTTP/1.1", "Host: shop"), sees: get("/a|b?x=1")},
	{
		name: "absolute target and another Host", send: bare("GET http://shop/a HTTP/1.1", "Host: evil.example"),
		sees: get("/a"), may: invalid,
	},
	{name: "absolute target without a path", send: bare("GET http://shop HTTP/1.1", "Host: shop"), sees: get("/")},

	// The Host.
	{name: "Host with a port", send: bare("GET / HTTP/1.1", "Host: shop.example:8080")},
	{name: "Host in upper case", send: bare("GET / HTTP/1.1", "Host: SHOP.Example")},
	{name: "Host with an underscore", send: bare("GET / HTTP/1.1", "Host: my_shop")},
	{name: "Host that ends in a dot", send: bare("GET / HTTP/1.1", "Host: shop.example.")},
	{name: "Host of IPv6", send: bare("GET / HTTP/1.1", "Host: [::1]:80")},
	{name: "Host in UTF-8", send: bare("GET / HTTP/1.1", "Host: bücher.example"), may: invalid},
	{name: "Host that is empty", send: bare("GET / HTTP/1.1", "Host:"), sees: bare("GET / HTTP/1.1"), may: invalid},
	{name: "Host missing", send: bare("GET / HTTP/1.1"), must: invalid},
	{name: "Host twice", send: bare("GET / HTTP/1.1", "Host: shop", "Host: evil.example"), must: invalid},
	{name: "Host with a space", send: bare("GET / HTTP/1.1", "Host: a b"), must: invalid},
	{name: "Host missing in HTTP/1.0", send: "GET /a HTTP/1.0\r\n\r\n"},
	{name: "Host in HTTP/1.0", send: bare("GET /a HTTP/1.0", "Host: shop")},
	{name: "Host missing in an absolute target of HTTP/1.0", send: "GET http://shop/a HTTP/1.0\r\n\r\n", sees: get("/a")},

	// Fields.
	{name: "field repeated", send: get("/", "X-A: 1", "X-B: 2", "X-A: 3", "x-a: 2")},
	{name: "field with commas, repeated", send: get("/", "Accept: a, b", "Accept: c,d")},
	{name: "field with an empty value", send: get("/", "X-Empty:", "X-Blank:   ")},
	{name: "field in Latin 1", send: get("/", "X-Name: caf\xe9 \x80\xff")},
	{name: "field in UTF-8", send: get("/", "X-Name: café ☕")},
	{name: "field with spaces and tabs inside", send: get("/", "X-A: a  b\tc")},
	{name: "field with spaces around", send: get("/", "X-A: \t a \t ")},
	{name: "field without a space", send: get("/", "X-A:a")},
	{name: "field with quotes", send: get("/", `If-Match: "a\"b", W/"c"`)},
	{name: "field of 16 kB", send: get("/", "X-Long: "+strings.Repeat("0123456789abcdef", 1000))},
	{name: "field of 2 MB", send: get("/", "X-Long: "+strings.Repeat("0123456789abcdef", 128<<10)), may: []int{400, 431, cutOff}},
	{name: "500 fields", send: get("/", manyFields(500)...)},
	{name: "field name of odd characters", send: get("/", "!#$%&'*+-.^_`|~9: 1", "a.b: 2", "X_Y: 3")},
	{name: "Cookie twice", send: get("/", "Cookie: a=1; b=2", "Cookie: c=\"3\"")},
	{name: "User-Agent absent and Accept-Encoding absent", send: get("/", "Accept: */*")},
	{name: "User-Agent", send: get("/", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)")},
	{name: "User-Agent that is empty", send: get("/", "User-Agent:")},
	{name: "Accept-Encoding", send: get("/", "Accept-Encoding: gzip;q=0.5, br, *;q=0")},
	{name: "Range and conditions", send: get("/", "Range: bytes=0-1,5-", "If-Range: \"a\"", "If-None-Match: *")},
	{name: "Authorization", send: get("/", "Authorization: Basic dTpw")},
	{name: "Content-Type without a body", send: get("/", "Content-Type: application/json")},
	{name: "Referer with odd characters", send: get("/", "Referer: http://a.example/{x}|y#z")},
	{name: "fields of tracing", send: get("/", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=1,b=2", "baggage: k=v;p")},
	{name: "Priority and Early-Data", send: get("/", "Priority: u=1, i", "Early-Data: 1")},
	{name: "field name with a space before the colon", send: get("/", "X-A : 1"), must: invalid},
	{name: "field that is folded", send: get("/", "X-A: a", " b"), sees: get("/", "X-A: a b"), may: invalid},
	{name: "field without a colon", send: get("/", "nonsense"), must: invalid},
	{name: "field without a name", send: get("/", ": 1"), must: invalid},
	{name: "field with NUL", send: get("/", "X-A: a\x00b"), must: invalid},
	{name: "field with CR", send: get("/", "X-A: a\rb"), must: invalid},
	{name: "first field with a space before it", send: "GET / HTTP/1.1\r\n Host: shop\r\n\r\n", must: invalid},
	{name: "lines without CR", send: "GET /a HTTP/1.1\nHost: shop\n\n", sees: get("/a"), may: invalid},
	{name: "an empty line first", send: "\r\n" + get("/"), may: invalid},

	// What the sidecar adds, and what it says about those before it.
	{
		name: "X-Forwarded fields are added", send: get("/"),
		sees: get("/", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: shop", "X-Forwarded-Proto: http"),
	},
	{
		name: "X-Forwarded fields of outer proxies", send: get("/", "X-Forwarded-For: 192.0.2.1, 192.0.2.2",
			"X-Forwarded-Host: front.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Real-IP: 192.0.2.1"),
		sees: get("/", "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1",
			"X-Forwarded-Host: front.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Real-IP: 192.0.2.1"),
	},
	{
		name: "X-Forwarded-For in two lines", send: get("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"),
		sees: get("/", "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1"),
	},
	{name: "Forwarded and Via", send: get("/", "Forwarded: for=192.0.2.1;proto=https", "Via: 1.1 front")},
	{
		name: "X-Forwarded-For cannot be dropped", send: get("/", "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto"),
		sees: get("/", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: shop", "X-Forwarded-Proto: http"),
	},

	// Hop by hop.
	{name: "Connection: close", send: get("/", "Connection: close")},
	{name: "Connection: keep-alive in HTTP/1.0", send: bare("GET / HTTP/1.0", "Host: shop", "Connection: keep-alive")},
	{name: "field listed in Connection", send: get("/", "Connection: X-Hop, close", "X-Hop: 1", "X-End: 2"), sees: get("/", "X-End: 2")},
	{name: "field listed in a second Connection", send: get("/", "Connection: close", "Connection: x-hop", "X-Hop: 1"), sees: get("/")},
	{name: "Connection with odd commas", send: get("/", "Connection: ,, X-Hop ,", "X-Hop: 1"), sees: get("/")},
	{name: "Keep-Alive and Proxy-Connection", send: get("/", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive")},
	{name: "Host listed in Connection", send: get("/", "Connection: Host"), may: invalid},
	{
		name: "Content-Length listed in Connection", may: invalid,
		send: post("Connection: Content-Length", "Content-Length: 5", "", "hello"),
	},
	{name: "TE", send: get("/", "TE: trailers, deflate;q=0.5", "Connection: TE")},
	{name: "Upgrade that Connection does not list", send: get("/", "Upgrade: websocket")},
	{
		name: "Upgrade to TLS is not taken", send: get("/", "Connection: Upgrade", "Upgrade: TLS/1.0"),
		sees: get("/"), may: []int{400, 501},
	},
	{
		name: "Upgrade to h2c is not taken", send: get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
		sees: get("/"), may: []int{400, 501},
	},

	// Versions.
	{name: "HTTP/1.2", send: bare("GET / HTTP/1.2", "Host: shop"), may: []int{400, 505, cutOff}},
	{name: "HTTP/3.0", send: bare("GET / HTTP/3.0", "Host: shop"), must: []int{400, 505, cutOff}},
	{name: "HTTP/0.9", send: "GET /orders/0123456789\r\n\r\n", must: invalid},
	{name: "a version that is none", send: bare("GET / HTTX/1.1", "Host: shop"), must: invalid},
	{name: "a version in lower case", send: bare("GET / http/1.1", "Host: shop"), must: []int{400, 505, cutOff}},
	{name: "TLS to a port without it", send: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", must: invalid},
}

func manyFields(n int) []string {
	fields := make([]string, n)
	for i := range fields {
		fields[i] = fmt.Sprintf("X-%d: %d", i, i*i)
	}
	return fields
}
