package cli

// diffContext is how many equal lines are shown around each difference.
const diffContext = 2

// diffLines compares two texts line by line. It returns the lines that only the
// first one has, with "-" in front, those that only the second one has, with "+",
// and equal ones near them with a blank; "..." stands for equal lines left out.
// The result is empty if the texts are equal.
func diffLines(a, b []string) []string {
	edits := editScript(a, b)
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e[0] == ' ' {
			continue
		}
		for j := max(0, i-diffContext); j <= min(len(edits)-1, i+diffContext); j++ {
			near[j] = true
		}
	}
	var out []string
	skipped, any := false, false
	for i, e := range edits {
		if !near[i] {
			skipped = true
			continue
		}
		if skipped && any {
			out = append(out, "...")
		}
		out = append(out, e)
		skipped, any = false, true
	}
	return out
}

// editScript marks every line of both texts as common or not, so that as many as
// possible are common (longest common subsequence). The common ends, most of two
// similar plans, are set aside first, since the table is quadratic.
func editScript(a, b []string) []string {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var out []string
	for _, l := range a[:start] {
		out = append(out, " "+l)
	}
	out = append(out, editMiddle(a[start:len(a)-end], b[start:len(b)-end])...)
	for _, l := range a[len(a)-end:] {
		out = append(out, " "+l)
	}
	return out
}

func editMiddle(a, b []string) []string {
	// common[i][j] is how many lines a[i:] and b[j:] have in common.
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}
