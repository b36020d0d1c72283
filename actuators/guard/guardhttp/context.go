package guardhttp

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// ContextHeader of a request is what travels with it over every hop, as fields that are separated by semicolons:
//
//	Guard-Context: rank=8f3a01c2;crit=critical;key=alice;again;group=4;id=51d0aa37
//
//	rank    place among the requests of its criticality, eight hexadecimal digits; higher is refused later
//	crit    criticality: critical, default, sheddable or background
//	key     user or tenant, percent-encoded
//	again   the callee has answered a call of the same request already
//	group   how many calls of the request come to the callee at the same time, 2 to 255; with id
//	id      tells the requests with a group apart, eight hexadecimal digits
//
// Fields that are unknown, malformed or too long are ignored. Of a field that comes twice, and of two headers, none counts.
const ContextHeader = "Guard-Context"

const (
	longestContext = 1024 // bytes of the header
	longestKey     = 256  // bytes of the key, encoded
)

// carried is what a ContextHeader says; what it does not say is zero, or Default.
type carried struct {
	rank        guard.Rank
	criticality guard.Criticality
	key         string
}

// carriedIn reads the ContextHeader.
func carriedIn(h http.Header) (c carried) {
	c.criticality = guard.Default
	values := h[ContextHeader]
	if len(values) != 1 || len(values[0]) > longestContext {
		return c
	}
	var seen [6]bool // by field
	group, id, ranked, identified := uint64(0), uint32(0), false, false
	for field := range strings.SplitSeq(values[0], ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		at := fieldIndex(name)
		if at < 0 {
			continue
		}
		if seen[at] {
			return carried{criticality: guard.Default}
		}
		seen[at] = true
		switch name {
		case "rank":
			c.rank.Place, ranked = digits(value)
		case "again":
			c.rank.Again = value == ""
		case "group":
			if n, err := strconv.ParseUint(value, 10, 8); err == nil {
				group = n
			}
		case "id":
			id, identified = digits(value)
		case "crit":
			c.criticality, _ = guard.ParseCriticality(value)
		case "key":
			if key, err := url.QueryUnescape(value); err == nil && len(value) <= longestKey {
				c.key = key
			}
		}
	}
	if !ranked {
		c.rank = guard.Rank{} // again and group are worth nothing without the request that they belong to
		return c
	}
	c.rank.Drawn = true
	if group >= 2 && identified {
		c.rank.Group, c.rank.ID = uint8(group), id
	}
	return c
}

func fieldIndex(name string) int {
	switch name {
	case "rank":
		return 0
	case "again":
		return 1
	case "group":
		return 2
	case "id":
		return 3
	case "crit":
		return 4
	case "key":
		return 5
	}
	return -1
}

// digits reads eight hexadecimal digits.
func digits(s string) (n uint32, ok bool) {
	if len(s) != 8 || strings.Trim(s, "0123456789abcdef") != "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return uint32(v), err == nil
}

// contextValue is the ContextHeader of a request with rank r; "": there is nothing to say. A key that is too long is left
// out.
func contextValue(r guard.Rank, c guard.Criticality, key string) string {
	if !r.Drawn {
		return ""
	}
	b := make([]byte, 0, 96)
	b = append(b, "rank="...)
	b = appendDigits(b, r.Place)
	if c != guard.Default {
		b = append(b, ";crit="...)
		b = append(b, c.String()...)
	}
	if key != "" {
		if key = url.QueryEscape(key); len(key) <= longestKey {
			b = append(b, ";key="...)
			b = append(b, key...)
		}
	}
	if r.Again {
		b = append(b, ";again"...)
	}
	if r.Group > 1 {
		b = append(b, ";group="...)
		b = strconv.AppendUint(b, uint64(r.Group), 10)
		b = append(b, ";id="...)
		b = appendDigits(b, r.ID)
	}
	return string(b)
}

func appendDigits(b []byte, n uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[n>>shift&15])
	}
	return b
}
