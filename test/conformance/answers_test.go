package conformance

import (
	"strings"
	"testing"
)

// unusable is what a proxy says if what it got from the service is no answer.
var unusable = []int{502, cutOff}

// TestAnswersArriveAsTheServiceGaveThem covers status, fields, framing and trailers, and services that break them.
func TestAnswersArriveAsTheServiceGaveThem(t *testing.T) { playAll(t, overTCP, answers) }

// answered is an answer with this status and its reason.
func answered(status string, fieldsAndBody ...string) string {
	return text(append([]string{"HTTP/1.1 " + status, "Date: Sun, 06 Nov 1994 08:49:37 GMT"}, fieldsAndBody...)...)
}

var (
	page = get("/page")
	head = bare("HEAD /page HTTP/1.1", "Host: shop")
)

var answers = []exchange{
	// Status.
	{name: "201", send: page, answer: answered("201 Created", "Location: /orders/{7}", "Content-Length: 0", "", "")},
	{name: "202 with a body and without a type", send: page, answer: answered("202 Accepted", "Content-Length: 6", "", "<html>")},
	{name: "204", send: page, answer: answered("204 No Content", "X-A: 1", "", "")},
	{name: "205", send: page, answer: answered("205 Reset Content", "Content-Length: 0", "", "")},
	{name: "206", send: get("/", "Range: bytes=1-2"), answer: answered("206 Partial Content", "Content-Range: bytes 1-2/5", "Content-Type: text/plain", "Content-Length: 2", "", "el")},
	{name: "206 in parts", send: get("/", "Range: bytes=0-0,2-2"), answer: answered("206 Partial Content", "Content-Type: multipart/byteranges; boundary=x", "Content-Length: 38", "", "--x\r\nContent-Range: bytes 0-0/5\r\n\r\nh\r\n")},
	{name: "299", send: page, answer: answered("299 Odd", "Content-Type: text/plain", "Content-Length: 2", "", "ok")},
	{name: "301 is not followed", send: page, answer: answered("301 Moved Permanently", "Location: http://127.0.0.1:1/a|b", "Content-Length: 0", "", "")},
	{name: "303 after POST", send: post("Content-Length: 2", "", "hi"), answer: answered("303 See Other", "Location: ../done?", "Content-Length: 0", "", "")},
	{name: "304", send: get("/", `If-None-Match: "a"`), answer: answered("304 Not Modified", `ETag: "a"`, "Cache-Control: max-age=5", "", "")},
	{name: "304 with a length and a type", send: get("/", `If-None-Match: "a"`), answer: answered("304 Not Modified", `ETag: "a"`, "Content-Type: text/css", "Content-Length: 500", "", "")},
	{name: "307 after POST", send: post("Content-Length: 2", "", "hi"), answer: answered("307 Temporary Redirect", "Location: /b", "Content-Length: 0", "", "")},
	{name: "400 of the service", send: page, answer: answered("400 Bad Request", "Content-Type: application/problem+json", "Content-Length: 2", "", "{}")},
	{name: "401", send: page, answer: answered("401 Unauthorized", `WWW-Authenticate: Basic realm="a"`, "WWW-Authenticate: Bearer", "Content-Length: 0", "", "")},
	{name: "404", send: page, answer: answered("404 Not Found", "Content-Type: text/plain", "Content-Length: 4", "", "none")},
	{name: "416", send: get("/", "Range: bytes=9-"), answer: answered("416 Range Not Satisfiable", "Content-Range: bytes */5", "Content-Length: 0", "", "")},
	{name: "418", send: page, answer: answered("418 I'm a teapot", "Content-Length: 0", "", "")},
	{name: "421", send: page, answer: answered("421 Misdirected Request", "Content-Length: 0", "", "")},
	{name: "429 of the service", send: page, answer: answered("429 Too Many Requests", "Retry-After: 7", "Content-Length: 0", "", "")},
	{name: "500", send: page, answer: answered("500 Internal Server Error", "Content-Type: text/html", "Content-Length: 4", "", "<b/>")},
	{name: "502 of the service", send: page, answer: answered("502 Bad Gateway", "Content-Type: text/plain", "Content-Length: 3", "", "own")},
	{name: "503 of the service", send: page, answer: answered("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", "Content-Length: 0", "", "")},
	{name: "599", send: page, answer: answered("599 Nobody Knows", "Content-Length: 0", "", "")},
	{name: "999", send: page, answer: answered("999 Beyond", "Content-Length: 0", "", ""), may: unusable},
	{name: "a status without a reason", send: page, answer: answered("200 ", "Content-Type: text/plain", "Content-Length: 2", "", "ok")},
	{name: "a status without a reason and a space", send: page, answer: answered("200", "Content-Type: text/plain", "Content-Length: 2", "", "ok"), may: unusable},
	{name: "a reason of odd characters", send: page, answer: answered("200 caf\xe9 \"x\"", "Content-Type: text/plain", "Content-Length: 2", "", "ok")},

	// Before the answer.
	{name: "103", send: page, answer: bare("HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload", "Link: </b.js>; rel=preload") + plainAnswer},
	{
		name: "103 twice", send: page,
		answer: bare("HTTP/1.1 103 Early Hints", "Link: </a.css>") + bare("HTTP/1.1 103 Early Hints", "X-B: 2") + ok("Content-Length: 0", "Link: </c>", "", ""),
	},
	{name: "103 and then an error", send: page, answer: bare("HTTP/1.1 103 Early Hints", "Link: </a.css>") + answered("404 Not Found", "Content-Length: 0", "", "")},
	{name: "102", send: page, answer: bare("HTTP/1.1 102 Processing") + plainAnswer},
	{name: "199", send: page, answer: bare("HTTP/1.1 199 Odd", "X-A: 1") + plainAnswer, may: unusable},
	{
		name: "100 that nobody asked for", send: page,
		answer: bare("HTTP/1.1 100 Continue") + plainAnswer,
	},
	{name: "103 for HTTP/1.0", send: "GET / HTTP/1.0\r\nHost: shop\r\n\r\n", answer: bare("HTTP/1.1 103 Early Hints", "Link: </a>") + plainAnswer, gets: plainAnswer},
	{name: "101 that nobody asked for", send: page, answer: bare("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"), close: true, must: unusable},

	// Fields.
	{name: "no Content-Type", send: page, answer: answered("200 OK", "Content-Length: 6", "", "<html>")},
	{name: "no Content-Type, in chunks", send: page, answer: answered("200 OK", "Transfer-Encoding: chunked", "", "5", "%PDF-", "0", "", "")},
	{name: "an empty Content-Type", send: page, answer: answered("200 OK", "Content-Type:", "Content-Length: 6", "", "<html>")},
	{name: "Content-Type twice", send: page, answer: answered("200 OK", "Content-Type: text/a", "Content-Type: text/b", "Content-Length: 2", "", "ok")},
	{name: "no Date", send: page, answer: "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"},
	{name: "a Date that is none", send: page, answer: "HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"},
	{name: "Server and Via", send: page, answer: ok("Server: shop/1 (a; b)", "Via: 1.1 inner", "Content-Length: 0", "", "")},
	{name: "Set-Cookie three times", send: page, answer: ok("Set-Cookie: b=2; Path=/", "Set-Cookie: a=\"1\"; Expires=Wed, 21 Oct 2015 07:28:00 GMT", "Set-Cookie: b=3", "Content-Length: 0", "", "")},
	{name: "a field repeated", send: page, answer: ok("X-A: 2", "X-B: 1", "X-A: 1", "x-a: 2", "Content-Length: 0", "", "")},
	{name: "empty fields", send: page, answer: ok("X-Empty:", "X-Blank:   ", "Content-Length: 0", "", "")},
	{name: "a field in Latin 1", send: page, answer: ok("X-A: caf\xe9 \x80\xff", "Content-Disposition: attachment; filename=\"\xe9.txt\"", "Content-Length: 0", "", "")},
	{name: "a field in UTF-8", send: page, answer: ok("X-A: ☕", "Content-Length: 0", "", "")},
	{name: "a field with spaces and tabs", send: page, answer: ok("X-A: \t a  b\tc ", "Content-Length: 0", "", "")},
	{name: "names of odd characters", send: page, answer: ok("!#$%&'*+-.^_`|~9: 1", "a.b: 2", "X_Y: 3", "Content-Length: 0", "", "")},
	{name: "a field of 32 kB", send: page, answer: ok("X-Long: "+strings.Repeat("0123456789abcdef", 2000), "Content-Length: 0", "", "")},
	{name: "500 fields", send: page, answer: ok(append(manyFields(500), "Content-Length: 0", "", "")...)},
	{name: "fields of 2 MB", send: page, answer: ok("X-Long: "+strings.Repeat("0123456789abcdef", 128<<10), "Content-Length: 0", "", ""), may: unusable},
	{name: "fields of 20 MB", send: page, answer: ok("X-Long: "+strings.Repeat("0123456789abcdef", 1280<<10), "Content-Length: 0", "", ""), may: unusable},
	{name: "fields for caches", send: page, answer: ok("Cache-Control: no-store, private=\"a\"", "Vary: *", "Age: 3", "Expires: 0", "ETag: W/\"x|y\"", "Content-Length: 0", "", "")},
	{name: "fields of security", send: page, answer: ok("Strict-Transport-Security: max-age=1", "Alt-Svc: h3=\":443\"", "Content-Security-Policy: default-src 'self'; x", "Content-Length: 0", "", "")},
	{name: "X-Content-Type-Options and Retry-After of the service", send: page, answer: ok("X-Content-Type-Options: sniff", "Retry-After: -1", "Content-Length: 0", "", "")},
	{
		name: "fields listed in Connection", send: page,
		answer: ok("Connection: X-Hop", "X-Hop: 1", "X-End: 2", "Content-Length: 0", "", ""), gets: ok("X-End: 2", "Content-Length: 0", "", ""),
	},
	{name: "Keep-Alive and Proxy-Connection of the service", send: page, answer: ok("Connection: keep-alive", "Keep-Alive: timeout=5, max=9", "Proxy-Connection: x", "Content-Length: 0", "", "")},
	{name: "an upgrade offered, not made", send: page, answer: ok("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0", "", "")},
	{name: "Connection: close of the service", send: page, answer: ok("Connection: close", "Content-Length: 2", "", "ok"), close: true},

	// Framing.
	{name: "length 0", send: page, answer: ok("Content-Length: 0", "", "")},
	{name: "every byte", send: page, answer: ok("Content-Length: 256", "", allBytes())},
	{name: "1 MB", send: page, answer: ok("Content-Length: 1048576", "", strings.Repeat("0123456789abcdef", 64<<10))},
	{name: "a coding is not touched", send: get("/", "Accept-Encoding: gzip"), answer: ok("Content-Encoding: gzip", "Content-Length: 5", "", "\x1f\x8b\x08\x00\xff")},
	{name: "a coding that nobody asked for", send: page, answer: ok("Content-Encoding: gzip", "Vary: Accept-Encoding", "Transfer-Encoding: chunked", "", "5", "\x1f\x8b\x08\x00\xff", "0", "", "")},
	{name: "chunks", send: page, answer: ok("Transfer-Encoding: chunked", "", "3", "abc", "2;x=y", "de", "0", "", "")},
	{name: "chunks, none", send: page, answer: ok("Transfer-Encoding: chunked", "", "0", "", "")},
	{name: "chunks, 1 MB", send: page, answer: ok("Transfer-Encoding: chunked", "", "100000", strings.Repeat("0123456789abcdef", 64<<10), "0", "", "")},
	{name: "chunks for HTTP/1.0", send: "GET / HTTP/1.0\r\nHost: shop\r\n\r\n", answer: ok("Transfer-Encoding: chunked", "", "3", "abc", "0", "", ""), gets: ok("", "abc"), close: true},
	{
		name: "trailers, announced", send: get("/", "TE: trailers"),
		answer: ok("Transfer-Encoding: chunked", "Trailer: X-Sum, X-Two", "", "3", "abc", "0", "X-Sum: 7", "X-Two: a", "X-Two: b", "", ""),
	},
	{name: "trailers, not announced", send: get("/", "TE: trailers"), answer: ok("Transfer-Encoding: chunked", "", "3", "abc", "0", "X-Sum: 7", "", "")},
	{name: "trailers after an empty body", send: get("/", "TE: trailers"), answer: ok("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "0", "X-Sum: 7", "", "")},
	{name: "trailers, announced and absent", send: get("/", "TE: trailers"), answer: ok("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "3", "abc", "0", "", "")},
	{name: "trailers in Latin 1, and an empty one", send: get("/", "TE: trailers"), answer: ok("Transfer-Encoding: chunked", "Trailer: X-A, X-B", "", "3", "abc", "0", "X-A: \xe9", "X-B:", "", "")},
	{name: "up to the end of the connection", send: page, answer: ok("", "all of it"), close: true},
	{name: "up to the end of the connection, nothing", send: page, answer: ok("", ""), close: true},
	{name: "HTTP/1.0 with a length", send: page, answer: "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok", close: true},
	{name: "HTTP/1.0 up to the end of the connection", send: page, answer: "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok", close: true},
	{name: "to HTTP/1.0, with a length", send: "GET / HTTP/1.0\r\nHost: shop\r\n\r\n"},

	// HEAD.
	{name: "HEAD with a length", send: head, answer: ok("Content-Length: 12345", "", "")},
	{name: "HEAD with chunks", send: head, answer: ok("Transfer-Encoding: chunked", "", "")},
	{name: "HEAD without a length", send: head, answer: ok("ETag: \"a\"", "", "")},
	{name: "HEAD without a type", send: head, answer: answered("200 OK", "Content-Length: 7", "", "")},
	{name: "HEAD of what is absent", send: head, answer: answered("404 Not Found", "Content-Length: 9", "", "")},
	{name: "HEAD with a body all the same", send: head, answer: ok("Content-Length: 2", "", "ok"), gets: ok("Content-Length: 2", "", ""), close: true, may: unusable},

	// Cut off: a client must not take a part for the whole.
	{name: "cut: before the answer", send: page, answer: " ", close: true, must: unusable},
	{name: "cut: in the status line", send: page, answer: "HTTP/1.1 2", close: true, must: unusable},
	{name: "cut: in the fields", send: page, answer: "HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B", close: true, must: unusable},
	{name: "cut: before the body", send: page, answer: ok("Content-Length: 10", "", ""), close: true, must: unusable},
	{name: "cut: in the body", send: page, answer: ok("Content-Length: 10", "", "half"), close: true, must: unusable},
	{name: "cut: in a large body", send: page, answer: ok("Content-Length: 1048576", "", strings.Repeat("0123456789abcdef", 32<<10)), close: true, must: unusable},
	{name: "cut: in a chunk", send: page, answer: ok("Transfer-Encoding: chunked", "", "a", "half"), close: true, must: unusable},
	{name: "cut: between chunks", send: page, answer: ok("Transfer-Encoding: chunked", "", "4", "half", ""), close: true, must: unusable},
	{name: "cut: before the first chunk", send: page, answer: ok("Transfer-Encoding: chunked", "", ""), close: true, must: unusable},
	{name: "cut: before the end of the trailers", send: page, answer: ok("Transfer-Encoding: chunked", "", "4", "half", "0", ""), close: true, must: unusable},
	{name: "cut: in the body, for HTTP/1.0", send: "GET / HTTP/1.0\r\nHost: shop\r\n\r\n", answer: ok("Content-Length: 10", "", "half"), close: true, must: unusable},
	{name: "cut: after a 103", send: page, answer: bare("HTTP/1.1 103 Early Hints", "Link: </a>"), close: true, must: unusable},

	// No answers.
	{name: "malformed: no HTTP", send: page, answer: "220 smtp.example ESMTP\r\n", close: true, must: unusable},
	{name: "malformed: a status of letters", send: page, answer: answered("2x0 OK", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{name: "malformed: a status of two digits", send: page, answer: answered("20 OK", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{name: "malformed: a status of four digits", send: page, answer: answered("2000 OK", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{name: "malformed: a status below 100", send: page, answer: answered("099 Low", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{name: "malformed: a version that is none", send: page, answer: "HTTX/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close: true, must: unusable},
	{name: "malformed: frames of HTTP/2", send: page, answer: "\x00\x00\x00\x04\x00\x00\x00\x00\x00", close: true, must: unusable},
	{name: "malformed: a field without a colon", send: page, answer: ok("nonsense", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{
		name: "malformed: a space before the colon", send: page, answer: ok("X-A : 1", "Content-Length: 2", "", "ok"),
		gets: ok("X-A: 1", "Content-Length: 2", "", "ok"), close: true, may: unusable,
	},
	{name: "malformed: NUL in a field", send: page, answer: ok("X-A: a\x00b", "Content-Length: 2", "", "ok"), close: true, must: unusable},
	{name: "malformed: two lengths", send: page, answer: ok("Content-Length: 2", "Content-Length: 3", "", "ok!"), close: true, must: unusable},
	{name: "malformed: a length below zero", send: page, answer: ok("Content-Length: -2", "", "ok"), close: true, must: unusable},
	{name: "malformed: a length of letters", send: page, answer: ok("Content-Length: two", "", "ok"), close: true, must: unusable},
	{name: "malformed: the size of a chunk", send: page, answer: ok("Transfer-Encoding: chunked", "", "zz", "abc", "0", "", ""), close: true, must: unusable},
	{name: "malformed: a chunk longer than its size", send: page, answer: ok("Transfer-Encoding: chunked", "", "2", "abc", "0", "", ""), close: true, must: unusable},
	{name: "malformed: another transfer coding", send: page, answer: ok("Transfer-Encoding: gzip", "", "ok"), close: true, must: unusable},
	{
		name: "malformed: length and chunks", send: page, answer: ok("Content-Length: 3", "Transfer-Encoding: chunked", "", "2", "ok", "0", "", ""),
		gets: ok("Transfer-Encoding: chunked", "", "2", "ok", "0", "", ""), close: true, may: unusable,
	},
	{
		name: "malformed: a folded field", send: page, answer: ok("X-A: a", " b", "Content-Length: 2", "", "ok"),
		gets: ok("X-A: a b", "Content-Length: 2", "", "ok"), may: unusable,
	},
	{name: "malformed: a body beyond its length", send: page, answer: ok("Content-Length: 2", "", "okHTTP/1.1 200 OK\r\n\r\n"), gets: ok("Content-Length: 2", "", "ok"), close: true, may: unusable},
	{name: "malformed: 204 with a body", send: page, answer: answered("204 No Content", "", "body"), gets: answered("204 No Content", "", ""), close: true, may: unusable},
	{name: "malformed: 304 with a body", send: page, answer: answered("304 Not Modified", "ETag: \"a\"", "", "body"), gets: answered("304 Not Modified", "ETag: \"a\"", "", ""), close: true, may: unusable},
}
