package userland

import (
	"fmt"
	"strconv"
	"strings"
)

// expression is an expr command (expr(1p)) that is being evaluated: what is left of its words.
type expression struct{ words []string }

// exprLevels are the operators with two operands, from those that bind least to those that bind most.
var exprLevels = [][]string{{"|"}, {"&"}, {"=", "==", "!=", "<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "%"}, {":"}}

// runExpr prints a value. The status is 1 if it is empty or zero, 2 if the expression makes no sense.
func runExpr(p *Proc) error {
	if len(p.Args) > 0 && p.Args[0] == "--" {
		p.Args = p.Args[1:]
	}
	e := expression{p.Args}
	value, err := e.level(0)
	if err == nil && len(e.words) > 0 {
		err = Usagef("unexpected %q", e.words[0])
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Out, value)
	if !isTrue(value) {
		return exitStatus(1)
	}
	return nil
}

func isTrue(value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	return value != "" && (err != nil || n != 0)
}

// next takes the first word that is left, if it is one of these.
func (e *expression) next(words []string) string {
	for _, w := range words {
		if len(e.words) > 0 && e.words[0] == w {
			e.words = e.words[1:]
			return w
		}
	}
	return ""
}

func (e *expression) level(n int) (string, error) {
	if n == len(exprLevels) {
		return e.operand()
	}
	left, err := e.level(n + 1)
	for err == nil {
		op := e.next(exprLevels[n])
		if op == "" {
			break
		}
		var right string
		if right, err = e.level(n + 1); err == nil {
			left, err = combine(op, left, right)
		}
	}
	return left, err
}

func (e *expression) operand() (string, error) {
	if len(e.words) == 0 {
		return "", Usagef("an operand is missing")
	}
	word := e.words[0]
	e.words = e.words[1:]
	switch {
	case word == "(":
		value, err := e.level(0)
		if err == nil && e.next([]string{")"}) == "" {
			err = Usagef("a '(' is not closed")
		}
		return value, err
	case word == "+" && len(e.words) > 0: // what follows is text, whatever it looks like
		word, e.words = e.words[0], e.words[1:]
		return word, nil
	case word == "length" && len(e.words) > 0:
		value, err := e.operand()
		return strconv.Itoa(len([]rune(value))), err
	case word == "match" && len(e.words) > 1, word == "index" && len(e.words) > 1:
		text, err := e.operand()
		if err != nil {
			return "", err
		}
		arg, err := e.operand()
		if err != nil || word == "match" {
			return matchStart(text, arg, err)
		}
		return strconv.Itoa(strings.IndexAny(text, arg) + 1), nil
	case word == "substr" && len(e.words) > 2:
		return e.substring()
	}
	return word, nil
}

// substring is "substr TEXT FROM LENGTH", with positions that begin at 1.
func (e *expression) substring() (string, error) {
	text, err := e.operand()
	var numbers [2]int
	for i := range numbers {
		var word string
		if word, err = e.operand(); err != nil {
			return "", err
		}
		if numbers[i], err = strconv.Atoi(word); err != nil {
			return "", nil
		}
	}
	runes, from := []rune(text), numbers[0]-1
	if from < 0 || from >= len(runes) || numbers[1] <= 0 {
		return "", err
	}
	return string(runes[from:min(from+numbers[1], len(runes))]), err
}

func combine(op, a, b string) (string, error) {
	switch op {
	case "|":
		if isTrue(a) {
			return a, nil
		}
		if isTrue(b) {
			return b, nil
		}
		return "0", nil
	case "&":
		if isTrue(a) && isTrue(b) {
			return a, nil
		}
		return "0", nil
	case ":":
		return matchStart(a, b, nil)
	}
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	if strings.ContainsAny(op, "=<>") {
		order := strings.Compare(a, b)
		if errX == nil && errY == nil {
			order = compareInts(x, y)
		}
		return compared(op, order), nil
	}
	if errX != nil || errY != nil {
		return "", Usagef("not a whole number: %q %s %q", a, op, b)
	}
	return calculate(op, x, y)
}

func compareInts(x, y int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func compared(op string, order int) string {
	yes := map[string]bool{"=": order == 0, "==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}
	if yes[op] {
		return "1"
	}
	return "0"
}

func calculate(op string, x, y int64) (string, error) {
	switch op {
	case "+":
		x += y
	case "-":
		x -= y
	case "*":
		x *= y
	default:
		if y == 0 {
			return "", Usagef("division by zero")
		}
		if op == "/" {
			x /= y
		} else {
			x %= y
		}
	}
	return strconv.FormatInt(x, 10), nil
}

// matchStart matches a basic regular expression with the beginning of a text: the answer is its first group, or, if it
// has none, how many characters matched.
func matchStart(text, pattern string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	re, err := compileGo("^(?:"+toGo(pattern, false)+")", false)
	if err != nil {
		return "", Usagef("%v", err)
	}
	found := re.FindStringSubmatch(text)
	switch {
	case re.NumSubexp() > 0 && found == nil:
		return "", nil
	case re.NumSubexp() > 0:
		return found[1], nil
	case found == nil:
		return "0", nil
	}
	return strconv.Itoa(len([]rune(found[0]))), nil
}
