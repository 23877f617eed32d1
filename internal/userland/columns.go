package userland

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// span is a range of positions that starts at 1; last is 0 for "to the end".
type span struct{ first, last int }

// spans reads a list such as "1,3-5,7-".
func spans(list string) ([]span, error) {
	var all []span
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		s := span{first: 1}
		var err1, err2 error
		if from != "" {
			s.first, err1 = strconv.Atoi(from)
		}
		if to != "" {
			s.last, err2 = strconv.Atoi(to)
		}
		if !isRange {
			s.last = s.first
		}
		if err1 != nil || err2 != nil || s.first < 1 || part == "-" || part == "" {
			return nil, Usagef("invalid list %q", list)
		}
		all = append(all, s)
	}
	return all, nil
}

func within(all []span, n int) bool {
	for _, s := range all {
		if n >= s.first && (s.last == 0 || n <= s.last) {
			return true
		}
	}
	return false
}

func runCut(p *Proc) error {
	fields := p.String("fields", "f", "", "print these fields: a `LIST` such as 1,3-5,7-")
	chars := p.String("characters", "c", "", "print these characters (`LIST`)")
	byteList := p.String("bytes", "b", "", "print these bytes (`LIST`)")
	delimiter := p.String("delimiter", "d", "\t", "the character between fields")
	outDelimiter := p.String("output-delimiter", "", "", "what to print between fields")
	only := p.Bool("only-delimited", "s", "drop lines without a delimiter")
	complement := p.Bool("complement", "", "print what was not selected")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	list, err := spans(*fields + *chars + *byteList)
	if err != nil || len([]rune(*delimiter)) != 1 {
		return Usagef("give one LIST with -f, -c or -b, and a single character with -d")
	}
	if *outDelimiter == "" {
		*outDelimiter = *delimiter
	}
	wanted := func(n int) bool { return within(list, n) != *complement }
	p.eachFile(names, func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) error {
			switch {
			case *byteList != "":
				line = pickBytes(line, wanted)
			case *chars != "":
				line = pick(strings.Split(line, ""), wanted, "")
			case !strings.Contains(line, *delimiter):
				if *only {
					return nil
				}
			default:
				line = pick(strings.Split(line, *delimiter), wanted, *outDelimiter)
			}
			_, err := fmt.Fprintln(p.Out, line)
			return err
		})
	})
	return nil
}

func pick(parts []string, wanted func(int) bool, sep string) string {
	var kept []string
	for i, part := range parts {
		if wanted(i + 1) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, sep)
}

func pickBytes(line string, wanted func(int) bool) string {
	var kept []byte
	for i := range len(line) {
		if wanted(i + 1) {
			kept = append(kept, line[i])
		}
	}
	return string(kept)
}

func runTr(p *Proc) error {
	complement := p.Bool("complement", "c", "use every character that is not in SET1")
	del := p.Bool("delete", "d", "delete the characters of SET1")
	squeeze := p.Bool("squeeze-repeats", "s", "print runs of a character of the last set once")
	cut := p.Bool("truncate-set1", "t", "leave out of SET1 what has nothing in SET2")
	sets, err := p.Parse(1, 2)
	if err != nil {
		return err
	}
	if len(sets) == 1 && !*del && !*squeeze {
		return Usagef("missing SET2")
	}
	from := expandSet(sets[0])
	var to []byte
	if len(sets) == 2 {
		to = expandSet(sets[1])
	}
	if *cut && len(from) > len(to) {
		from = from[:len(to)]
	}
	in := func(set []byte, c byte) bool { return slices.Contains(set, c) }
	member := func(c byte) bool { return in(from, c) != *complement }
	translate := func(c byte) byte {
		switch {
		case *del || len(to) == 0 || !member(c):
			return c
		case *complement:
			return to[len(to)-1]
		}
		return to[min(slices.Index(from, c), len(to)-1)]
	}
	squeezable := member
	if len(to) > 0 {
		squeezable = func(c byte) bool { return in(to, c) }
	}
	return p.translate(func(c byte) bool { return *del && member(c) }, translate, func(c byte) bool { return *squeeze && squeezable(c) })
}

// translate copies standard input byte by byte through what tr was asked for.
func (p *Proc) translate(drop func(byte) bool, change func(byte) byte, squeeze func(byte) bool) error {
	buf, last := make([]byte, 32<<10), -1
	for {
		n, err := p.Stdin.Read(buf)
		for _, c := range buf[:n] {
			if drop(c) {
				continue
			}
			c = change(c)
			if int(c) == last && squeeze(c) {
				continue
			}
			last = int(c)
			p.Out.WriteByte(c)
		}
		p.Out.Flush()
		if err != nil {
			return notEOF(err)
		}
	}
}

// expandSet lists the bytes of a tr set: escapes, ranges a-z and classes [:digit:].
func expandSet(set string) []byte {
	classes := map[string]func(rune) bool{
		"alpha": unicode.IsLetter, "digit": unicode.IsDigit, "upper": unicode.IsUpper, "lower": unicode.IsLower,
		"space": unicode.IsSpace, "punct": func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }, "cntrl": unicode.IsControl,
		"print": func(r rune) bool { return r >= ' ' && r < 0x7f }, "graph": func(r rune) bool { return r > ' ' && r < 0x7f },
		"blank": func(r rune) bool { return r == ' ' || r == '\t' }, "xdigit": func(r rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", r) },
		"alnum": func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) },
	}
	var out []byte
	for i := 0; i < len(set); {
		if strings.HasPrefix(set[i:], "[:") {
			if end := strings.Index(set[i:], ":]"); end > 0 && classes[set[i+2:i+end]] != nil {
				for c := range unicode.MaxASCII + 1 {
					if classes[set[i+2:i+end]](rune(c)) {
						out = append(out, byte(c))
					}
				}
				i += end + 2
				continue
			}
		}
		c, n := setByte(set[i:])
		i += n
		if i+1 < len(set) && set[i] == '-' {
			last, n := setByte(set[i+1:])
			for b := int(c); b <= int(last); b++ {
				out = append(out, byte(b))
			}
			i += n + 1
			continue
		}
		out = append(out, c)
	}
	return out
}

// setByte reads one byte of a set, which may be an escape, and says how long it is.
func setByte(s string) (byte, int) {
	if s[0] != '\\' || len(s) == 1 {
		return s[0], 1
	}
	if i := strings.IndexByte("abfnrtv", s[1]); i >= 0 {
		return "\a\b\f\n\r\t\v"[i], 2
	}
	n := 1
	for n < len(s) && n < 4 && s[n] >= '0' && s[n] <= '7' {
		n++
	}
	if n > 1 {
		value, _ := strconv.ParseUint(s[1:n], 8, 16)
		return byte(value), n
	}
	return s[1], 2
}

func runUniq(p *Proc) error {
	counted := p.Bool("count", "c", "print how often each line occurred")
	repeated := p.Bool("repeated", "d", "print only lines that occurred more than once")
	unique := p.Bool("unique", "u", "print only lines that occurred once")
	ignoreCase := p.Bool("ignore-case", "i", "ignore case")
	skip := p.Int("skip-fields", "f", 0, "do not compare the first `N` fields")
	skipChars := p.Int("skip-chars", "s", 0, "do not compare the next `N` bytes")
	width := p.Int("check-chars", "w", 1<<30, "compare at most `N` bytes")
	operands, err := p.Parse(0, 2)
	if err != nil {
		return err
	}
	if len(operands) == 2 {
		if err := p.printTo(operands[1]); err != nil {
			return err
		}
		operands = operands[:1]
	}
	key := func(line string) string {
		if *skip > 0 {
			line = line[fieldEnd(line, *skip, ""):]
		}
		line = line[min(max(*skipChars, 0), len(line)):]
		line = line[:min(max(*width, 0), len(line))]
		if *ignoreCase {
			return strings.ToLower(line)
		}
		return line
	}
	n, current := 0, ""
	emit := func() {
		if n == 0 || *repeated && n < 2 || *unique && n > 1 {
			return
		}
		if *counted {
			fmt.Fprintf(p.Out, "%7d ", n)
		}
		fmt.Fprintln(p.Out, current)
	}
	p.eachFile(operands, func(_ string, r io.Reader) error {
		err := eachLine(r, func(line string) error {
			if n > 0 && key(line) == key(current) {
				n++
				return nil
			}
			emit()
			n, current = 1, line
			return nil
		})
		emit()
		return err
	})
	return nil
}

// sortKey is one -k: from a character of a field to one of another, compared in its own way. Numbers begin at 1; an end of
// 0 is the end of the line, and an endChar of 0 that of the field.
type sortKey struct {
	start, startChar int
	end, endChar     int
	how              string // of the letters n g r f h b V
}

func runSort(p *Proc) error {
	var how string
	for _, f := range []struct{ long, short, does string }{
		{"numeric-sort", "n", "compare as numbers"}, {"reverse", "r", "reverse the order"}, {"ignore-case", "f", "ignore case"},
		{"human-numeric-sort", "h", "compare sizes such as 2K and 1G"}, {"general-numeric-sort", "g", "the same as -n"},
		{"version-sort", "V", "compare numbers inside of text as numbers"}, {"ignore-leading-blanks", "b", "ignore blanks at the start of fields"},
	} {
		p.flagSet().BoolFuncP(f.long, f.short, f.does, func(string) error { how += f.short; return nil })
	}
	unique := p.Bool("unique", "u", "print equal lines once")
	check := p.Bool("check", "c", "only check that the input is sorted")
	stable := p.Bool("stable", "s", "keep the order of equal lines")
	p.Bool("merge", "m", "accepted; sorted inputs are sorted again")
	zero := p.Bool("zero-terminated", "z", "lines end with a NUL byte")
	separator := p.String("field-separator", "t", "", "the character between fields")
	output := p.String("output", "o", "", "write to this `FILE`, which may be an input")
	keyTexts := p.Strings("key", "k", "compare fields `F[,G]`, with letters such as n and r")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	keys, err := sortKeys(*keyTexts, how)
	if err != nil {
		return err
	}
	var lines []string
	end := byte('\n')
	if *zero {
		end = 0
	}
	p.eachFile(names, func(_ string, r io.Reader) error {
		return eachPart(r, end, func(line string) error { lines = append(lines, line); return nil })
	})
	compare := func(a, b string) int { return compareKeys(keys, *separator, a, b) }
	total := compare
	if !*stable && !*unique {
		total = func(a, b string) int {
			c := compare(a, b)
			if c == 0 {
				c = cmp.Compare(a, b)
				if strings.Contains(how, "r") {
					c = -c
				}
			}
			return c
		}
	}
	if *check {
		if !slices.IsSortedFunc(lines, total) {
			return exitStatus(1)
		}
		return nil
	}
	slices.SortStableFunc(lines, total)
	if *unique {
		lines = slices.CompactFunc(lines, func(a, b string) bool { return compare(a, b) == 0 })
	}
	return p.writeLines(*output, lines, end)
}

func (p *Proc) writeLines(file string, lines []string, end byte) error {
	if file == "" {
		for _, line := range lines {
			p.Out.WriteString(line)
			p.Out.WriteByte(end)
		}
		return nil
	}
	return os.WriteFile(file, []byte(strings.Join(append(lines, ""), string(end))), 0o666)
}

// sortKeys parses the -k flags. Without any, the whole line is the key.
func sortKeys(texts []string, how string) ([]sortKey, error) {
	if len(texts) == 0 {
		return []sortKey{{start: 1, startChar: 1, how: how}}, nil
	}
	var keys []sortKey
	for _, text := range texts {
		from, to, hasEnd := strings.Cut(text, ",")
		start := strings.TrimRight(from, "nrfhbdgV")
		end := strings.TrimRight(to, "nrfhbdgV")
		k := sortKey{startChar: 1, how: from[len(start):] + to[len(end):]}
		if k.how == "" {
			k.how = how
		}
		ok := position(start, &k.start, &k.startChar) && k.start > 0 && k.startChar > 0
		if ok && hasEnd {
			ok = position(end, &k.end, &k.endChar) && k.end > 0
		}
		if !ok {
			return nil, Usagef("invalid key %q", text)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// position reads FIELD or FIELD.CHARACTER.
func position(text string, field, char *int) bool {
	first, second, both := strings.Cut(text, ".")
	var err1, err2 error
	*field, err1 = strconv.Atoi(first)
	if both {
		*char, err2 = strconv.Atoi(second)
	}
	return err1 == nil && err2 == nil
}

func compareKeys(keys []sortKey, separator, a, b string) int {
	for _, k := range keys {
		c := k.compare(k.of(a, separator), k.of(b, separator))
		if strings.Contains(k.how, "r") {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// of cuts the key out of a line.
func (k sortKey) of(line, separator string) string {
	from := k.blanks(line, fieldStart(line, k.start, separator)) + k.startChar - 1
	to := len(line)
	switch {
	case k.end > 0 && k.endChar == 0:
		to = fieldEnd(line, k.end, separator)
	case k.end > 0:
		to = k.blanks(line, fieldStart(line, k.end, separator)) + k.endChar
	}
	from, to = min(from, len(line)), min(to, len(line))
	return line[from:max(from, to)]
}

// blanks skips the blanks that a field begins with, if they do not count.
func (k sortKey) blanks(line string, at int) int {
	if strings.Contains(k.how, "b") {
		return skipBlanks(line, at)
	}
	return at
}

func skipBlanks(line string, at int) int {
	for at < len(line) && (line[at] == ' ' || line[at] == '\t') {
		at++
	}
	return at
}

// fieldStart is where field n begins. Without a separator, a field begins with the blanks before it, as POSIX has it.
func fieldStart(line string, n int, separator string) int {
	at := 0
	for range n - 1 {
		at = min(endOfField(line, at, separator)+len(separator), len(line))
	}
	return at
}

func fieldEnd(line string, n int, separator string) int {
	return endOfField(line, fieldStart(line, n, separator), separator)
}

func endOfField(line string, at int, separator string) int {
	if separator == "" {
		at = skipBlanks(line, at)
		separator = " \t"
	}
	if i := strings.IndexAny(line[at:], separator); i >= 0 {
		return at + i
	}
	return len(line)
}

func (k sortKey) compare(a, b string) int {
	switch {
	case strings.ContainsAny(k.how, "ng"):
		return cmp.Compare(leadingNumber(a), leadingNumber(b))
	case strings.Contains(k.how, "h"):
		return cmp.Compare(humanNumber(a), humanNumber(b))
	}
	if strings.Contains(k.how, "f") {
		a, b = strings.ToUpper(a), strings.ToUpper(b)
	}
	if strings.Contains(k.how, "V") {
		return compareVersions(a, b)
	}
	return cmp.Compare(a, b)
}

// compareVersions compares digits inside of text as numbers: file9 is before file10.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		digitsA, digitsB := leadingDigits(a), leadingDigits(b)
		if digitsA == "" || digitsB == "" {
			if c := cmp.Compare(a[0], b[0]); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
			continue
		}
		a, b = a[len(digitsA):], b[len(digitsB):]
		digitsA, digitsB = strings.TrimLeft(digitsA, "0"), strings.TrimLeft(digitsB, "0")
		if c := cmp.Or(cmp.Compare(len(digitsA), len(digitsB)), cmp.Compare(digitsA, digitsB)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func leadingDigits(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }

// leadingNumber is the number at the start of s, or 0.
func leadingNumber(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && s[end] == '-') {
		end++
	}
	n, _ := strconv.ParseFloat(s[:end], 64)
	return n
}

func humanNumber(s string) float64 {
	n := leadingNumber(s)
	rest := strings.TrimLeft(strings.TrimLeft(s, " \t"), "-0123456789.")
	if rest == "" {
		return n
	}
	for i := strings.IndexByte("KMGTPE", strings.ToUpper(rest)[0]); i >= 0; i-- {
		n *= 1024
	}
	return n
}

func runSeq(p *Proc) error {
	separator := p.String("separator", "s", "\n", "print this between numbers")
	width := p.Bool("equal-width", "w", "pad with zeros")
	p.flagSet().SetInterspersed(false)
	for i, a := range p.Args { // negative numbers are operands
		if _, err := strconv.ParseFloat(a, 64); err == nil {
			p.Args = append(append(append([]string{}, p.Args[:i]...), "--"), p.Args[i:]...)
			break
		}
	}
	words, err := p.Parse(1, 3)
	if err != nil {
		return err
	}
	first, step, decimals := 1.0, 1.0, 0
	numbers := make([]float64, len(words))
	for i, word := range words {
		if numbers[i], err = strconv.ParseFloat(word, 64); err != nil {
			return Usagef("invalid number %q", word)
		}
		if _, fraction, ok := strings.Cut(word, "."); ok {
			decimals = max(decimals, len(fraction))
		}
	}
	if len(words) > 1 {
		first = numbers[0]
	}
	if len(words) > 2 {
		step = numbers[1]
	}
	if step == 0 {
		return Usagef("the step must not be 0")
	}
	last, pad := numbers[len(numbers)-1], 0
	if *width {
		pad = max(len(strconv.FormatFloat(first, 'f', decimals, 64)), len(strconv.FormatFloat(last, 'f', decimals, 64)))
	}
	printed := false
	for i := 0; ; i++ {
		n := first + float64(i)*step
		if step > 0 && n > last+1e-9 || step < 0 && n < last-1e-9 {
			break
		}
		if printed {
			p.Out.WriteString(*separator)
		}
		fmt.Fprintf(p.Out, "%0*.*f", pad, decimals, n)
		printed = true
	}
	if printed {
		p.Out.WriteByte('\n')
	}
	return nil
}

func runYes(p *Proc) error {
	line := "y\n"
	if len(p.Args) > 0 {
		line = strings.Join(p.Args, " ") + "\n"
	}
	block := []byte(strings.Repeat(line, max(1, 8192/len(line))))
	for {
		if _, err := p.stdout.Write(block); err != nil {
			return err
		}
	}
}

func runPaste(p *Proc) error {
	delimiters := p.String("delimiters", "d", "\t", "the character between lines")
	serial := p.Bool("serial", "s", "join the lines of one file at a time")
	names, err := p.Parse(0, -1)
	if err != nil {
		return err
	}
	var columns [][]string
	p.eachFile(names, func(_ string, r io.Reader) error {
		var lines []string
		err := eachLine(r, func(line string) error { lines = append(lines, line); return nil })
		columns = append(columns, lines)
		return err
	})
	if *serial {
		for _, lines := range columns {
			fmt.Fprintln(p.Out, strings.Join(lines, *delimiters))
		}
		return nil
	}
	rows := 0
	for _, lines := range columns {
		rows = max(rows, len(lines))
	}
	for row := range rows {
		cells := make([]string, len(columns))
		for i, lines := range columns {
			if row < len(lines) {
				cells[i] = lines[row]
			}
		}
		fmt.Fprintln(p.Out, strings.Join(cells, *delimiters))
	}
	return nil
}
