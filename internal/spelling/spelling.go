// Package spelling says what may be a name, and finds the word that was meant by one
// that is not known, for error messages.
//
// # Theory of operation
//
// A mistyped word is near the right one, so the candidate with the smallest edit
// distance is offered, but none that differs in more than a third: no proposal is
// better than a wrong one.
//
// Names of networks, volumes and secrets are names of files, too. The rule for them is a
// loop and no regular expression, which three packages would compile at every start of
// containr: that took half a millisecond, a thirtieth of a run.
package spelling

// IsName reports whether s is a letter or digit, and then letters, digits and the
// characters _.- , in ASCII, and at most longest bytes in all.
func IsName(s string, longest int) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Nearest returns the candidate with the smallest edit distance from word, or ""
// if none is near enough to be what was meant: at most a third of the word may
// differ.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+1
	for _, c := range candidates {
		if d := editDistance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance counts how many bytes must be inserted, deleted, replaced or
// swapped with their neighbour to make b out of a (optimal string alignment). Row
// i holds the distances from the first i bytes of a to every prefix of b.
func editDistance(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, row[j-1]+1, above[j]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
