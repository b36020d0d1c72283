package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// streaming answers like a governor's stream, with the text, and then stays silent until the client leaves.
func streaming(t *testing.T, text string, stay bool) (*Client, *[]string) {
	t.Helper()
	var cursors []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cursors = append(cursors, r.Header.Get("Last-Event-ID"))
		w.Header().Set(VersionHeader, "1.2.3")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, text)
		w.(http.Flusher).Flush()
		if stay {
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	client, err := NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, &cursors
}

const someEvents = "event: loop\nid: 41\ndata: {\"service\":\"checkout\",\"decision\":{\"value\":null}}\n\n" +
	"event: snapshot\nid: 42\ndata: {\"status\":{\"instance\":\"gov-a\"},\ndata: \"loops\":[{}],\"complete\":true}\n\n" +
	":\n\n" +
	"event: status\ndata: {\"instance\":\"gov-b\"}\n\n" +
	"event: of a later version\ndata: whatever\n\n"

func TestStreamDeliversEventsInOrder(t *testing.T) {
	client, cursors := streaming(t, someEvents, false)
	var got []string
	err := client.Stream(t.Context(), 40, func(e Event) error {
		switch {
		case e.Loop != nil:
			got = append(got, fmt.Sprintf("%d %s %v", e.Seq, e.Loop.Service, float64(e.Loop.Decision.Value)))
		case e.Snapshot != nil:
			s := e.Snapshot
			got = append(got, fmt.Sprintf("%d %s %d %v", e.Seq, s.Status.Instance, len(s.Loops), s.Complete))
		case e.Status != nil:
			got = append(got, e.Status.Instance)
		default:
			got = append(got, "heartbeat")
		}
		return nil
	})
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("at the end of the stream: %v", err)
	}
	want := "41 checkout NaN|42 gov-a 1 true|heartbeat|gov-b|heartbeat"
	if all := strings.Join(got, "|"); all != want || (*cursors)[0] != "40" {
		t.Errorf("got %s after %v, want %s after 40", all, *cursors, want)
	}
}

func TestStreamEndsWithDeliverOrTheContext(t *testing.T) {
	client, cursors := streaming(t, someEvents, true)
	enough := errors.New("enough")
	if err := client.Stream(t.Context(), 0, func(Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want what deliver returned", err)
	}
	if (*cursors)[0] != "" {
		t.Errorf("asked for events after %q, want none", (*cursors)[0])
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := client.Stream(ctx, 0, func(Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A governor that hangs, or a network that swallows packets, must not look alive forever.
func TestSilentStreamIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := NewClient("http://governor")
		if err != nil {
			t.Fatal(err)
		}
		body := make(pipe)
		client.stream.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			context.AfterFunc(r.Context(), func() { close(body) })
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body}, nil
		})
		began, heard := time.Now(), 0
		err = client.Stream(t.Context(), 0, func(Event) error { heard++; return nil })
		if took := time.Since(began); took != 3*Heartbeat+silence || heard != 3 || !errors.Is(err, errSilent) {
			t.Errorf("%v after %s and %d heartbeats, want to give up %s after the third", err, took, heard, silence)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// pipe gives three heartbeats and then nothing until it is closed.
type pipe chan struct{}

func (p pipe) Read(b []byte) (int, error) {
	if len(beats) > 0 {
		time.Sleep(Heartbeat)
		n := copy(b, beats[:3])
		beats = beats[3:]
		return n, nil
	}
	<-p
	return 0, context.Canceled
}

func (p pipe) Close() error { return nil }

var beats = ":\n\n:\n\n:\n\n"

func TestStreamErrorsSayWhatHappened(t *testing.T) {
	for _, c := range []struct {
		name   string
		client *Client
		want   string
	}{
		{"an older governor", serve(t, 404, `{"error":"there is no resource /api/v1/stream"}`, nil), "no resource"},
		{"another program", serve(t, 200, "<html>", http.Header{VersionHeader: nil}), "not come from a governor"},
		{"another kind", serve(t, 200, "{}", nil), "application/json"},
	} {
		err := c.client.Stream(t.Context(), 0, func(Event) error { return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.want)
		}
	}
	garbled, _ := streaming(t, "event: loop\ndata: {\n\n", true)
	if err := garbled.Stream(t.Context(), 0, func(Event) error { return nil }); !errors.Is(err, errMalformed) {
		t.Errorf("garbled: %v", err)
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add(someEvents)
	f.Add("id: x\n\n")
	f.Add("data:\r\n\r\nevent")
	f.Fuzz(func(t *testing.T, text string) {
		lines := bufio.NewReader(strings.NewReader(text))
		for range len(text) + 1 {
			e, err := readEvent(lines, json.Unmarshal)
			if err != nil {
				return
			}
			if e.Snapshot != nil && (e.Loop != nil || e.Status != nil) || e.Loop != nil && e.Status != nil {
				t.Fatalf("two things at once: %+v", e)
			}
		}
		t.Fatal("reads for ever")
	})
}
