package simulate

import (
	"time"

	"github.com/seed-de83e32b/governor/models"
)

// experiment is an outer loop that was tried and refuted. It is no part of governor or of guard: it exists to be compared
// with them. It sees what passes the doors of the services and their ways out, exactly and without delay, which is
// more than a sensor would.
type experiment interface {
	// door is what stands in front of an instance of a service.
	door(service int, s subject) subject
	// way is the way out of an instance over a link.
	way(link models.Link, c models.Caller) models.Caller
	// step is called once a period.
	step(now time.Duration)
}

// experiment returns that of the contender, nil where it has none.
func (r Run) experiment(cfg models.GraphConfig, fleets []*fleet) experiment {
	switch r.Contender {
	case Entry, EntryPatterns:
		return newEntryLoop(r, cfg, func() clock { return fleets[0].clock })
	case RetryLaw:
		return newRetryLoop(r, fleets)
	}
	return nil
}

// observed is a Caller that an experiment watches. It steers as the Caller does.
type observed struct{ models.Caller }

// Instance implements models.Steerer.
func (o observed) Instance(c models.Call) int {
	if s, ok := o.Caller.(models.Steerer); ok {
		return s.Instance(c)
	}
	return -1
}

// Standing implements models.Steerer.
func (o observed) Standing(c models.Call) models.Standing {
	if s, ok := o.Caller.(models.Steerer); ok {
		return s.Standing(c)
	}
	return models.Standing{}
}
