package consultest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/memkv"
)

// Fake is an in-memory store that a test can make misbehave, with SetHook, and reach without a network, with Client. It
// is safe for concurrent use.
type Fake struct {
	*memkv.Store

	mu   sync.Mutex
	hook func(http.ResponseWriter, *http.Request) bool
}

// NewFake returns an empty store.
func NewFake() *Fake { return &Fake{Store: memkv.New()} }

// SetHook sets a function to call before every request. If it returns true, it has answered, or has chosen not to. nil
// removes it.
func (f *Fake) SetHook(hook func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Client returns a client without a network: this process handles the requests, and they end when their context does.
func (f *Fake) Client() *consul.Client { return ClientOf(f) }

// ClientOf is Client for any handler, for example one that sits between a client and a Fake.
func ClientOf(handler http.Handler) *consul.Client {
	config := api.DefaultConfig()
	config.HttpClient = &http.Client{Transport: roundTripper{handler}}
	client, err := consul.NewClient(config)
	if err != nil {
		panic(err) // only for an address that cannot be parsed
	}
	return client
}

type roundTripper struct{ handler http.Handler }

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := make(chan *http.Response, 1)
	go func() {
		recorder := httptest.NewRecorder()
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				answer <- nil
			default:
				panic(p)
			}
		}()
		rt.handler.ServeHTTP(recorder, r)
		answer <- recorder.Result()
	}()
	select {
	case response := <-answer:
		if response == nil {
			return nil, io.ErrUnexpectedEOF // what a cut connection looks like
		}
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	f.Store.ServeHTTP(w, r)
}
