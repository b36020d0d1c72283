package wire

// Names are the keys under which a transport carries what a request says: headers of HTTP, metadata of gRPC.
type Names struct {
	Context string
	Alike   string // what many servers take for Context
	Baggage string // W3C's, of which this package reads a part
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
