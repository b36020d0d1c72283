package guardhttp

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
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
	return func(h *handler) { h.report = newLoadReport(h.guard.Load) }
}

// loadReport measures the load and writes the reports. A nil loadReport does nothing.
type loadReport struct {
	load func() (inFlight, limit int)

	mu       sync.Mutex
	at       time.Time // of the last look
	inFlight int       // then
	began    time.Time // the window
	ended    int       // requests, in it
	taken    float64   // requests in flight, integrated over the window, in seconds

	// Of the window before.
	known                  bool
	utilization, perSecond float64
}

// loadWindow is short beside the time in which balancers change weights, 1 s or more, and long beside most requests.
const loadWindow = time.Second

func newLoadReport(load func() (inFlight, limit int)) *loadReport {
	now := time.Now()
	return &loadReport{load: load, at: now, began: now}
}

// admitted and over enclose a request that counts towards the limit.
func (l *loadReport) admitted() { l.change(0) }

func (l *loadReport) over() { l.change(1) }

func (l *loadReport) change(ended int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended += ended
	l.look(time.Now())
}

// look notes how many requests are in flight, as if that many had been there since the last look, and ends the window when
// its time has come. The caller holds mu.
func (l *loadReport) look(now time.Time) (inFlight, limit int) {
	l.taken += float64(l.inFlight) * now.Sub(l.at).Seconds()
	inFlight, limit = l.load()
	l.at, l.inFlight = now, inFlight
	if span := now.Sub(l.began); span >= loadWindow {
		l.utilization, l.perSecond = l.taken/span.Seconds()/float64(max(1, limit)), float64(l.ended)/span.Seconds()
		l.known, l.began, l.taken, l.ended = true, now, 0, 0
	}
	return inFlight, limit
}

// measure returns the utilization, and the rate in requests per second, 0 if there is none.
func (l *loadReport) measure() (utilization, perSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inFlight, limit := l.look(time.Now())
	if !l.known {
		return float64(inFlight) / float64(max(1, limit)), 0
	}
	return l.utilization, l.perSecond
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

const digits = 6 // significant ones: the utilization may be far below 1, and 0 would mean that there is none

func (l *loadReport) text() string {
	utilization, perSecond := l.measure()
	b := make([]byte, 0, 80)
	b = append(b, "TEXT application_utilization="...)
	b = strconv.AppendFloat(b, utilization, 'g', digits, 64)
	if perSecond > 0 {
		b = append(b, ", rps_fractional="...)
		b = strconv.AppendFloat(b, perSecond, 'g', digits, 64)
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
