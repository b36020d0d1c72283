package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// Header is set to "prometheus" in every answer.
const Header = "X-Governor-Embedded"

// The error types of the API, with the HTTP status of each.
var statusOf = map[string]int{
	errBadData:  http.StatusBadRequest,
	errExec:     http.StatusUnprocessableEntity,
	errCanceled: 499, // the client has closed the connection
	errTimeout:  http.StatusServiceUnavailable,
	errInternal: http.StatusInternalServerError,
}

const (
	errBadData  = "bad_data"
	errExec     = "execution"
	errCanceled = "canceled"
	errTimeout  = "timeout"
	errInternal = "internal"
)

// maxPoints bounds the points per series in the answer to a range query.
const maxPoints = 11_000

var errTruncated = errors.New("results truncated due to limit")

// failure is an error with one of the API's types.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func badParameter(name string, err error) error {
	return &failure{errBadData, fmt.Errorf("invalid parameter %q: %w", name, err)}
}

// ServeHTTP answers the query API under /api/v1, and the probes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(Header, "prometheus")
	s.http.ServeHTTP(w, r)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]answerer{
		"/api/v1/query":       s.query,
		"/api/v1/query_range": s.queryRange,
		"/api/v1/labels":      s.labelNames,
		"/api/v1/series":      s.series,
	} {
		mux.Handle("GET "+path, answer)
		mux.Handle("POST "+path, answer)
	}
	mux.Handle("GET /api/v1/label/{name}/values", answerer(s.labelValues))
	for path, word := range map[string]string{"/-/healthy": "Healthy", "/-/ready": "Ready"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "Prometheus Server is "+word+".\n")
		})
	}
	return mux
}

// answerer is a handler of the API: it returns the data of the reply, and the engine's annotations.
type answerer func(r *http.Request) (data any, remarks annotations.Annotations, err error)

func (answer answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var reply struct {
		Status    string   `json:"status"`
		Data      any      `json:"data,omitempty"`
		ErrorType string   `json:"errorType,omitempty"`
		Error     string   `json:"error,omitempty"`
		Warnings  []string `json:"warnings,omitempty"`
		Infos     []string `json:"infos,omitempty"`
	}
	status := http.StatusOK
	data, remarks, err := answer(r)
	if err != nil {
		f := classify(err)
		status = statusOf[f.kind]
		reply.Status, reply.ErrorType, reply.Error = "error", f.kind, f.Error()
	} else {
		reply.Status, reply.Data = "success", data
		reply.Warnings, reply.Infos = remarks.AsStrings(r.FormValue("query"), 10, 10)
	}
	body, err := json.Marshal(reply)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// classify finds the API's type for an error.
func classify(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	kind := errExec
	if _, ok := errors.AsType[promql.ErrQueryTimeout](err); ok {
		kind = errTimeout
	} else if _, ok := errors.AsType[promql.ErrQueryCanceled](err); ok || errors.Is(err, context.Canceled) {
		kind = errCanceled
	} else if _, ok := errors.AsType[promql.ErrStorage](err); ok {
		kind = errInternal
	}
	return &failure{kind, err}
}

func (s *Server) query(r *http.Request) (any, annotations.Annotations, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	at, err := timeOf(r, "time", time.Now())
	if err != nil {
		return nil, nil, badParameter("time", err)
	}
	return s.evaluate(r, limit, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, s.head, opts, r.FormValue("query"), at)
	})
}

func (s *Server) queryRange(r *http.Request) (any, annotations.Annotations, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	start, err := parseTime(r.FormValue("start"))
	if err != nil {
		return nil, nil, badParameter("start", err)
	}
	end, err := parseTime(r.FormValue("end"))
	if err != nil {
		return nil, nil, badParameter("end", err)
	}
	if end.Before(start) {
		return nil, nil, badParameter("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.FormValue("step"))
	if err == nil && step <= 0 {
		err = errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer")
	}
	if err != nil {
		return nil, nil, badParameter("step", err)
	}
	if end.Sub(start)/step > maxPoints {
		return nil, nil, &failure{errBadData, errors.New("exceeded maximum resolution of 11,000 points per timeseries. " +
			"Try decreasing the query resolution (?step=XX)")}
	}
	return s.evaluate(r, limit, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, s.head, opts, r.FormValue("query"), start, end, step)
	})
}

// evaluate runs the query that build builds, under the request's timeout.
func (s *Server) evaluate(
	r *http.Request, limit int, build func(context.Context, promql.QueryOpts) (promql.Query, error),
) (any, annotations.Annotations, error) {
	ctx := r.Context()
	if text := r.FormValue("timeout"); text != "" {
		timeout, err := parseDuration(text)
		if err == nil && timeout <= 0 {
			err = fmt.Errorf("timeout must be positive, got %s", timeout)
		}
		if err != nil {
			return nil, nil, badParameter("timeout", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var lookback time.Duration // 0: the engine's
	if text := r.FormValue("lookback_delta"); text != "" {
		var err error
		if lookback, err = parseDuration(text); err != nil {
			return nil, nil, &failure{errBadData, fmt.Errorf("error parsing lookback delta duration: %w", err)}
		}
	}
	query, err := build(ctx, promql.NewPrometheusQueryOpts(false, lookback, nil))
	if err != nil {
		if f := classify(err); f.kind == errTimeout || f.kind == errCanceled {
			return nil, nil, f
		}
		return nil, nil, badParameter("query", err)
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, result.Warnings, result.Err
	}
	remarks := result.Warnings
	var data struct {
		ResultType parser.ValueType `json:"resultType"`
		Result     json.RawMessage  `json:"result"`
	}
	var value any = result.Value
	data.ResultType = result.Value.Type()
	switch v := result.Value.(type) {
	case promql.Vector:
		if value = v; limit > 0 && len(v) > limit {
			value, remarks = v[:limit], remarks.Add(errTruncated)
		}
		if v == nil {
			value = promql.Vector{}
		}
	case promql.Matrix:
		if value = v; limit > 0 && len(v) > limit {
			value, remarks = v[:limit], remarks.Add(errTruncated)
		}
		if v == nil {
			value = promql.Matrix{}
		}
	}
	// Before query.Close takes its points back.
	if data.Result, err = json.Marshal(value); err != nil {
		return nil, nil, &failure{errInternal, err}
	}
	return data, remarks, nil
}

func (s *Server) labelNames(r *http.Request) (any, annotations.Annotations, error) {
	return s.labelQuery(r, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(r.Context(), nil, m...)
	})
}

func (s *Server) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, &failure{errBadData, fmt.Errorf("invalid label name: %q", name)}
	}
	return s.labelQuery(r, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(r.Context(), name, nil, m...)
	})
}

// labelQuery merges the results of ask for each selector, or for all series if the request has no selector.
func (s *Server) labelQuery(
	r *http.Request, ask func(storage.Querier, []*labels.Matcher) ([]string, annotations.Annotations, error),
) (any, annotations.Annotations, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	q, selectors, err := s.selected(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(selectors) == 0 {
		selectors = [][]*labels.Matcher{nil}
	}
	all := []string{}
	for _, matchers := range selectors {
		found, _, err := ask(q, matchers)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	var remarks annotations.Annotations
	if limit > 0 && len(all) > limit {
		all, remarks = all[:limit], remarks.Add(errTruncated)
	}
	return all, remarks, nil
}

func (s *Server) series(r *http.Request) (any, annotations.Annotations, error) {
	if err := r.ParseForm(); err != nil {
		return nil, nil, &failure{errBadData, fmt.Errorf("error parsing form values: %w", err)}
	}
	if len(r.Form["match[]"]) == 0 {
		return nil, nil, &failure{errBadData, errors.New("no match[] parameter provided")}
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	q, selectors, err := s.selected(r)
	if err != nil {
		if f := classify(err); !strings.HasPrefix(f.Error(), "invalid parameter") {
			err = badParameter("match[]", f.err)
		}
		return nil, nil, err
	}
	defer q.Close()
	var sets []storage.SeriesSet
	for _, matchers := range selectors {
		sets = append(sets, q.Select(r.Context(), len(selectors) > 1, nil, matchers...))
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	found := []labels.Labels{}
	for set.Next() {
		found = append(found, set.At().Labels())
	}
	if set.Err() != nil {
		return nil, nil, set.Err()
	}
	var remarks annotations.Annotations
	if limit > 0 && len(found) > limit {
		found, remarks = found[:limit], remarks.Add(errTruncated)
	}
	return found, remarks, nil
}

// selected reads the common parameters of label and series requests: start, end and match[].
func (s *Server) selected(r *http.Request) (storage.Querier, [][]*labels.Matcher, error) {
	bounds := map[string]int64{"start": math.MinInt64, "end": math.MaxInt64}
	for name := range bounds {
		if r.FormValue(name) == "" {
			continue
		}
		t, err := timeOf(r, name, time.Time{})
		if err != nil {
			return nil, nil, badParameter(name, err)
		}
		bounds[name] = timestamp.FromTime(t)
	}
	selectors, err := s.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return nil, nil, &failure{errBadData, err}
	}
	for _, matchers := range selectors {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m != nil && !m.Matches("") }) {
			return nil, nil, &failure{errBadData, errors.New("match[] must contain at least one non-empty matcher")}
		}
	}
	q, err := s.head.Querier(bounds["start"], bounds["end"])
	return q, selectors, err
}

func limitOf(r *http.Request) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(text)
	if err == nil && limit < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, badParameter("limit", err)
	}
	return limit, nil
}

func timeOf(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	t, err := parseTime(text)
	if err != nil {
		return t, fmt.Errorf("invalid time value for '%s': %w", name, err)
	}
	return t, nil
}

// parseTime reads Unix seconds, to the millisecond, or RFC 3339.
func parseTime(s string) (time.Time, error) {
	if t, err := strconv.ParseFloat(s, 64); err == nil {
		seconds, fraction := math.Modf(t)
		fraction = math.Round(fraction*1000) / 1000
		return time.Unix(int64(seconds), int64(fraction*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

// parseDuration reads seconds, or a duration in PromQL's notation.
func parseDuration(s string) (time.Duration, error) {
	if d, err := strconv.ParseFloat(s, 64); err == nil {
		ns := d * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns < math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
}
