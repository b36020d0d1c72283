package conformance

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// field is one line of a header or a trailer section: the name in lower case, the value without white space around it.
type field struct{ name, value string }

// message is a request or an answer of HTTP/1, read strictly.
type message struct {
	start    string // of a request: method and target; of an answer: the status code
	method   string // of a request
	minor    string // "HTTP/1.1"
	fields   []field
	interim  []message // answers with 1xx that came before
	body     string
	trailers []field
	// broken is why the message is malformed or not complete; empty: it is whole.
	broken string
}

// status of an answer; 0: there is none.
func (m message) status() int {
	status, _ := strconv.Atoi(m.start)
	return status
}

func (m message) values(name string) []string {
	var values []string
	for _, f := range m.fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// lists says whether a comma-separated field contains the token.
func (m message) lists(name, token string) bool {
	for _, value := range m.values(name) {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// unframed says whether the sender left the length of the body to the connection.
func (m message) unframed() bool {
	return len(m.values("content-length")) == 0
}

var hopByHop = []string{
	"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// lines is the message in the form in which messages are compared and shown. An upgrade is end to end in effect, so its
// name counts, if the message asks for one or makes one.
func (m message) lines() []string {
	lines := []string{}
	for _, i := range m.interim {
		for _, line := range i.lines() {
			lines = append(lines, "before: "+line)
		}
	}
	lines = append(lines, m.start)
	fields := slices.Clone(m.fields)
	slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for _, f := range fields {
		upgrade := f.name == "upgrade" && m.lists("connection", "upgrade") && (m.method != "" || m.start == "101")
		if upgrade || !slices.Contains(hopByHop, f.name) {
			lines = append(lines, fmt.Sprintf("%s: %s", f.name, short(f.value)))
		}
	}
	if m.body != "" {
		lines = append(lines, "body: "+short(m.body))
	}
	for _, f := range m.trailers {
		lines = append(lines, fmt.Sprintf("trailer %s: %s", f.name, short(f.value)))
	}
	if m.broken != "" {
		lines = append(lines, "(not whole)")
	}
	return lines
}

func (m message) String() string {
	text := strings.Join(m.lines(), " | ")
	if m.broken != "" {
		text += " " + m.broken
	}
	return text
}

// short quotes a value; a long one is told apart by its hash.
func short(s string) string {
	if len(s) <= 200 {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q… (%d bytes, sha256 %.8x)", s[:20], len(s), sha256.Sum256([]byte(s)))
}

// differ lists the lines that only one of two messages has. A field that the sidecar may add counts only if the message
// that is wanted has it.
func differ(want, got message, mayAdd ...string) []string {
	if want.unframed() || want.start == "204" {
		mayAdd = append(mayAdd, "content-length")
	}
	got.fields = slices.DeleteFunc(slices.Clone(got.fields), func(f field) bool {
		return slices.Contains(mayAdd, f.name) && want.values(f.name) == nil
	})
	// Each proxy adds to the list, in the same line or in one of its own.
	if list := got.values("x-forwarded-for"); len(list) > 1 {
		got.fields = slices.DeleteFunc(got.fields, func(f field) bool { return f.name == "x-forwarded-for" })
		got.fields = append(got.fields, field{"x-forwarded-for", strings.Join(list, ", ")})
	}
	if want.broken != "" { // how much of it arrives before the end is the network's choice
		if got.broken != "" && strings.HasPrefix(want.body, got.body) {
			got.body = want.body
		}
	}
	var all []string
	w, g := want.lines(), got.lines()
	for _, line := range w {
		if i := slices.Index(g, line); i >= 0 {
			g = slices.Delete(g, i, i+1)
		} else {
			all = append(all, "- "+line)
		}
	}
	for _, line := range g {
		all = append(all, "+ "+line)
	}
	if all == nil && !sameOrder(want.fields, got.fields) {
		all = append(all, fmt.Sprintf("the values of one name are in another order: %v", got.fields))
	}
	return all
}

// sameOrder says whether each name has its values in the same order in both.
func sameOrder(a, b []field) bool {
	by := func(fields []field) []field {
		fields = slices.DeleteFunc(slices.Clone(fields), func(f field) bool {
			return slices.Contains(hopByHop, f.name) || f.name == "content-length"
		})
		slices.SortStableFunc(fields, func(x, y field) int { return strings.Compare(x.name, y.name) })
		return fields
	}
	return slices.Equal(by(a), by(b))
}

// errMalformed is a message that does not follow the protocol, as opposed to one that ends too soon.
var errMalformed = errors.New("malformed")

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		if errors.Is(err, io.EOF) && line != "" {
			err = io.ErrUnexpectedEOF
		}
		return line, err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return line, fmt.Errorf("%w: a line ends without CR: %s", errMalformed, short(line))
	}
	return text, nil
}

func readFields(r *bufio.Reader) ([]field, error) {
	var fields []field
	for {
		line, err := readLine(r)
		if err != nil {
			return fields, cut(err)
		}
		if line == "" {
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\x00") || strings.ContainsAny(value, "\x00\r") {
			return fields, fmt.Errorf("%w: the field %s", errMalformed, short(line))
		}
		fields = append(fields, field{strings.ToLower(name), strings.Trim(value, " \t")})
	}
}

// cut turns the end of the input into an error: the message is not over.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readHead reads a message up to its body. At the end of the input it returns io.EOF.
func readHead(r *bufio.Reader, answer bool) (message, error) {
	line, err := readLine(r)
	for err == nil && line == "" && !answer {
		line, err = readLine(r)
	}
	if err != nil {
		return message{}, err
	}
	m := message{}
	if answer {
		parts := strings.SplitN(line, " ", 3)
		if len(parts) < 2 || len(parts[1]) != 3 || !strings.HasPrefix(parts[0], "HTTP/1.") {
			return m, fmt.Errorf("%w: the status line %s", errMalformed, short(line))
		}
		m.minor, m.start = parts[0], parts[1]
		if m.status() < 100 {
			return m, fmt.Errorf("%w: the status line %s", errMalformed, short(line))
		}
	} else {
		parts := strings.Split(line, " ")
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/1.") {
			return m, fmt.Errorf("%w: the request line %s", errMalformed, short(line))
		}
		m.method, m.start, m.minor = parts[0], parts[0]+" "+parts[1], parts[2]
	}
	m.fields, err = readFields(r)
	return m, err
}

// body reads the body of a message, whatever its framing. It returns io.EOF only at its true end.
type body struct {
	r        *bufio.Reader
	chunked  bool
	left     int64 // of the chunk or of the body; -1: up to the end of the connection
	trailers []field
	err      error
}

// bodyOf returns the body that follows a head. asked is the method of the request, if m is its answer.
func bodyOf(r *bufio.Reader, m message, asked string) (*body, error) {
	b := &body{r: r}
	lengths, codings := m.values("content-length"), m.values("transfer-encoding")
	answer, status := m.method == "", m.status()
	switch {
	case answer && (asked == "HEAD" || status < 200 || status == 204 || status == 304):
		b.err = io.EOF
	case len(codings) > 0 && len(lengths) > 0:
		return b, fmt.Errorf("%w: both Content-Length and Transfer-Encoding", errMalformed)
	case len(codings) > 0:
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") {
			return b, fmt.Errorf("%w: Transfer-Encoding %q", errMalformed, codings)
		}
		if m.minor == "HTTP/1.0" {
			return b, fmt.Errorf("%w: chunks in HTTP/1.0", errMalformed)
		}
		b.chunked = true
	case len(lengths) > 0:
		n, err := strconv.ParseUint(lengths[0], 10, 62)
		if err != nil || len(lengths) > 1 {
			return b, fmt.Errorf("%w: Content-Length %q", errMalformed, lengths)
		}
		if b.left = int64(n); n == 0 {
			b.err = io.EOF
		}
	case answer:
		b.left = -1
	default:
		b.err = io.EOF
	}
	return b, nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.chunked && b.left == 0 {
		if b.left, b.err = b.nextChunk(); b.err != nil {
			return 0, b.err
		}
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	if b.left > 0 {
		err = cut(err)
		if b.left -= int64(n); b.left == 0 && err == nil {
			if !b.chunked {
				err = io.EOF
			} else if line, endErr := readLine(b.r); endErr != nil {
				err = cut(endErr)
			} else if line != "" {
				err = fmt.Errorf("%w: a chunk is longer than its size", errMalformed)
			}
		}
	}
	b.err = err
	return n, err
}

// nextChunk reads the size of the next chunk; after the last one, the trailers.
func (b *body) nextChunk() (int64, error) {
	line, err := readLine(b.r)
	if err != nil {
		return 0, cut(err)
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 62)
	if err != nil {
		return 0, fmt.Errorf("%w: the size of a chunk %s", errMalformed, short(line))
	}
	if n > 0 {
		return int64(n), nil
	}
	if b.trailers, err = readFields(b.r); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// readMessage reads a whole message. It returns io.EOF if there is none; other errors are in the message.
func readMessage(r *bufio.Reader, answer bool, asked string) (message, error) {
	var interim []message
	for {
		m, err := readHead(r, answer)
		if errors.Is(err, io.EOF) && len(interim) == 0 {
			return m, io.EOF
		}
		if err == nil && answer && m.status() < 200 && m.status() != 101 {
			interim = append(interim, m)
			continue
		}
		m.interim = interim
		if err == nil {
			var b *body
			if b, err = bodyOf(r, m, asked); err == nil {
				var content []byte
				content, err = io.ReadAll(b)
				m.body, m.trailers = string(content), b.trailers
			}
		}
		if err != nil {
			m.broken = broken(cut(err))
		}
		return m, nil
	}
}

const timedOut = "(time out: nothing came)"

// broken describes an error in short.
func broken(err error) string {
	switch netErr := net.Error(nil); {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return timedOut
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "(ends early)"
	default:
		return "(" + err.Error() + ")"
	}
}

// parse reads all the messages in a text. asked has the methods of the requests, if they are answers.
func parse(text string, answer bool, asked ...string) []message {
	var all []message
	r := bufio.NewReader(strings.NewReader(text))
	for i := 0; ; i++ {
		method := ""
		if answer && i < len(asked) {
			method = asked[i]
		}
		m, err := readMessage(r, answer, method)
		if err != nil {
			return all
		}
		if all = append(all, m); m.broken != "" {
			return all
		}
	}
}
