package seccomp

import (
	"cmp"
	"slices"
)

// This file turns conditions on arguments into a graph of tests. A filter can
// compare 32 bits at a time, so a test looks at one word: the low or the high
// half of an argument.
//
// The graph is built from the last rule to the first. Each test is made
// knowing where to go from it, and what the tests before it in its rule have
// established (the facts). An edge is then moved forward past every test that
// the facts already answer. Five rules "personality is 0, 8, 0x20000, 0x20008
// or 0xffffffff" first become ten tests, each looking at the high word again;
// with the edges moved, the high word is tested once.

// word names half of an argument: 2*argument, plus 1 for the high half.
type word uint8

// offset returns the place of the word in struct seccomp_data (linux/seccomp.h),
// little endian.
func (w word) offset() uint32 { return dataArgs + 4*uint32(w) }

// testOp is a comparison that classic BPF has.
type testOp uint8

const (
	wordEqual        testOp = iota // word == value
	wordGreater                    // word > value
	wordGreaterEqual               // word >= value
	wordMasked                     // word & mask == value
)

// question is one comparison of one word.
type question struct {
	word  word
	op    testOp
	mask  uint32 // of wordMasked, otherwise 0
	value uint32
}

// fact is a question and its known answer.
type fact struct {
	question
	holds bool
}

// target is where to go next: to a test, or to an action that ends the filter.
type target struct {
	test   int32 // index into graph.tests, or returns
	action Action
}

// returns marks a target that is an action.
const returns = -1

func ending(a Action) target { return target{test: returns, action: a} }

// test is a node of the graph. Its targets are tests with a smaller index.
type test struct {
	question
	yes, no target

	reached bool // some edge leads here
	load    bool // some edge comes with another word in the accumulator
	placed  bool // emitted; then:
	pos     int  // where to enter with the word in the accumulator
	loadPos int  // where to enter without
}

// keepsWord reports whether the test leaves its word in the accumulator.
func (t *test) keepsWord() bool { return t.op != wordMasked || t.value == 0 }

// graph is all argument tests of a filter, and the lists of rules they answer.
type graph struct {
	tests []test
	lists []ruleList
}

// ruleList is a list of conditional rules, with its tests once they are made.
type ruleList struct {
	rules  []int32
	starts [2]target // by width: 0 for 32 bits, 1 for 64
	made   [2]bool
}

// conditional returns where to begin asking the rules of a list of links.
func (c *compiler) conditional(head int32, wide bool) target {
	var room [16]int32
	rules := room[:0]
	for at := head; at != undecided; at = c.links[at-1].next {
		rules = append(rules, c.links[at-1].rule)
	}
	slices.SortFunc(rules, func(a, b int32) int { return c.compareRules(a, b, wide) })
	i := slices.IndexFunc(c.lists, func(l ruleList) bool { return slices.Equal(l.rules, rules) })
	if i < 0 {
		i = len(c.lists)
		c.lists = append(c.lists, ruleList{rules: slices.Clone(rules)})
	}
	width := 0
	if wide {
		width = 1
	}
	l := &c.lists[i]
	if !l.made[width] {
		l.starts[width], l.made[width] = c.makeList(l.rules, wide), true
	}
	return l.starts[width]
}

// compareRules orders rules from the most to the least specific, and otherwise
// as in the policy.
func (c *compiler) compareRules(a, b int32, wide bool) int {
	x, y := c.rules[a].conds, c.rules[b].conds
	for i := range min(len(x), len(y)) {
		if order := compareConditions(&x[i], &y[i], wide); order != 0 {
			return order
		}
	}
	if len(x) != len(y) {
		return cmp.Compare(len(x), len(y))
	}
	return cmp.Compare(a, b)
}

// compareConditions orders conditions as libseccomp's tree does: the higher
// argument first, then equality, then upper bounds from the lowest, then lower
// bounds from the highest.
func compareConditions(a, b *condition, wide bool) int {
	if a.arg != b.arg {
		return cmp.Compare(b.arg, a.arg)
	}
	class := specificity(a.op)
	if order := cmp.Compare(specificity(b.op), class); order != 0 {
		return order
	}
	x, y := a.value, b.value
	if !wide {
		x, y = uint64(uint32(x)), uint64(uint32(y))
	}
	if class == upperBound {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(y, x)
}

const (
	lowerBound = iota + 1
	upperBound
	exactValue
)

func specificity(op operator) int {
	switch op {
	case greater, greaterEqual:
		return lowerBound
	case less, lessEqual:
		return upperBound
	}
	return exactValue
}

// makeList makes the tests for a list of rules and returns the first.
func (c *compiler) makeList(rules []int32, wide bool) target {
	next := ending(c.defaultAction)
	for _, index := range slices.Backward(rules) {
		next = c.makeRule(&c.rules[index], wide, next)
	}
	return next
}

// makeRule makes the tests for one rule. If it does not match, the filter goes
// on at otherwise.
func (c *compiler) makeRule(r *rule, wide bool, otherwise target) target {
	// Facts hold from the condition that establishes them onward: facts[:n[i]]
	// are known when condition i begins. The rest of the array is free for
	// the tests of condition i, as later conditions are done by then.
	facts := make([]fact, 0, 2*maxArgs+2)
	var n [maxArgs]int
	for i := range r.conds {
		n[i] = len(facts)
		facts = r.conds[i].establishes(facts, wide)
	}
	next := ending(r.action)
	for i := len(r.conds) - 1; i >= 0; i-- {
		next = c.makeCondition(&r.conds[i], wide, facts[:n[i]], next, otherwise)
	}
	return next
}

// establishes appends what is known of single words once the condition holds.
func (d *condition) establishes(facts []fact, wide bool) []fact {
	low, high := d.words()
	switch {
	case d.op == equal || d.op == maskedEqual:
		if wide {
			facts = append(facts, fact{d.question(high), true})
		}
		facts = append(facts, fact{d.question(low), true})
	case !wide && d.op == notEqual:
		facts = append(facts, fact{question{word: low, op: wordEqual, value: uint32(d.value)}, false})
	}
	return facts
}

// words returns the two halves of the argument.
func (d *condition) words() (low, high word) { return word(2 * d.arg), word(2*d.arg + 1) }

// question returns the comparison for equality, masked or not, of one half.
func (d *condition) question(w word) question {
	value, mask := uint32(d.value), uint32(d.mask)
	if w&1 != 0 {
		value, mask = uint32(d.value>>32), uint32(d.mask>>32)
	}
	if d.op == maskedEqual && mask != ^uint32(0) {
		return question{word: w, op: wordMasked, mask: mask, value: value}
	}
	return question{word: w, op: wordEqual, value: value}
}

// makeCondition makes the tests for one condition, given the facts before it.
func (c *compiler) makeCondition(d *condition, wide bool, facts []fact, yes, no target) target {
	switch d.op {
	case notEqual, less, lessEqual:
		// Ask the opposite question.
		yes, no = no, yes
	}
	low, high := d.words()
	switch d.op {
	case equal, notEqual, maskedEqual:
		if !wide {
			return c.makeTest(d.question(low), facts, yes, no)
		}
		h := d.question(high)
		lowTest := c.makeTest(d.question(low), append(facts, fact{h, true}), yes, no)
		return c.makeTest(h, facts, lowTest, no)
	}
	// What is left is: greater than, or greater or equal. The low word counts
	// only where the high words are equal.
	l := question{word: low, op: wordGreaterEqual, value: uint32(d.value)}
	if d.op == greater || d.op == lessEqual {
		l.op = wordGreater
	}
	if !wide {
		return c.makeTest(l, facts, yes, no)
	}
	above := question{word: high, op: wordGreater, value: uint32(d.value >> 32)}
	same := question{word: high, op: wordEqual, value: uint32(d.value >> 32)}
	lowTest := c.makeTest(l, append(facts, fact{same, true}), yes, no)
	sameTest := c.makeTest(same, append(facts, fact{above, false}), lowTest, no)
	return c.makeTest(above, facts, yes, sameTest)
}

// makeTest returns a test of a question, or what replaces it if the facts
// answer the question or the answer does not matter.
func (g *graph) makeTest(q question, facts []fact, yes, no target) target {
	if q.op == wordMasked && q.mask == 0 {
		return yes // value has no bits outside of the mask
	}
	if holds, known := answer(q, facts); known {
		if holds {
			return yes
		}
		return no
	}
	yes = g.skipAnswered(yes, append(facts, fact{q, true}))
	no = g.skipAnswered(no, append(facts, fact{q, false}))
	if yes == no {
		return yes
	}
	for i := len(g.tests) - 1; i >= max(0, len(g.tests)-sharingWindow); i-- {
		if t := &g.tests[i]; t.question == q && t.yes == yes && t.no == no {
			return target{test: int32(i)}
		}
	}
	g.tests = append(g.tests, test{question: q, yes: yes, no: no})
	return target{test: int32(len(g.tests) - 1)}
}

// sharingWindow bounds the search for an equal test, so that a policy with
// thousands of rules does not take quadratic time.
const sharingWindow = 64

// skipAnswered follows the graph from t as long as the facts say which way.
func (g *graph) skipAnswered(t target, facts []fact) target {
	for t.test != returns {
		next := &g.tests[t.test]
		holds, known := answer(next.question, facts)
		if !known {
			break
		}
		t = next.no
		if holds {
			t = next.yes
		}
	}
	return t
}

// answer tells whether a question is answered by facts about the same word,
// and how. The facts must not contradict each other.
func answer(q question, facts []fact) (holds, known bool) {
	low, high := uint32(0), ^uint32(0) // the word is in [low, high]
	for _, f := range facts {
		if f.word != q.word {
			continue
		}
		if f.question == q {
			return f.holds, true
		}
		switch {
		case f.op == wordEqual && f.holds:
			low, high = f.value, f.value
		case f.op == wordGreater && f.holds:
			low = max(low, f.value+1) // value+1 cannot overflow, or the fact were false
		case f.op == wordGreater:
			high = min(high, f.value)
		case f.op == wordGreaterEqual && f.holds:
			low = max(low, f.value)
		case f.op == wordGreaterEqual:
			high = min(high, f.value-1) // nor value-1
		case f.op == wordMasked && f.holds && q.contradicts(f.question):
			return false, true
		}
	}
	for _, f := range facts {
		if f.word != q.word || f.op != wordEqual || f.holds || low == high {
			continue
		}
		switch f.value {
		case low:
			low++
		case high:
			high--
		}
	}
	return q.answerWithin(low, high)
}

// contradicts reports whether q cannot hold where the masked comparison f does.
func (q question) contradicts(f question) bool {
	switch q.op {
	case wordEqual:
		return q.value&f.mask != f.value
	case wordMasked:
		both := q.mask & f.mask
		return q.value&both != f.value&both
	}
	return false
}

// answerWithin answers a question if the answer is the same for all words from
// low to high.
func (q question) answerWithin(low, high uint32) (holds, known bool) {
	switch q.op {
	case wordEqual:
		if low == high {
			return low == q.value, true
		}
		return false, q.value < low || q.value > high
	case wordGreater:
		return low > q.value, low > q.value || high <= q.value
	case wordGreaterEqual:
		return low >= q.value, low >= q.value || high < q.value
	case wordMasked:
		return low&q.mask == q.value, low == high
	}
	return false, false
}

// markReached finds out which tests are entered, and which of them without
// their word in the accumulator. starts are the entries from the trees, where
// the accumulator holds the system call number.
func (g *graph) markReached(spans []span) {
	for _, s := range spans {
		if s.to.test != returns {
			g.tests[s.to.test].reached = true
			g.tests[s.to.test].load = true
		}
	}
}

// markFollowing continues markReached from test to test. Edges lead to smaller
// indices, so each test is complete when its turn comes.
func (g *graph) markFollowing() {
	for i := len(g.tests) - 1; i >= 0; i-- {
		t := &g.tests[i]
		if !t.reached {
			continue
		}
		for _, to := range []target{t.yes, t.no} {
			if to.test == returns {
				continue
			}
			next := &g.tests[to.test]
			next.reached = true
			if !t.keepsWord() || t.word != next.word {
				next.load = true
			}
		}
	}
}
