package wire

import "github.com/seed-de83e32b/governor/actuators/guard"

// Names are the keys under which a transport carries what a request says: headers of HTTP, metadata of gRPC.
type Names struct {
	Context string
	Alike   string // what many servers take for Context
	Baggage string // W3C's, of which this package reads a part

	// What a request says under a key of its own, which wins over Context.
	Criticality, Key, Attempt string
}

// Only returns the one value of a key; "": it has none, or several, of which none counts.
func Only(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return ""
}

// Read reads what a request says in Context or, without that, in its baggage. values returns what stands under a key.
func (n Names) Read(values func(key string) []string) Context {
	if own := values(n.Context); len(own) > 0 {
		return ParseContext(Only(own))
	}
	return ParseContext(FromBaggage(values(n.Baggage)))
}

// Arrival reads all that a request brings along, and of a stranger's only what may make a service do less: that it matters less
// than others, and that somebody retries it. It does not say where the request goes. values returns what stands under a key.
func (n Names) Arrival(values func(key string) []string, stranger bool) (c Context) {
	c.Criticality = guard.Default
	if !stranger {
		c = n.Read(values)
	}
	if own := values(n.Criticality); len(own) > 0 {
		if c.Criticality = Criticality(own); stranger {
			c.Criticality = max(c.Criticality, guard.Default)
		}
	}
	if own := values(n.Key); len(own) > 0 && !stranger {
		c.Key = Only(own)
	}
	if own := values(n.Attempt); len(own) > 0 {
		c.Attempt, c.Marked = ParseAttempt(own[0]), true
	}
	return c
}

// Criticality reads the values of a key: the least important of several counts, and Default if one is unknown or there is none.
func Criticality(values []string) guard.Criticality {
	if len(values) == 0 {
		return guard.Default
	}
	least := guard.Critical
	for _, value := range values {
		c, _ := guard.ParseCriticality(value)
		least = max(least, c)
	}
	return least
}

// FollowTrace gives the request the place that its trace id draws, from the values of traceparent, if it has neither a rank nor
// a key.
func (c *Context) FollowTrace(traceparent []string) {
	if !c.Rank.Drawn && c.Key == "" {
		c.Rank = TraceRank(Only(traceparent))
	}
}

// Set makes h say c, in place of what Read finds there: in Context, and in the baggage if there is something to replace or if
// baggage is true. It writes new slices and leaves the old ones as they are.
func (n Names) Set(h map[string][]string, c Context, baggage bool) {
	if text := c.String(); text != "" {
		h[n.Context] = []string{text}
	} else {
		delete(h, n.Context)
	}
	delete(h, n.Alike)
	if baggage || InBaggage(h[n.Baggage]) {
		n.setBaggage(h, c.Lasting().String())
	}
}

// Remove removes from h what Read finds, here or after another service has copied it in its own way.
func (n Names) Remove(h map[string][]string) {
	delete(h, n.Context)
	delete(h, n.Alike)
	if InBaggage(h[n.Baggage]) {
		n.setBaggage(h, "")
	}
}

func (n Names) setBaggage(h map[string][]string, text string) {
	if lines := SetBaggage(h[n.Baggage], text); lines != nil {
		h[n.Baggage] = lines
	} else {
		delete(h, n.Baggage)
	}
}
