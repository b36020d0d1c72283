package daemon

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// scrapeObserver is a Sensor that knows the real scrape interval of its data, in seconds: a *signals.Group.
type scrapeObserver interface{ ObservedScrape() control.Reading }

// scrapeWatch compares the scrape interval seen in the data with the configured one, from which dead time, freshness
// and every gain derive. It warns once, after the difference has lasted three windows: right after a start of the
// service or a lost scrape the data looks thin for a while.
type scrapeWatch struct {
	services []string
	timing   control.Timing
	learned  bool

	since   time.Time // when the difference began; zero: there is none
	warning string    // the warning given, while it holds
}

// scrapeFactor is the smallest factor that counts as a difference.
const scrapeFactor = 1.5

func newScrapeWatch(g Group) scrapeWatch {
	w := scrapeWatch{timing: g.Specs[0].Timing, learned: g.Learned}
	for _, s := range g.Specs {
		w.services = append(w.services, s.Service)
	}
	return w
}

// check returns the warning at the instant now, "" for none, and whether it is new.
func (w *scrapeWatch) check(now time.Time, observed control.Reading) (warning string, news bool) {
	seconds, ok := observed.Value()
	configured := w.timing.Scrape.Seconds()
	switch {
	case w.learned:
		return "", false
	case !ok: // unknown: no reason to begin or to end anything
		return w.warning, false
	case math.Abs(math.Log(seconds/configured)) < math.Log(scrapeFactor):
		w.since, w.warning = time.Time{}, ""
		return "", false
	case w.since.IsZero():
		w.since = now
	}
	if w.warning != "" || now.Sub(w.since) < 3*w.timing.Window {
		return w.warning, false
	}
	names := strings.Join(w.services, ", ")
	if n := len(w.services); n > 3 {
		names = fmt.Sprintf("%s and %d more", strings.Join(w.services[:3], ", "), n-3)
	}
	w.warning = fmt.Sprintf("Prometheus scrapes %s about every %s, the configuration says %s: "+
		"set timing.scrape_interval to what is true", names, control.RoundInterval(seconds), w.timing.Scrape)
	return w.warning, true
}
