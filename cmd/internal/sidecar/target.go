package sidecar

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// setTarget makes out go to the same path and query as in, byte for byte, below prefix, the path of the upstream without a slash
// at its end.
//
// net/url would encode some bytes again. Only an opaque URL passes as it is, and one that begins with // cannot be
// opaque: it would become an absolute one. So such a path is encoded again if it contains what RFC 3986 forbids.
func setTarget(out *url.URL, in *http.Request, prefix string) {
	path, query, asks := strings.Cut(originForm(in), "?")
	out.RawQuery, out.ForceQuery = query, asks && query == ""
	if path != "*" {
		path = prefix + path
	}
	if strings.HasPrefix(path, "//") {
		out.Opaque, out.Path, out.RawPath = "", in.URL.Path, in.URL.RawPath
		return
	}
	out.Opaque, out.Path, out.RawPath = path, "", ""
}

// originForm returns the target of a request without scheme and authority (RFC 9112, section 3.2).
func originForm(r *http.Request) string {
	target := r.RequestURI
	if target == "" || target[0] == '/' || target == "*" {
		return target
	}
	_, rest, _ := strings.Cut(target, ":")
	rest = strings.TrimPrefix(rest, "//")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	} else {
		target = ""
	}
	if target == "" || target[0] == '?' {
		return "/" + target
	}
	return target
}

// hasAuthority says whether the target of a request, if it is a URL, names its server: http://host/path. net/url also reads
// http:/path and http:path, which are no targets (RFC 9112, section 3.2) and which other readers take for other paths.
func hasAuthority(r *http.Request) bool {
	return r.URL.Scheme == "" || strings.HasPrefix(r.RequestURI[len(r.URL.Scheme):], "://")
}

// forwardedHeaders are those in which outer proxies describe the client. ReverseProxy removes them.
var forwardedHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// rewrite makes the outgoing request what the incoming one was.
func rewrite(r *httputil.ProxyRequest) {
	for _, name := range forwardedHeaders {
		if said, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = said
		}
	}
	x := exchangeOf(r.In.Context())
	if x.upload != nil {
		r.Out.Trailer = x.upload.trailer
	}
	if !expectsContinue(x.received) {
		delete(r.Out.Header, "Expect") // RFC 9110, section 10.1.1: an HTTP/1.0 client does not wait
	}
	delete(r.Out.Header, "Http2-Settings")
	if agent := r.In.Header["User-Agent"]; len(agent) > 0 && agent[0] == "" {
		r.Out.Header["user-agent"] = agent // the transport leaves an empty one out, by its canonical name
	}
	if upgrade, ok := r.Out.Header["Upgrade"]; ok && !switches(r.In, upgrade) {
		delete(r.Out.Header, "Upgrade")
		delete(r.Out.Header, "Connection")
	}
}

// switches says whether a request may switch to another protocol. HTTP and TLS are none: what followed would be requests
// that nobody guards.
func switches(r *http.Request, upgrade []string) bool {
	if r.ProtoMajor != 1 || !r.ProtoAtLeast(1, 1) || len(upgrade) != 1 { // RFC 9110, section 7.8
		return false
	}
	for protocol := range strings.SplitSeq(upgrade[0], ",") {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(protocol)), "/")
		switch name {
		case "h2c", "h2", "h3", "http", "https", "tls", "ssl":
			return false
		}
	}
	return true
}
