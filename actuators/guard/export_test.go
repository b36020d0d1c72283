package guard

// LoadPart returns what is in flight in the compartment of the route called name ("": that of the service), and the limit in
// force there.
func (g *Guard) LoadPart(name string) (inFlight, limit int) {
	l, n := unpack(g.part(name).gate.word.Load())
	return int(n), int(l)
}

// SetLimits sets the own limit of that compartment, and its share; 0: none.
func (g *Guard) SetLimits(name string, own, share int) {
	part := g.part(name)
	part.gate.setShare(0, 0)
	part.gate.setLimit(0, uint64(own))
	part.gate.setShare(0, uint64(share))
}

// SetRoof sets the limit of the roof.
func (g *Guard) SetRoof(limit int) { g.roof.gate.setLimit(0, uint64(limit)) }

func (g *Guard) part(name string) *Guard {
	if name == "" {
		return g
	}
	return g.compartment(name)
}
