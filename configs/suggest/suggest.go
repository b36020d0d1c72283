// Package suggest finds what a person meant by a name that does not exist: a key of the configuration, a scenario, a
// command. A suggestion turns a typo into one more try.
package suggest

// Nearest returns the name that the writer of s most likely meant: the nearest by edit distance, if that is no more
// than a third of the word (at least one edit); "" if none is near.
func Nearest(s string, names []string) string {
	best, nearest := "", max(1, len(s)/3)
	for _, name := range names {
		if d := distance(s, name); d <= nearest && (best == "" || d < nearest) {
			best, nearest = name, d
		}
	}
	return best
}

// distance counts the edits between a and b: insertions, deletions, substitutions and swaps of neighbors (the optimal
// string alignment distance).
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
