package conformance

import (
	"strings"
	"testing"
)

// TestBodiesArriveAsTheyWereSent covers lengths, chunks and trailers, and requests that say two things about their end.
func TestBodiesArriveAsTheyWereSent(t *testing.T) { playAll(t, overTCP, bodies) }

func allBytes() string {
	var b strings.Builder
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String()
}

// chunked is a POST in chunks; its lines follow.
func chunked(lines ...string) string {
	return post(append([]string{"Transfer-Encoding: chunked", ""}, lines...)...)
}

// A request that would be a second one, if the first were thought to end before it.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"

var bodies = []exchange{
	{name: "length", send: post("Content-Length: 5", "", "hello")},
	{name: "length 0", send: post("Content-Length: 0", "", "")},
	{name: "length with zeros before it", send: post("Content-Length: 005", "", "hello"), sees: post("Content-Length: 5", "", "hello"), may: invalid},
	{name: "every byte", send: post("Content-Length: 256", "", allBytes())},
	{name: "1 MB", send: post("Content-Length: 1048576", "", strings.Repeat("0123456789abcdef", 64<<10))},
	{name: "a coding is not touched", send: post("Content-Encoding: gzip", "Content-Length: 5", "", "\x1f\x8b\x08\x00\xff")},
	{name: "a form", send: post("Content-Type: application/x-www-form-urlencoded", "Content-Length: 9", "", "a=1;b=%zz")},
	{name: "HTTP/1.0 with a length", send: "POST / HTTP/1.0\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"},

	{name: "chunks", send: chunked("3", "abc", "2", "de", "0", "", "")},
	{name: "chunks, none", send: chunked("0", "", "")},
	{name: "chunks of every byte", send: chunked("100", allBytes(), "0", "", "")},
	{name: "chunks with a size in upper case and zeros", send: chunked("000A", "0123456789", "000", "", "")},
	{name: "chunks with extensions", send: chunked("3;a=b", "abc", `2;c="d;e"`, "de", "0;last", "", "")},
	{name: "chunks of GET", send: "GET / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	{name: "chunks named in upper case", send: post("Transfer-Encoding: CHUNKED", "", "3", "abc", "0", "", "")},
	{name: "chunks, 1 MB", send: chunked("100000", strings.Repeat("0123456789abcdef", 64<<10), "0", "", "")},
	{
		name: "trailer, announced",
		send: post("Transfer-Encoding: chunked", "Trailer: X-Sum, X-Two", "", "3", "abc", "0", "X-Sum: 7", "X-Two: a", "X-Two: b", "", ""),
	},
	{name: "trailer, not announced", send: chunked("3", "abc", "0", "X-Sum: 7", "", "")},
	{name: "trailer after an empty body", send: post("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "0", "X-Sum: 7", "", "")},
	{
		name: "trailer, announced and absent",
		send: post("Transfer-Encoding: chunked", "Trailer: X-Sum", "", "3", "abc", "0", "", ""),
	},
	{
		name: "trailer that would be a length", send: chunked("3", "abc", "0", "Content-Length: 50", "", ""),
		sees: chunked("3", "abc", "0", "", ""), may: invalid,
	},
	{
		name: "trailer in Latin 1, and an empty one",
		send: post("Transfer-Encoding: chunked", "Trailer: X-A, X-B", "", "3", "abc", "0", "X-A: \xe9", "X-B:", "", ""),
	},

	// Broken: the client's fault, so 400, and no request that looks whole for the service.
	{name: "broken: a size that is no number", send: chunked("zz", "abc", "0", "", ""), must: invalid},
	{name: "broken: a negative size", send: chunked("-3", "abc", "0", "", ""), must: invalid},
	{name: "broken: a size in hexadecimal notation", send: chunked("0x3", "abc", "0", "", ""), must: invalid},
	{name: "broken: a size beyond 64 bits", send: chunked("10000000000000003", "abc", "0", "", ""), must: invalid},
	{name: "broken: an empty size", send: chunked("", "abc", "0", "", ""), must: invalid},
	{name: "broken: a chunk longer than its size", send: chunked("3", "abcdef", "0", "", ""), must: invalid},
	{name: "broken: a size with a space before it", send: chunked(" 3", "abc", "0", "", ""), sees: chunked("3", "abc", "0", "", ""), may: invalid},
	{name: "broken: a second chunk", send: chunked("3", "abc", "x", "", ""), must: invalid},
	{name: "broken: a line of extensions without an end", send: chunked("3;" + strings.Repeat("a", 1<<20)), must: []int{400, 413, 431, cutOff}, fin: true},
	{name: "broken: a trailer without a colon", send: chunked("3", "abc", "0", "nonsense", "", ""), must: invalid},
	{name: "ends in the size of a chunk", send: chunked("3", "abc", "5"), fin: true, must: invalid},
	{name: "ends in a chunk", send: chunked("5", "abc"), fin: true, must: invalid},
	{name: "ends between two chunks", send: chunked("3", "abc", ""), fin: true, must: invalid},
	{name: "ends before the last empty line", send: chunked("3", "abc", "0", ""), fin: true, must: invalid},
	{name: "ends before its length", send: post("Content-Length: 10", "", "hello"), fin: true, must: invalid},
	{name: "ends before its body", send: post("Content-Length: 10", "", ""), fin: true, must: invalid},
	{name: "ends in the fields", send: "POST / HTTP/1.1\r\nHost: shop\r\nX-A", fin: true, must: invalid},

	// Two ends: what one takes for a body is a request for the other.
	{
		name: "length and chunks", send: post("Content-Length: 43", "Transfer-Encoding: chunked", "Connection: close", "", "0", "", smuggled),
		sees: chunked("0", "", ""), may: invalid,
	},
	{
		name: "chunks and a short length", send: post("Transfer-Encoding: chunked", "Content-Length: 3", "", "8", "abcdefgh", "0", "", ""),
		sees: chunked("8", "abcdefgh", "0", "", ""), may: invalid,
	},
	{name: "two lengths", send: post("Content-Length: 5", "Content-Length: 6", "", "hello!"), must: invalid},
	{name: "two lengths in one line", send: post("Content-Length: 5, 6", "", "hello!"), must: invalid},
	{
		name: "one length twice", send: post("Content-Length: 5", "Content-Length: 5", "", "hello"),
		sees: post("Content-Length: 5", "", "hello"), may: invalid,
	},
	{
		name: "one length twice in one line", send: post("Content-Length: 5, 5", "", "hello"),
		sees: post("Content-Length: 5", "", "hello"), may: invalid,
	},
	{name: "length with a sign", send: post("Content-Length: +5", "", "hello"), must: invalid},
	{name: "length below zero", send: post("Content-Length: -5", "", "hello"), must: invalid},
	{name: "length in hexadecimal", send: post("Content-Length: 0x5", "", "hello"), must: invalid},
	{name: "length with a unit", send: post("Content-Length: 5B", "", "hello"), must: invalid},
	{name: "length that is empty", send: post("Content-Length:", "", ""), must: invalid},
	{name: "length beyond 64 bits", send: post("Content-Length: 18446744073709551621", "", "hello"), must: []int{400, 413, cutOff}},
	{name: "another transfer coding", send: post("Transfer-Encoding: gzip", "", "hello"), must: []int{400, 501, cutOff}},
	{name: "another transfer coding before chunks", send: post("Transfer-Encoding: gzip, chunked", "", "0", "", ""), must: []int{400, 501, cutOff}},
	{name: "a transfer coding that looks like chunks", send: post("Transfer-Encoding: xchunked", "Content-Length: 5", "", "hello"), must: []int{400, 501, cutOff}},
	{name: "a transfer coding after a tab", send: post("Transfer-Encoding:\tchunked", "Content-Length: 3", "", "0", "", ""), sees: chunked("0", "", ""), may: invalid},
	{name: "chunks twice", send: post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "", "0", "", ""), must: []int{400, 501, cutOff}},
	{name: "chunks and identity", send: post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "", "0", "", ""), must: []int{400, 501, cutOff}},
	{name: "chunks with a space before the colon", send: post("Transfer-Encoding : chunked", "Content-Length: 5", "", "0", "", ""), must: invalid},
	{name: "chunks in quotes", send: post(`Transfer-Encoding: "chunked"`, "", "0", "", ""), must: []int{400, 501, cutOff}},
	{
		name: "chunks in HTTP/1.0", send: "POST /orders HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		sees: chunked("3", "abc", "0", "", ""), may: invalid,
	},
	{name: "a body beyond its length", send: post("Content-Length: 5", "", "hello") + "GARBAGE\r\n\r\n", must: invalid},
}
