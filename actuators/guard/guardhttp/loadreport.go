package guardhttp

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
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
//	Endpoint-Load-Metrics: TEXT application_utilization=0.85, rps_fractional=412.000
//
// The utilization is the requests in flight divided by the limit, now. It is above 1 after a cut of the limit. The rate is
// that of the admitted requests that were answered, over the last second, and is left out while it is not known. Weighted
// round robin divides the two: rate ÷ utilization = limit ÷ mean latency, by Little's law. That is the rate at which the
// limit would be full.
//
// An answer of gRPC has the same report as a protocol buffer in its trailer. A report of the handler is replaced. Requests
// that WithBypass matches have none. Leave the option out where strangers receive the answers.
func WithLoadReport() Option {
	return func(h *handler) { h.report = &loadReport{guard: h.guard, base: time.Now()} }
}

// loadReport measures the rate and writes the reports. A nil loadReport does nothing.
type loadReport struct {
	guard *guard.Guard
	base  time.Time

	began    atomic.Int64  // the window, nanoseconds after base
	answered atomic.Uint64 // in it
	rate     atomic.Uint64 // bits of the answers per second of the window before; 0: not known
}

const (
	rateWindow  = time.Second
	rateLongest = 10 * time.Second // a longer window has a pause in it, and says nothing about now
)

// count counts an admitted request that is answered at the instant now.
func (l *loadReport) count(now time.Time) {
	l.answered.Add(1)
	began, at := l.began.Load(), int64(now.Sub(l.base))
	span := time.Duration(at - began)
	if span < rateWindow || !l.began.CompareAndSwap(began, at) {
		return
	}
	perSecond := float64(l.answered.Swap(0)) / span.Seconds()
	if span > rateLongest {
		perSecond = 0
	}
	l.rate.Store(math.Float64bits(perSecond))
}

// measure returns the requests in flight as a share of the limit, and the answers per second, 0 if not known.
func (l *loadReport) measure() (utilization, perSecond float64) {
	n, limit := l.guard.Load()
	return float64(n) / float64(max(1, limit)), math.Float64frombits(l.rate.Load())
}

// begin writes the report into the header of an answer that is about to begin, as a protocol buffer or as text.
func (l *loadReport) begin(h http.Header, binary bool) {
	if l == nil {
		return
	}
	delete(h, LoadReportHeader)
	delete(h, LoadReportBinHeader)
	if binary {
		h[LoadReportBinHeader] = []string{l.binary()}
	} else {
		h[LoadReportHeader] = []string{l.text()}
	}
}

// end writes the report into the trailer of an answer of gRPC.
func (l *loadReport) end(h http.Header) {
	h[http.TrailerPrefix+LoadReportBinHeader] = []string{l.binary()}
}

func (l *loadReport) text() string {
	utilization, perSecond := l.measure()
	b := make([]byte, 0, 80)
	b = append(b, "TEXT application_utilization="...)
	b = strconv.AppendFloat(b, utilization, 'f', 3, 64)
	if perSecond > 0 {
		b = append(b, ", rps_fractional="...)
		b = strconv.AppendFloat(b, perSecond, 'f', 3, 64)
	}
	return string(b)
}

// Keys of fields in a message of protocol buffers: the number in xds.data.orca.v3.OrcaLoadReport, shifted by three bits, and
// 1, the wire type of a double.
const (
	rpsFractionalKey          = 6<<3 | 1
	applicationUtilizationKey = 9<<3 | 1
)

// binary returns the report as a message in base64: gRPC encodes each header whose name ends with -bin.
func (l *loadReport) binary() string {
	utilization, perSecond := l.measure()
	b := make([]byte, 0, 18)
	if perSecond > 0 {
		b = binary.LittleEndian.AppendUint64(append(b, rpsFractionalKey), math.Float64bits(perSecond))
	}
	b = binary.LittleEndian.AppendUint64(append(b, applicationUtilizationKey), math.Float64bits(utilization))
	return base64.RawStdEncoding.EncodeToString(b)
}
