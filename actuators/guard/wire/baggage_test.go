package wire

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// The member is found among others, and two are none.
func TestBaggageIsRead(t *testing.T) {
	const member = "guard-context=rank%3D8f3a01c2%3Bkey%3Da%2Bb"
	for _, x := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"a=1"}, ""},
		{[]string{member}, "rank=8f3a01c2;key=a+b"},
		{[]string{"a=1, " + member + ";p=1,b"}, "rank=8f3a01c2;key=a+b"},
		{[]string{"a=1", "b=2 ,\tguard-context = rank=8f3a01c2 ;p"}, "rank=8f3a01c2"},
		{[]string{member, member}, ""},
		{[]string{member + "," + member}, ""},
		{[]string{"guard-context=%zz"}, ""},
		{[]string{"Guard-Context=rank"}, ""},
		{[]string{"guard-context"}, ""},
		{[]string{"x=" + strings.Repeat("x", longestBaggage) + "," + member}, ""},
	} {
		if got := FromBaggage(x.lines); got != x.want {
			t.Errorf("%.60q: %q, expected %q", x.lines, got, x.want)
		}
	}
}

// The member replaces what could be read as it, and leaves the others as they are.
func TestBaggageIsWritten(t *testing.T) {
	many := strings.Repeat("a=1,", mostMembers-1) + "a=1"
	long := "a=" + strings.Repeat("1", longestBaggage-len("a=,"+BaggageMember+"=rank"))
	for _, x := range []struct {
		lines []string
		text  string
		want  []string
	}{
		{nil, "", nil},
		{nil, "rank=1;k", []string{"guard-context=rank%3D1%3Bk"}},
		{[]string{"a=1;p, b", " c=%20"}, "rank", []string{"a=1;p,b,c=%20,guard-context=rank"}},
		{[]string{"guard-context=1,a=1", "guard-context=2"}, "rank", []string{"a=1,guard-context=rank"}},
		{[]string{"a=1,guard-context"}, "", []string{"a=1"}},
		{[]string{"Guard-Context=1,guard%2Dcontext=2,+guard-context=3,guard%252dcontext=4"}, "", nil},
		{[]string{many}, "rank", []string{many}},
		{[]string{many[len("a=1,"):]}, "rank", []string{many[len("a=1,"):] + ",guard-context=rank"}},
		{[]string{long}, "rank", []string{long + ",guard-context=rank"}},
		{[]string{long + "1"}, "rank", []string{long + "1"}},
	} {
		if got := SetBaggage(x.lines, x.text); !slices.Equal(got, x.want) {
			t.Errorf("%.60q and %q: %.60q, expected %.60q", x.lines, x.text, got, x.want)
		}
	}
}

// Whatever arrives, what is removed cannot be read any more, not even after services have decoded names and written them
// again, and what is written is read.
func FuzzBaggage(f *testing.F) {
	f.Add("a=1,guard-context=rank%3D8f3a01c2", "rank=8f3a01c2;key=a%3Bb")
	f.Add("guard%2Dcontext=x, %67uard-context=y,guard-context=z;p", "again")
	f.Fuzz(func(t *testing.T, line, text string) {
		rest := SetBaggage([]string{line}, "")
		if InBaggage(rest) || FromBaggage(rest) != "" {
			t.Fatalf("%q: left in %q", line, rest)
		}
		for range 3 {
			for i, l := range rest {
				var members []string
				for member := range strings.SplitSeq(l, ",") {
					name, value, _ := strings.Cut(member, "=")
					if decoded, err := url.QueryUnescape(name); err == nil {
						name = strings.TrimSpace(decoded)
					}
					members = append(members, name+"="+value)
				}
				rest[i] = strings.Join(members, ",")
			}
			if FromBaggage(rest) != "" {
				t.Fatalf("%q: comes back in %q", line, rest)
			}
		}
		with := SetBaggage([]string{line}, text)
		if got := FromBaggage(with); got != text && got != "" || got == "" && text != "" && len(line)+3*len(text) < longestBaggage-100 &&
			strings.Count(line, ",") < mostMembers-1 {
			t.Fatalf("%q: wrote %q, read %q from %q", line, text, got, with)
		}
	})
}
