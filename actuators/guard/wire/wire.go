// Package wire is what guards tell each other over every hop, as text for a header or for metadata: what a request brings
// along, and what its answer advises. Both are fields that are separated by semicolons, in any order:
//
//	Guard-Context: rank=8f3a01c2;crit=critical;key=alice;api=shop%2Fcart;again;group=4;id=51d0aa37;attempt=0;left=250
//
//	rank     place among the requests of its criticality, eight hexadecimal digits; higher is refused later
//	crit     criticality: critical, default, sheddable or background
//	key      user or tenant, percent-encoded
//	api      the API through which the request entered the fleet, percent-encoded
//	again    the callee has answered a call of the same request already
//	group    how many calls of the request come to the callee at the same time, 2 to 255; with id or request
//	id       tells the requests with a group apart, eight hexadecimal digits
//	attempt  mark of the layer that retries: 0 at the first attempt, 1 at its first retry, up to 99
//	left     milliseconds until the caller stops waiting
//	early    how many calls of the same api the caller has refused itself since the last one that it sent
//	request  name of the request at the sidecar of the service that receives it, up to 32 letters and digits
//
//	Guard-Answer: no-retry;background;threshold=1c0000000
//
//	no-retry    a retry is useless for now
//	background  requests of the same api are of the criticality background here for now
//	threshold   requests below this level would be refused: 3 for critical, 2 for default, 1 for sheddable, or 0, and
//	            eight hexadecimal digits of the place
//
// Fields that are unknown, malformed or too long count for nothing, so old and new versions understand each other. Of a field
// that comes twice, nothing in the whole text counts. again and group count only with a rank. Reading allocates only what a
// percent-encoded value needs.
package wire

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// Bounds of what is read and written, in bytes.
const (
	Longest     = 1024 // of the whole text
	LongestName = 128  // of a key or an api, before they are encoded

	longestRequest = 32 // of the name of a request
)

// Context is what a request says.
type Context struct {
	guard.Arrival
	Marked  bool // Attempt is the mark of a layer that retries
	Attempt int
	Left    time.Duration // until the caller stops waiting; 0: it does not say
	Request string        // name of the request at the sidecar beside the service; "": none
}

// field is a bit for each field, to find those that come twice.
type field uint16

const (
	rank field = 1 << iota
	crit
	key
	api
	again
	group
	id
	attempt
	left
	early
	request

	noRetry
	background
	threshold
)

var fields = map[string]field{
	"rank": rank, "crit": crit, "key": key, "api": api, "again": again, "group": group, "id": id, "attempt": attempt,
	"left": left, "early": early, "request": request,
}

var answerFields = map[string]field{"no-retry": noRetry, "background": background, "threshold": threshold}

// each calls read with every field of text that is in known. It returns false if text is too long, or a field comes twice.
func each(text string, known map[string]field, read func(f field, value string, bare bool)) bool {
	if len(text) > Longest {
		return false
	}
	seen := field(0)
	for part := range strings.SplitSeq(text, ";") {
		name, value, valued := strings.Cut(strings.Trim(part, " \t"), "=")
		f := known[name]
		if seen&f != 0 {
			return false
		}
		seen |= f
		if f != 0 {
			read(f, value, !valued)
		}
	}
	return true
}

// ParseContext reads what a request says. What it does not say is zero, the criticality Default.
func ParseContext(text string) Context {
	c := Context{Arrival: guard.Arrival{Criticality: guard.Default}}
	size, number, identified := uint64(0), uint32(0), false
	whole := each(text, fields, func(f field, value string, bare bool) {
		switch f {
		case rank:
			c.Rank.Place, c.Rank.Drawn = digits(value)
		case crit:
			c.Criticality, _ = guard.ParseCriticality(value)
		case key:
			c.Key = decoded(value)
		case api:
			c.Entry = decoded(value)
		case again:
			c.Rank.Again = bare
		case group:
			size = upTo(value, math.MaxUint8)
		case id:
			number, identified = digits(value)
		case attempt:
			c.Marked, c.Attempt = true, ParseAttempt(value)
		case left:
			c.Left = time.Duration(upTo(value, math.MaxInt32)) * time.Millisecond
		case early:
			c.Early = uint32(upTo(value, math.MaxUint32))
		case request:
			if isRequest(value) {
				c.Request = value
			}
		}
	})
	if !whole {
		return Context{Arrival: guard.Arrival{Criticality: guard.Default}}
	}
	switch {
	case !c.Rank.Drawn: // again and group are worth nothing without the request that they belong to
		c.Rank = guard.Rank{}
	case size >= 2 && (identified || c.Request != ""):
		c.Rank.Group, c.Rank.ID = uint8(size), number
	}
	return c
}

// String returns the text; "": there is nothing to say. A key or an api that is too long is left out.
func (c Context) String() string {
	b := make([]byte, 0, 160)
	if c.Rank.Drawn {
		b = appendDigits(start(b, "rank="), c.Rank.Place)
	}
	if c.Criticality != guard.Default {
		b = append(start(b, "crit="), c.Criticality.String()...)
	}
	b = appendName(b, "key=", c.Key)
	b = appendName(b, "api=", c.Entry)
	if c.Rank.Again && c.Rank.Drawn {
		b = start(b, "again")
	}
	if c.Rank.Group > 1 && c.Rank.Drawn {
		b = strconv.AppendUint(start(b, "group="), uint64(c.Rank.Group), 10)
		b = appendDigits(start(b, "id="), c.Rank.ID)
	}
	if c.Marked {
		b = strconv.AppendInt(start(b, "attempt="), int64(c.Attempt), 10)
	}
	if c.Left > 0 {
		b = strconv.AppendInt(start(b, "left="), max(1, c.Left.Milliseconds()), 10)
	}
	if c.Early > 0 {
		b = strconv.AppendUint(start(b, "early="), uint64(c.Early), 10)
	}
	if isRequest(c.Request) {
		b = append(start(b, "request="), c.Request...)
	}
	return string(b)
}

// Lasting returns what of c holds beyond the next service, for what may pass through services that do not know it.
func (c Context) Lasting() Context {
	c.Rank.Again, c.Rank.Group, c.Rank.ID, c.Early, c.Left = false, 0, 0, 0, 0
	return c
}

// ParseAdvice reads what an answer says.
func ParseAdvice(text string) (a guard.Advice) {
	whole := each(text, answerFields, func(f field, value string, bare bool) {
		switch f {
		case noRetry:
			a.NoRetry = bare
		case background:
			a.Background = bare
		case threshold:
			if len(value) == 9 && value[0] >= '0' && value[0] <= '3' {
				if place, ok := digits(value[1:]); ok {
					a.Threshold = guard.Threshold(value[0]-'0')<<32 | guard.Threshold(place)
				}
			}
		}
	})
	if !whole {
		return guard.Advice{}
	}
	return a
}

// FormatAdvice returns the text of an answer; "": there is nothing to say.
func FormatAdvice(a guard.Advice) string {
	if a == (guard.Advice{}) {
		return ""
	}
	b := make([]byte, 0, 48)
	if a.NoRetry {
		b = start(b, "no-retry")
	}
	if a.Background {
		b = start(b, "background")
	}
	if a.Threshold > 0 {
		b = append(start(b, "threshold="), '0'+byte(a.Threshold>>32&3))
		b = appendDigits(b, uint32(a.Threshold))
	}
	return string(b)
}

// start begins a field.
func start(b []byte, name string) []byte {
	if len(b) > 0 {
		b = append(b, ';')
	}
	return append(b, name...)
}

func appendName(b []byte, name, value string) []byte {
	if value == "" || len(value) > LongestName {
		return b
	}
	return append(start(b, name), url.QueryEscape(value)...)
}

// decoded returns a percent-encoded name; "" if it is none.
func decoded(value string) string {
	name, err := url.QueryUnescape(value)
	if err != nil || len(name) > LongestName {
		return ""
	}
	return name
}

// isRequest says whether name can be one of a request.
func isRequest(name string) bool {
	return name != "" && len(name) <= longestRequest &&
		strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// ParseAttempt reads the mark of a layer that retries; one that is not a number from 0 to 99 counts as 0.
func ParseAttempt(text string) int { return int(upTo(text, 99)) }

// upTo reads a decimal number from 0 to most; anything else is 0.
func upTo(value string, most uint64) uint64 {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n > most {
		return 0
	}
	return n
}

// digits reads eight hexadecimal digits.
func digits(s string) (n uint32, ok bool) {
	if len(s) != 8 || strings.Trim(s, "0123456789abcdef") != "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return uint32(v), err == nil
}

func appendDigits(b []byte, n uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[n>>shift&15])
	}
	return b
}
