package ui

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Source answers the screen's requests. *api.Client is one.
type Source interface {
	Status(ctx context.Context) (api.Status, error)
	Loops(ctx context.Context) ([]api.Loop, error)
	// LoopsAt returns the loops as they were at an instant of the daemon's hour.
	LoopsAt(ctx context.Context, at time.Time) ([]api.Loop, error)
	// History returns the past for the sparklines, LoopHistory the past of one loop for its charts.
	History(ctx context.Context, since, step time.Duration) (api.History, error)
	LoopHistory(ctx context.Context, service string, knob control.Knob, since, step time.Duration) (api.LoopHistory, error)
	// Decisions returns governor's decisions, Audit the actions of people.
	Decisions(ctx context.Context, q api.Query) (api.Decisions, error)
	Audit(ctx context.Context) (api.Audit, error)
	// Order freezes, resumes or overrides one loop; OrderAll pulls or lifts the kill switch.
	Order(
		ctx context.Context, service string, knob control.Knob, kind actuators.OrderKind, c api.Command,
	) (api.Receipt, error)
	OrderAll(ctx context.Context, kind actuators.OrderKind, c api.Command) (api.Receipt, error)
	// Stream follows one connection to its end; see api.Client.Stream.
	Stream(ctx context.Context, after uint64, deliver func(api.Event) error) error
}

// Snapshot is the data of one moment, and the output of govtop --once --output json.
type Snapshot struct {
	Status api.Status `json:"status"`
	Loops  []api.Loop `json:"loops"` // sorted by service and knob; never null
}

// Fetch requests a Snapshot. Its strings are as the source sent them.
func Fetch(ctx context.Context, source Source) (Snapshot, error) {
	status, err := source.Status(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	loops, err := source.Loops(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	if loops == nil {
		loops = []api.Loop{}
	}
	return Snapshot{Status: status, Loops: loops}, nil
}

// clean returns v with every string in it cleaned. It copies what v points to, which may be shared. It walks the value
// instead of naming fields, so that no later field of the API can be forgotten.
func clean[T any](v T) T {
	cleanStrings(reflect.ValueOf(&v).Elem())
	return v
}

func cleanStrings(v reflect.Value) {
	if !v.CanSet() {
		return // the internals of time.Time
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fresh := reflect.New(v.Type().Elem())
			fresh.Elem().Set(v.Elem())
			cleanStrings(fresh.Elem())
			v.Set(fresh)
		}
	case reflect.Struct:
		for _, i := range worded(v.Type()) {
			cleanStrings(v.Field(i))
		}
	case reflect.Slice:
		if !v.IsNil() {
			fresh := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(fresh, v)
			for i := range fresh.Len() {
				cleanStrings(fresh.Index(i))
			}
			v.Set(fresh)
		}
	case reflect.Map:
		if !v.IsNil() {
			fresh := reflect.MakeMapWithSize(v.Type(), v.Len())
			for entry := v.MapRange(); entry.Next(); {
				fresh.SetMapIndex(cleanCopy(entry.Key()), cleanCopy(entry.Value()))
			}
			v.Set(fresh)
		}
	case reflect.String:
		v.SetString(Clean(v.String()))
	}
}

// wordedFields are the answers of worded by type: most fields of a decision are numbers, and a large fleet has many.
var wordedFields sync.Map

// worded returns the fields of a struct that may hold a string, at any depth.
func worded(t reflect.Type) []int {
	if known, ok := wordedFields.Load(t); ok {
		return known.([]int)
	}
	var fields []int
	for i := range t.NumField() {
		switch t.Field(i).Type.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array, reflect.Interface, reflect.String:
			fields = append(fields, i)
		case reflect.Struct:
			if len(worded(t.Field(i).Type)) > 0 {
				fields = append(fields, i)
			}
		default:
		}
	}
	wordedFields.Store(t, fields)
	return fields
}

func cleanCopy(v reflect.Value) reflect.Value {
	fresh := reflect.New(v.Type()).Elem()
	fresh.Set(v)
	cleanStrings(fresh)
	return fresh
}
