package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// file is a scenario as it is written. What each key means is in the comment of package scenarios.
type file struct {
	Title   string
	Intent  string
	SLO     sloFile
	Limit   limitFile
	Service serviceFile
	// Services replaces Service where several call each other.
	Services []serviceFile
	Calls    clientsFile // between services
	Load     *float64
	Mix      mixFile
	Clients  clientsFile
	Routes   []routeFile
	Phases   []map[string]span
	Script   []stepFile
}

type sloFile struct {
	Latency   span
	Objective share
}

type limitFile struct {
	Start, Min, Max float64
	Fixed           []float64
}

type serviceFile struct {
	Servers        int
	Time           span
	Law            law
	RejectCost     span `yaml:"reject-cost"`
	Instances      int
	Balancer       balancer
	Dependency     dependencyFile
	WarmUp         warmUpFile `yaml:"warm-up"`
	DropsAbandoned bool       `yaml:"drops-abandoned"`

	// Of one of several:
	Name      string
	Calls     []callStep
	Limit     *limitFile
	Unguarded bool
	SLO       span // its own latency objective; that of the scenario without it
}

// callStep is the calls that are made at once: a service, or a list of them.
type callStep []string

func (c *callStep) UnmarshalYAML(n *yaml.Node) error {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		if n.Kind != yaml.ScalarNode || n.Value == "" {
			return complain(n, "expected the name of a service, or a list of names that are called at once")
		}
		*c = append(*c, n.Value)
	}
	return nil
}

type dependencyFile struct {
	Delay span
	Share share
}

type warmUpFile struct {
	For      span
	Slowdown float64
}

type clientsFile struct {
	Timeout span
	Retries struct {
		Times int
		Wait  span
	}
	// Direct, of calls between services: callers know the instances, and may choose.
	Direct bool
}

type routeFile struct {
	Name     string
	Load     float64
	Time     *span
	Law      *law
	Mix      mixFile
	Hold     span
	Deadline span
	Endless  bool
	Tenants  int
	Skew     float64
	Service  string // that it enters, where there are several
	Calls    []callStep
}

type stepFile struct {
	At    *span
	Until *span
	Every span
	For   span

	Times *float64
	Load  *float64
	Ramp  span
	Surge mapOfTimes
	Sine  *sineFile
	Route string

	Servers    *int
	Slowdown   *float64
	Slower     float64
	Dependency *dependencyFile
	Instance   int
	Service    string // whose condition it is, where there are several
	Away       absence

	Add, Remove int
	Restart     span
	Metrics     string
}

type sineFile struct {
	Low, High float64
	Period    span
}

// span is a duration written with its unit.
type span time.Duration

func (s *span) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 {
		return complain(n, "%q; expected a duration with its unit, like 300ms or 30s", n.Value)
	}
	*s = span(d)
	return nil
}

// share is a percentage.
type share float64

func (s *share) UnmarshalYAML(n *yaml.Node) error {
	v, err := percent(n.Value)
	if err != nil {
		return complain(n, "%v", err)
	}
	*s = share(v)
	return nil
}

func percent(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return 0, fmt.Errorf("%q; expected a share, like 99%%", text)
	}
	return v / 100, nil
}

// law is written as its name and its parameters.
type law struct{ models.Law }

func (l *law) UnmarshalYAML(n *yaml.Node) error {
	words := strings.Fields(n.Value)
	number := func(i int) float64 {
		if i >= len(words) {
			return 0
		}
		v, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			return 0
		}
		return v
	}
	switch {
	case n.Value == "exponential":
		l.Law = models.Exponential()
	case n.Value == "deterministic":
		l.Law = models.Deterministic()
	case len(words) == 2 && words[0] == "lognormal" && number(1) > 0 && number(1) <= 3:
		l.Law = models.Lognormal(number(1))
	case len(words) == 2 && words[0] == "pareto" && number(1) > 1 && number(1) <= 100:
		l.Law = models.Pareto(number(1))
	case len(words) > 0 && words[0] == "bimodal":
		if len(words) == 3 {
			share, err := percent(words[1])
			if slow := number(2); err == nil && share > 0 && slow > 1 && share*slow < 1 {
				l.Law = models.Bimodal(share, slow)
				return nil
			}
		}
		return complain(n, "%q; expected the share of slow requests and their multiple of the mean, "+
			"like bimodal 10%% 5.5", n.Value)
	default:
		return complain(n, "%q; expected exponential, deterministic, lognormal SIGMA (up to 3), pareto ALPHA (above 1) "+
			"or bimodal SHARE SLOW", n.Value)
	}
	return nil
}

type balancer models.Balancer

func (b *balancer) UnmarshalYAML(n *yaml.Node) error {
	known := map[string]models.Balancer{
		"round robin": models.RoundRobin, "least in flight": models.LeastInFlight, "random": models.Random,
	}
	kind, ok := known[n.Value]
	if !ok {
		return complain(n, "%q; expected round robin, least in flight or random", n.Value)
	}
	*b = balancer(kind)
	return nil
}

type absence models.Absence

func (a *absence) UnmarshalYAML(n *yaml.Node) error {
	known := map[string]models.Absence{"refuses": models.RefusesConnections, "silent": models.NeverAnswers}
	kind, ok := known[n.Value]
	if !ok {
		return complain(n, "%q; expected refuses, for connections that fail at once, or silent", n.Value)
	}
	*a = absence(kind)
	return nil
}

// criticalities are the classes of the models by name.
var criticalities = func() (names []string) {
	for c := range control.Criticality(control.Criticalities) {
		names = append(names, c.String())
	}
	return names
}()

// mixFile is the share of each criticality.
type mixFile struct {
	Critical, Default, Sheddable, Background share
}

func (m mixFile) classes() [models.Classes]float64 {
	return [models.Classes]float64{float64(m.Critical), float64(m.Default), float64(m.Sheddable), float64(m.Background)}
}

// mapOfTimes are multiples by criticality.
type mapOfTimes map[string]float64

// complain is an error at a place of the file. Of the type that the parser collects, so that one reading finds them all.
func complain(n *yaml.Node, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %s", n.Line, fmt.Sprintf(format, args...))}}
}

// decode reads YAML strictly into out, and returns the document for the places of its keys. Errors say file and line.
func decode(name string, raw []byte, out any) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(out); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("line 1: the file is empty")
		}
		return nil, located(name, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return nil, located(name, err)
	}
	return root.Content[0], nil
}

var (
	atLine     = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\n  )?line (\d+): `)
	unknownKey = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	wrongType  = regexp.MustCompile("^cannot unmarshal !!\\w+ (?:`(.*)` )?into (\\S+)$")
)

// located turns what the YAML parser says into FILE:LINE: what is wrong, one a line.
func located(name string, err error) error {
	var many *yaml.TypeError
	if !errors.As(err, &many) {
		many = &yaml.TypeError{Errors: []string{err.Error()}}
	}
	var all []problem
	for _, text := range many.Errors {
		line := 1
		if m := atLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = text[len(m[0]):]
		}
		if m := unknownKey.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown key %q", m[1])
		} else if m := wrongType.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%q; expected %s", m[1], kindOf(m[2]))
		}
		all = append(all, problem{line, text})
	}
	return joined(name, all)
}

// problem is what is wrong with a line of a file.
type problem struct {
	line int
	text string
}

// joined is one error for all problems of a file, in the order of its lines.
func joined(name string, problems []problem) error {
	slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
	var all []error
	for _, p := range problems {
		all = append(all, fmt.Errorf("%s:%d: %s", name, p.line, p.text))
	}
	return errors.Join(all...)
}

// kindOf names a Go type for people who write YAML.
func kindOf(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "text"
	}
	return "a section of keys"
}

// lineOf returns where a key of the document lies: the line of the last element of path that there is. Elements are
// keys and indices.
func lineOf(n *yaml.Node, path ...any) int {
	line := n.Line
	for _, step := range path {
		var next *yaml.Node
		switch step := step.(type) {
		case int:
			if step < len(n.Content) {
				next = n.Content[step]
				line = next.Line
			}
		case string:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}

// rig is what a file leaves out.
func rig() file {
	var f file
	f.SLO = sloFile{Latency: span(300 * time.Millisecond), Objective: 0.99}
	f.Limit = limitFile{Start: 128, Min: 8, Max: 1024, Fixed: Grid()}
	f.Service.Servers, f.Service.Instances = 32, 1
	f.Service.Time = span(40 * time.Millisecond)
	f.Service.RejectCost = span(200 * time.Microsecond)
	f.Clients.Timeout = span(time.Second)
	return f
}

// What stands where a file has neither load nor routes, no mix and no phases.
const usualLoad = 560.0

var (
	usualMix    = mixFile{Critical: 0.2, Default: 0.5, Sheddable: 0.3}
	usualPhases = []models.Phase{
		{Name: Calm, To: 300 * time.Second},
		{Name: Fault, From: 300 * time.Second, To: 600 * time.Second},
		{Name: After, From: 600 * time.Second, To: 900 * time.Second},
	}
)

// Parse reads a scenario. name is that of the file; errors name it with the line.
func Parse(name string, raw []byte) (Scenario, error) {
	f := rig()
	root, err := decode(name, raw, &f)
	if err != nil {
		return Scenario{}, err
	}
	var wrong []problem
	f.check(func(path []any, format string, args ...any) {
		wrong = append(wrong, problem{lineOf(root, path...), fmt.Sprintf(format, args...)})
	})
	if len(wrong) > 0 {
		return Scenario{}, joined(name, wrong)
	}
	base := filepath.Base(name)
	return f.scenario(strings.TrimSuffix(strings.TrimSuffix(base, ".yml"), ".yaml")), nil
}
