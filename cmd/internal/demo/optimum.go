package demo

import (
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/models/live/load"
)

// limits are the fixed limits that Optimum tries.
var limits = []int{6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 200, 400, 1024}

// Optimum returns the result of the best fixed limit for the story, and that limit. It tries them all in the simulator.
func Optimum(acts []Act, seed uint64) (best Score, limit int) {
	for _, l := range limits {
		if s := simulated(acts, seed, l); limit == 0 || s.Good > best.Good {
			best, limit = s, l
		}
	}
	return best, limit
}

// simulated plays the story on a simulated twin with a fixed limit. The loss of Prometheus or of a governor has no
// effect on it.
func simulated(acts []Act, seed uint64, limit int) Score {
	epoch := time.Unix(0, 0)
	var spans []Span
	var stages []models.Stage
	at := time.Duration(0)
	for _, a := range acts {
		stage := models.Stage{From: at, Servers: Servers, Slowdown: 1}
		if a.Slow {
			stage.DependencyDelay, stage.DependencyShare = dependencyDelay, dependencyShare
		}
		stages = append(stages, stage)
		spans = append(spans, Span{a, epoch.Add(at), epoch.Add(at + a.Lasts)})
		at += a.Lasts
	}
	end := at
	cfg := models.Config{
		ServiceTime: Mean, ClientTimeout: ClientTimeout, Retries: Retries, RetryWait: RetryWait,
		Seed: seed, Stages: stages,
		Load: models.Load{Peak: Surge * BaseLoad, Rate: func(at time.Duration) float64 {
			i := slices.IndexFunc(spans, func(s Span) bool { return epoch.Add(at).Before(s.To) })
			if i < 0 {
				return BaseLoad // these requests are not scored, but earlier ones need time to end
			}
			return acts[i].Load * BaseLoad
		}},
	}
	for i, c := range classes {
		cfg.Mix[i] = c.Share
	}
	w := &witness{Limiter: models.NewLimiter(float64(limit)), epoch: epoch}
	end += 10 * time.Second
	models.New(cfg, w, models.NewScore(SLO, Objective, []models.Phase{{From: 0, To: end}})).Run(end)
	return score(w.records, spans)
}

// witness records the outcome of every request.
type witness struct {
	*models.Limiter
	epoch   time.Time
	records []load.Record // by Request.ID − 1
}

func (w *witness) Admit(now time.Duration, r models.Request) models.Verdict {
	for uint64(len(w.records)) < r.ID {
		w.records = append(w.records, load.Record{})
	}
	record := &w.records[r.ID-1]
	if r.Attempt == 0 {
		*record = load.Record{Due: w.epoch.Add(now), Class: uint8(r.Criticality), Outcome: load.Refused}
	}
	record.Attempts++
	return w.Limiter.Admit(now, r)
}

func (w *witness) Done(now time.Duration, r models.Request, o models.Outcome) {
	record := &w.records[r.ID-1]
	record.Latency, record.Last = now-r.Arrived, now-r.Sent
	switch {
	case o != models.OK:
		record.GaveUp++
		if record.Outcome == load.Refused {
			record.Outcome = load.TimedOut
		}
	case record.Latency > SLO:
		record.Outcome = load.Slow
	default:
		record.Outcome = load.OK
	}
	w.Limiter.Done(now, r, o)
}
