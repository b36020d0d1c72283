package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// silence is how long a stream may say nothing before the client treats it as lost: a live governor sends heartbeats.
const silence = 5 * Heartbeat

// Stream follows the governor's decisions as they are made. It calls deliver for each event, in order, in the calling
// goroutine: first the decisions after the sequence number after that the governor still has (0: none), then a
// Snapshot, then everything that happens, including heartbeats. It returns when the connection ends, and never returns
// nil. To continue, wait a little and call it again with the highest Seq delivered so far. An error from deliver also
// ends it and is returned unchanged.
func (c *Client) Stream(ctx context.Context, after uint64, deliver func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := c.request(ctx, http.MethodGet, nil, nil, "stream")
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if after > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	}
	resp, err := c.stream.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
		if err := read(req, resp, body, new(json.RawMessage)); err != nil {
			return err
		}
		return fmt.Errorf("read the stream of %s: %w, but %s", req.URL.Redacted(), errMalformed, kind)
	}

	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	unmarshal := c.UnmarshalEvent
	if unmarshal == nil {
		unmarshal = json.Unmarshal
	}
	for {
		e, err := readEvent(lines, unmarshal)
		switch {
		case errors.Is(err, errMalformed):
			return fmt.Errorf("read the stream of %s: %w", req.URL.Redacted(), err)
		case err != nil:
			if errors.Is(context.Cause(ctx), errSilent) {
				err = errSilent
			} else if ctx.Err() != nil {
				return ctx.Err()
			}
			return &UnreachableError{Address: c.base.Redacted(), Err: fmt.Errorf("the stream ended: %w", err)}
		}
		quiet.Reset(silence)
		if err := deliver(e); err != nil {
			return err
		}
	}
}

var (
	errSilent    = fmt.Errorf("no event for %s", silence)
	errMalformed = errors.New("not an event of a governor's stream")
)

// readEvent reads up to the blank line that ends an event. Events of an unknown kind read as heartbeats.
func readEvent(lines *bufio.Reader, unmarshal func([]byte, any) error) (e Event, err error) {
	var kind string
	var data []byte
	for size := 0; ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return e, err
		}
		if size += len(line); size > maxAnswerBytes {
			return e, fmt.Errorf("%w: larger than %d MiB", errMalformed, maxAnswerBytes>>20)
		}
		line = bytes.TrimRight(line, "\r\n")
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			kind = string(value)
		case "data":
			data = append(data, value...)
		case "id":
			if e.Seq, err = strconv.ParseUint(string(value), 10, 64); err != nil {
				return e, fmt.Errorf("%w: id %q", errMalformed, value)
			}
		}
		if len(line) == 0 {
			break
		}
	}
	switch kind {
	case EventSnapshot:
		e.Snapshot = new(Snapshot)
		err = unmarshal(data, e.Snapshot)
	case EventLoop:
		e.Loop = new(Loop)
		err = unmarshal(data, e.Loop)
	case EventStatus:
		e.Status = new(Status)
		err = unmarshal(data, e.Status)
	}
	if err != nil {
		return e, fmt.Errorf("%w: %s: %w", errMalformed, kind, err)
	}
	return e, nil
}
