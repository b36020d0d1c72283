package guardhttp

import (
	"encoding/base64"
	"net/http"

	"github.com/seed-de83e32b/governor/actuators/guard/internal/loadreport"
)

// LoadReportHeader is the header of an answer that carries a load report of ORCA, and LoadReportBinHeader the trailer that
// carries it in gRPC (gRFC A51). See WithLoadReport.
const (
	LoadReportHeader    = "Endpoint-Load-Metrics"
	LoadReportBinHeader = "Endpoint-Load-Metrics-Bin"
)

// WithLoadReport makes each answer, refusals included, tell the balancer in front how loaded this instance is, in the format
// of ORCA (Open Request Cost Aggregation, xds.data.orca.v3.OrcaLoadReport):
//
//	Endpoint-Load-Metrics: TEXT application_utilization=0.85, rps_fractional=412
//
// The utilization is the mean number of requests in flight, divided by the limit. It is above 1 after a cut of the limit. The
// rate is that of the admitted requests that ended. Both are means over the last second. In the first second there is no rate
// yet, and the utilization is that of the moment.
//
// Weighted round robin gives each instance traffic in proportion to rate ÷ utilization. By Little's law that is limit ÷ mean
// latency: the rate at which the limit would be full, whatever share of the traffic the instance gets now.
//
// An answer of gRPC has the same report as a protocol buffer in its trailer. A report of the handler is replaced. Requests
// that WithBypass matches have none. Leave the option out where strangers receive the answers. It costs each request two
// short locks.
func WithLoadReport() Option {
	return func(h *handler) { h.report = loadreport.New(h.guard.Load) }
}

// beginReport writes the report, unless it is nil, into the header of an answer that is about to begin, as a protocol buffer or
// as text.
func beginReport(l *loadreport.Report, h http.Header, binary bool) {
	if l == nil {
		return
	}
	delete(h, LoadReportHeader)
	delete(h, LoadReportBinHeader)
	if binary {
		h[LoadReportBinHeader] = []string{encoded(l)}
	} else {
		h[LoadReportHeader] = []string{l.Text()}
	}
}

// endReport writes the report into the trailer of an answer of gRPC.
func endReport(l *loadreport.Report, h http.Header) {
	h[http.TrailerPrefix+LoadReportBinHeader] = []string{encoded(l)}
}

// encoded is the message in base64: gRPC encodes each header whose name ends with -bin.
func encoded(l *loadreport.Report) string { return base64.RawStdEncoding.EncodeToString(l.Binary()) }
