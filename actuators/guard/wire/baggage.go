package wire

import (
	"net/url"
	"strings"
)

// BaggageMember is the name of the member of W3C baggage (https://www.w3.org/TR/baggage/) that holds a percent-encoded
// Context, for services that copy baggage and do not know Guard-Context.
const BaggageMember = "guard-context"

// The limits of baggage within which it must be propagated (section 3.3.2).
const (
	longestBaggage = 8192 // bytes
	mostMembers    = 64
)

// FromBaggage returns the decoded text of the member in the lines of a baggage header; "": there is none, there are two, or
// the baggage is too long.
func FromBaggage(lines []string) (text string) {
	found, size := false, 0
	for _, line := range lines {
		if size += len(line); size > longestBaggage {
			return ""
		}
		for member := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(member, "=")
			if strings.Trim(name, " \t") != BaggageMember {
				continue
			}
			if found {
				return ""
			}
			value, _, _ = strings.Cut(value, ";") // properties
			decoded, err := url.PathUnescape(strings.Trim(value, " \t"))
			if err != nil {
				return ""
			}
			found, text = true, decoded
		}
	}
	return text
}

// InBaggage says whether baggage has a member that FromBaggage, here or in a service further on, might read.
func InBaggage(lines []string) bool {
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if mayBeOurs(member) {
				return true
			}
		}
	}
	return false
}

// mayBeOurs says whether the name of a member could become BaggageMember when a service decodes it and writes it again.
// Names are tokens, and need no percent sign.
func mayBeOurs(member string) bool {
	name, _, _ := strings.Cut(member, "=")
	return strings.Contains(name, "%") || strings.Contains(strings.ToLower(name), BaggageMember)
}

// SetBaggage returns the lines of a baggage header with text in the member, instead of every member that InBaggage finds.
// The text "" only removes. If the baggage has no room within the limits of W3C, the member is left out.
func SetBaggage(lines []string, text string) []string {
	var members []string
	size := 0
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if member = strings.Trim(member, " \t"); member != "" && !mayBeOurs(member) {
				members = append(members, member)
				size += len(member) + len(",")
			}
		}
	}
	if text != "" {
		own := BaggageMember + "=" + strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
		if len(members) < mostMembers && size+len(own) <= longestBaggage {
			members = append(members, own)
		}
	}
	if len(members) == 0 {
		return nil
	}
	return []string{strings.Join(members, ",")}
}
