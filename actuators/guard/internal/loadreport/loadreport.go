// Package loadreport tells balancers how loaded an instance is, in the format of ORCA (Open Request Cost Aggregation,
// xds.data.orca.v3.OrcaLoadReport), for all bindings of guard. guardhttp.WithLoadReport says what the figures are.
package loadreport

import (
	"encoding/binary"
	"math"
	"strconv"
	"sync"
	"time"
)

// Report measures the load of an instance. All methods are safe for concurrent use; Admitted and Over of a nil Report do nothing.
type Report struct {
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

// New returns the Report of a guard, whose Load it asks.
func New(load func() (inFlight, limit int)) *Report {
	now := time.Now()
	return &Report{load: load, at: now, began: now}
}

// Admitted notes that a request begins that counts towards the limit. Over must follow.
func (l *Report) Admitted() { l.change(0) }

// Over notes that it has ended, and given its slot back.
func (l *Report) Over() { l.change(1) }

func (l *Report) change(ended int) {
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
func (l *Report) look(now time.Time) (inFlight, limit int) {
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
func (l *Report) measure() (utilization, perSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inFlight, limit := l.look(time.Now())
	if !l.known {
		return float64(inFlight) / float64(max(1, limit)), 0
	}
	return l.utilization, l.perSecond
}

const digits = 6 // significant ones: the utilization may be far below 1, and 0 would mean that there is none

// Text returns the report as text, for a header of HTTP.
func (l *Report) Text() string {
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

// Binary returns the report as a message of protocol buffers, for the trailer of gRPC.
func (l *Report) Binary() []byte {
	utilization, perSecond := l.measure()
	b := make([]byte, 0, 18)
	if perSecond > 0 {
		b = binary.LittleEndian.AppendUint64(append(b, rpsFractionalKey), math.Float64bits(perSecond))
	}
	b = binary.LittleEndian.AppendUint64(append(b, applicationUtilizationKey), math.Float64bits(utilization))
	return b
}
