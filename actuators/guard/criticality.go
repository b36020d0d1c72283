package guard

// Criticality says how much a request matters, most important first. Its metrics are kept apart.
type Criticality uint8

// The criticalities. A request that does not say is Default.
const (
	Critical Criticality = iota
	Default
	Sheddable
	Background

	criticalities = 4
)

var criticalityNames = [criticalities]string{"critical", "default", "sheddable", "background"}

// String returns the name that metrics and headers use.
func (c Criticality) String() string { return criticalityNames[c.valid()] }

// valid maps a value that is no criticality to Default: a bug must not promote a request.
func (c Criticality) valid() Criticality {
	if c >= criticalities {
		return Default
	}
	return c
}

// ParseCriticality returns the criticality called name, and Default with false for a name that is none.
func ParseCriticality(name string) (Criticality, bool) {
	for i, n := range criticalityNames {
		if n == name {
			return Criticality(i), true
		}
	}
	return Default, false
}

// Criticalities lists all of them, most important first.
func Criticalities() []Criticality { return []Criticality{Critical, Default, Sheddable, Background} }
