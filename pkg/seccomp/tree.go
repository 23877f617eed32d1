package seccomp

// span is a run of numbers that share an outcome. It ends where the next one
// of its table begins; the last ends at 2^32-1, or for amd64 at x32Bit-1.
type span struct {
	first uint32
	to    target
}

// buildTrees cuts the table of each ABI into spans.
func (c *compiler) buildTrees() {
	for i, t := range c.tables {
		if t == nil {
			continue
		}
		c.spans[i] = c.cutSpans(t, Arch(i+1))
		c.markReached(c.spans[i])
	}
	c.markFollowing()
}

// cutSpans joins neighbouring numbers with equal outcomes.
func (c *compiler) cutSpans(t *outcomeTable, a Arch) []span {
	spans := make([]span, 0, 160)
	add := func(number uint32, to target) {
		if n := len(spans); n == 0 || spans[n-1].to != to {
			spans = append(spans, span{number, to})
		}
	}
	base := a.full(0)
	for n := 0; n <= t.last; n++ {
		add(base+uint32(n), c.outcome(&t.entries[n], a))
	}
	rest := c.unnamed(t)
	add(base+uint32(t.last+1), rest)
	if a == ARM {
		// These are old, whatever their numbers.
		for n := range privateSlots {
			add(armPrivateBase+uint32(n), c.outcome(&t.entries[plainSlots+n], a))
		}
		add(armPrivateBase+privateSlots, rest)
	}
	return spans
}

// outcome returns where a filter goes for a number with this entry.
func (c *compiler) outcome(e *entry, a Arch) target {
	switch e.rules {
	case decided:
		return ending(e.action)
	case undecided:
		return ending(c.defaultAction)
	}
	return c.conditional(e.rules, a.wide())
}

// unnamed returns the outcome of numbers above all that the policy names:
// whoever wrote it did not know them yet. Without any named call of an ABI
// nothing can be said about the policy's age.
func (c *compiler) unnamed(t *outcomeTable) target {
	if t.last < 0 || c.defaultAction.permissive() {
		return ending(c.defaultAction)
	}
	return ending(Errno | enosys)
}

// leaf is a part of a tree that is searched number by number: up to
// leafSingles numbers, each its own span, in the midst of equal spans. One
// comparison for equality sets a number apart, two of order would be needed
// otherwise.
type leaf struct {
	from, to int // spans[from:to]
}

// leafSingles is a compromise: for docker's profile 1 makes a program that is
// 5 % longer, and 3 one that is 3 % shorter but searches longer on average.
const leafSingles = 2

// cutLeaves groups spans into leaves, from left to right.
func cutLeaves(spans []span) []leaf {
	leaves := make([]leaf, 0, len(spans))
	for i := 0; i < len(spans); {
		end := i + 1
		for end+1 < len(spans) && end-i < 2*leafSingles &&
			spans[end+1].first == spans[end].first+1 && spans[end+1].to == spans[i].to {
			end += 2
		}
		leaves = append(leaves, leaf{i, end})
		i = end
	}
	return leaves
}

// emitTree writes a search tree over spans and returns its root. The
// accumulator holds the number.
//
// The tree is balanced, without regard to which calls are frequent: read and
// its like are always allowed, and for those the kernel does not run the filter
// at all (since Linux 5.11). Weights would lengthen the way to all others.
func (c *compiler) emitTree(spans []span, leaves []leaf) label {
	if len(leaves) == 1 {
		return c.emitLeaf(spans[leaves[0].from:leaves[0].to])
	}
	mid := len(leaves) / 2
	right := c.emitTree(spans, leaves[mid:])
	left := c.emitTree(spans, leaves[:mid])
	return c.jump(opJGE, spans[leaves[mid].from].first, right, left)
}

// emitLeaf writes the comparisons of one leaf: spans 1, 3, ... are single
// numbers, and spans 0, 2, ... are the rest.
func (c *compiler) emitLeaf(spans []span) label {
	at := c.emitTarget(spans[0].to, false)
	for i := len(spans) - 2; i > 0; i -= 2 {
		at = c.jump(opJEQ, spans[i].first, c.emitTarget(spans[i].to, false), at)
	}
	return at
}
