package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
)

// routeFlag is the value of --route-slo, which may be repeated: routes with an SLO of their own.
type routeFlag map[string]guard.Route

const (
	routeSyntax  = "NAME=SLO[,OPTION=N...]"
	routeExample = "export=10s,max=50"
	routeOptions = "weight, min, max or fallback"
)

// IsCumulative tells kingpin that the flag may be repeated.
func (f *routeFlag) IsCumulative() bool { return true }

// String implements kingpin.Value.
func (f *routeFlag) String() string { return strings.Join(slices.Sorted(maps.Keys(*f)), ",") }

// Set implements kingpin.Value. Its errors name the flag, the route and the part that is wrong.
func (f *routeFlag) Set(text string) error {
	name, rest, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("--route-slo=%s: expected %s, like %s", text, routeSyntax, routeExample)
	}
	if _, twice := (*f)[name]; twice {
		return fmt.Errorf("--route-slo=%s: expected one --route-slo for each route", name)
	}
	r, err := parseRoute(name, rest)
	if err != nil {
		return fmt.Errorf("--route-slo=%s: %w", name, err)
	}
	if *f == nil {
		*f = routeFlag{}
	}
	(*f)[name] = r
	return nil
}

// with returns the routes with a shed threshold, which is the same for the whole service.
func (f *routeFlag) with(shedThreshold float64) map[string]guard.Route {
	routes := map[string]guard.Route{}
	for name, r := range *f {
		r.ShedThreshold = shedThreshold
		routes[name] = r
	}
	return routes
}

func parseRoute(name, rest string) (r guard.Route, err error) {
	if bare, slash := strings.CutPrefix(name, "/"); slash {
		return r, fmt.Errorf("NAME: expected it without the slash, %s: it is the first segment of the path, or what --route names /%s",
			bare, bare)
	}
	if err := actuators.ValidServiceName(name); err != nil {
		return r, fmt.Errorf("NAME: expected one that is valid as %w", err)
	}
	slo, options, some := strings.Cut(rest, ",")
	if r.SLO, err = time.ParseDuration(slo); err != nil || r.SLO < time.Millisecond || r.SLO > time.Hour {
		return r, fmt.Errorf("SLO %q: expected 1ms to 1h, the longest latency of a good request, like 10s", slo)
	}
	if !some {
		return r, nil
	}
	seen := map[string]bool{}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if seen[key] {
			return r, fmt.Errorf("%s: expected it once", key)
		}
		seen[key] = true
		switch key {
		case "weight":
			if r.Weight, err = strconv.ParseFloat(value, 64); err != nil || !validWeight(r.Weight) {
				return r, fmt.Errorf("weight %q: expected %s; without it, the weight is learned", value, weightRange)
			}
		case "min":
			r.Min, err = slots(key, value)
		case "max":
			r.Max, err = slots(key, value)
		case "fallback":
			r.Fallback, err = slots(key, value)
		default:
			err = fmt.Errorf("OPTION %q: expected %s", option, routeOptions)
		}
		if err != nil {
			return r, err
		}
	}
	return r, checkLimits(r.Min, r.Max, r.Fallback, "")
}

// The range of a weight is guard's.
const weightRange = "a number from 0.001 to 1000, relative to the weights of the others, like 3"

func validWeight(w float64) bool { return w >= 0.001 && w <= 1000 }

// checkWeights says what is wrong with the weights of the routes and of the service itself, 0 for those without one.
func (f *routeFlag) checkWeights(own float64) error {
	var of []string
	if own != 0 {
		if !validWeight(own) {
			return fmt.Errorf("--weight=%v: expected %s", own, weightRange)
		}
		of = append(of, fmt.Sprintf("--weight=%v", own))
	}
	for _, name := range slices.Sorted(maps.Keys(*f)) {
		if w := (*f)[name].Weight; w != 0 {
			of = append(of, fmt.Sprintf("--route-slo=%s: weight=%v", name, w))
		}
	}
	if len(of) == 1 {
		return fmt.Errorf("%s: expected another weight beside it, because weights are relative: that of a --route-slo, or --weight for "+
			"the requests on no such route", of[0])
	}
	return nil
}

// slots reads a number of requests in flight.
func slots(key, value string) (int, error) {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s %q: expected a number of requests in flight, 1 or more", key, value)
	}
	return int(n), nil
}
