package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// TraceRank returns the rank of a request that has neither a rank nor a key, from the trace id in its W3C traceparent
// header: all guards that see the trace draw the same, even where no Guard-Context travels. The place is the first eight
// digits of the SHA-256 of the id, 32 lowercase hexadecimal digits. If the header is malformed, the rank is not drawn. A
// client that chooses its trace ids chooses its place, so this is for callers that are trusted.
func TraceRank(traceparent string) guard.Rank {
	// version "-" trace-id "-" parent-id "-" flags; a later version may go on after another "-".
	const length, dash = 55, '-'
	p := traceparent
	if len(p) < length || p[2] != dash || p[35] != dash || p[52] != dash || len(p) > length && (p[:2] == "00" || p[length] != dash) {
		return guard.Rank{}
	}
	id := p[3:35]
	for _, part := range []string{p[:2], id, p[36:52], p[53:length]} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return guard.Rank{}
		}
	}
	if p[:2] == "ff" || strings.Trim(id, "0") == "" || strings.Trim(p[36:52], "0") == "" {
		return guard.Rank{}
	}
	sum := sha256.Sum256([]byte(id))
	return guard.Rank{Place: binary.BigEndian.Uint32(sum[:4]), Drawn: true}
}
