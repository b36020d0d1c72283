package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/oklog/run"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/daemon"
	"github.com/seed-de83e32b/governor/signals"
)

// learner finds out how often Prometheus scrapes the services whose scrape interval nobody has configured, and whose
// histograms are native ones. It rebuilds the loops, as a reload does, when it finds something else than it knew. One odd
// answer rebuilds nothing: what is new has to be found twice in a row.
type learner struct {
	log  *slog.Logger
	look func(ctx context.Context, config *configs.Config, services []signals.Service) map[string]signals.Learned

	mu       sync.Mutex
	config   *configs.Config // in force, with what is learned
	loaded   time.Time
	learned  map[string]signals.Learned
	proposed map[string]signals.Learned // found once, and other than what is learned
}

// How often the learner looks: at services of which nothing is known yet, less and less often while nothing is found, and
// at all of them.
const (
	learnUnknown = 15 * time.Second
	learnSlowest = time.Minute
	learnAgain   = 3 * time.Minute
	learnAtStart = 5 * time.Second // in all; what is not known by then is found later
)

func newLearner(log *slog.Logger) *learner {
	l := &learner{log: log, learned: map[string]signals.Learned{}, proposed: map[string]signals.Learned{}}
	l.look = l.ask
	return l
}

// setup builds the part of the daemon that follows the configuration, with what is known of its services by now.
func (l *learner) setup(config *configs.Config) (daemon.Setup, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range config.Signals() { // any that is not known is reason enough
		if _, known := l.learned[s.Name]; !known {
			ctx, cancel := context.WithTimeout(context.Background(), learnAtStart)
			defer cancel()
			maps.Copy(l.learned, l.find(ctx, config, config.Signals()))
			break
		}
	}
	config, loaded := config.WithLearned(l.learned), time.Now()
	setup, err := setupOf(config, loaded)
	if err == nil {
		l.config, l.loaded = config, loaded
	}
	return setup, err
}

// find looks at services, and leaves the scrape interval of one alone where the file gives it.
func (l *learner) find(ctx context.Context, config *configs.Config, services []signals.Service) map[string]signals.Learned {
	found := l.look(ctx, config, services)
	for name, now := range found {
		if !config.Learns(name) {
			now.Scrape = 0
			found[name] = now
		}
	}
	return found
}

// ask asks Prometheus. What goes wrong on the way there is the loops' to tell.
func (l *learner) ask(ctx context.Context, config *configs.Config, services []signals.Service) map[string]signals.Learned {
	found, err := signals.Learn(ctx, config.SensorOptions(), services)
	if err != nil {
		l.log.Debug("the scrape intervals were not learned", "err", err)
	}
	return found
}

// again looks at services anew and says whether the loops should be rebuilt.
func (l *learner) again(ctx context.Context, services []signals.Service) bool {
	l.mu.Lock()
	config := l.config
	l.mu.Unlock()
	found := l.find(ctx, config, services)
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := false
	for name, now := range found {
		was, known := l.learned[name]
		switch {
		case known && was == now:
			delete(l.proposed, name)
		case known && l.proposed[name] != now:
			l.proposed[name] = now
		default:
			l.learned[name] = now
			delete(l.proposed, name)
			if now != was {
				l.log.Info("learned from the data", "service", name, "scrape_interval", now.Scrape, "before", was.Scrape,
					"native_histogram", now.Native)
				changed = true
			}
		}
	}
	return changed
}

// services returns all services, and those of which nothing is known or something else was found once.
func (l *learner) services() (all, unsettled []signals.Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = l.config.Signals()
	for _, s := range all {
		_, known := l.learned[s.Name]
		_, proposed := l.proposed[s.Name]
		if !known || proposed {
			unsettled = append(unsettled, s)
		}
	}
	return all, unsettled
}

// rounds says when the learner looks, and at whom.
type rounds struct {
	at, atAll time.Time     // of the last look, and of the last one at all services
	wait      time.Duration // until the next look at those that are not settled
	unsettled int           // at the last tick
}

func newRounds(now time.Time) rounds { return rounds{at: now, atAll: now, wait: learnUnknown} }

// due returns the services to look at now.
func (r *rounds) due(now time.Time, all, unsettled []signals.Service) []signals.Service {
	if len(unsettled) != r.unsettled { // something was found, or the configuration has changed
		r.unsettled, r.wait = len(unsettled), learnUnknown
	}
	switch {
	case now.Sub(r.atAll) >= learnAgain:
		r.at, r.atAll = now, now
		return all
	case len(unsettled) > 0 && now.Sub(r.at) >= r.wait:
		r.at, r.wait = now, min(2*r.wait, learnSlowest)
		return unsettled
	}
	return nil
}

// add looks from time to time.
func (l *learner) add(g *run.Group, d *daemon.Daemon) {
	ctx, cancel := context.WithCancel(context.Background())
	g.Add(func() error {
		tick := time.NewTicker(learnUnknown)
		defer tick.Stop()
		next := newRounds(time.Now())
		for {
			var services []signals.Service
			select {
			case <-ctx.Done():
				return nil
			case now := <-tick.C:
				all, unsettled := l.services()
				services = next.due(now, all, unsettled)
			}
			if len(services) == 0 || !l.again(ctx, services) {
				continue
			}
			err := d.Replace(ctx, func() (daemon.Setup, error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if inForce := d.Status().Config.Hash; l.config.Hash != inForce {
					return daemon.Setup{}, fmt.Errorf("the file that was read last (%s) is not in force", l.config.Hash)
				}
				l.config = l.config.WithLearned(l.learned)
				return setupOf(l.config, l.loaded)
			})
			if err != nil && ctx.Err() == nil {
				l.log.Error("the loops were not rebuilt for the scrape interval that was learned", "err", err)
			}
		}
	}, func(error) { cancel() })
}
