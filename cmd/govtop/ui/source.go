package ui

import (
	"context"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// Source answers what the screen asks. *api.Client is one.
type Source interface {
	Status(ctx context.Context) (api.Status, error)
	Loops(ctx context.Context) ([]api.Loop, error)
	// History returns the past that the sparklines begin with.
	History(ctx context.Context, since, step time.Duration) (api.History, error)
	// Stream follows one connection to its end; see api.Client.Stream.
	Stream(ctx context.Context, after uint64, deliver func(api.Event) error) error
}

// Snapshot is what is shown at one moment, and what govtop --once --output json prints.
type Snapshot struct {
	Status api.Status `json:"status"`
	Loops  []api.Loop `json:"loops"` // sorted by service and knob; never null
}

// Fetch asks the source for a Snapshot. Its strings are as the source sent them.
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

// clean strips every string of a value that v points to. It walks the value instead of naming fields, so that a field
// the API gains later cannot be forgotten here.
func clean(v any) { cleanStrings(reflect.ValueOf(v)) }

func cleanStrings(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			cleanStrings(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			cleanStrings(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			cleanStrings(v.Index(i))
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return
		}
		for _, k := range v.MapKeys() {
			old := k.String()
			if fresh := Clean(old); fresh != old {
				item := v.MapIndex(k)
				v.SetMapIndex(k, reflect.Value{})
				v.SetMapIndex(reflect.ValueOf(fresh).Convert(v.Type().Key()), item)
			}
		}
	case reflect.String:
		if v.CanSet() { // not the insides of time.Time
			v.SetString(Clean(v.String()))
		}
	}
}
