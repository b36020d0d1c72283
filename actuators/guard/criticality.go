package guard

// Criticality says how much a request matters, most important first. Each criticality has its own metrics.
type Criticality uint8

// The criticalities. A request without one is Default.
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

// valid maps an unknown value to Default: a bug must not promote a request.
func (c Criticality) valid() Criticality {
	if c >= criticalities {
		return Default
	}
	return c
}

// ParseCriticality returns the criticality called name, or Default and false if there is none of that name.
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
