package policy

import (
	"slices"

	"github.com/containr/containr/internal/nft"
)

// Replace are the messages that make the table exactly what Compile says, if there is what there is. Counters go on, and so do flows.
func (r *Rules) Replace(there nft.Contents) []string {
	var list []string
	add := func(m nft.Message) { list = append(list, m.Bytes) }
	for _, s := range r.made {
		add(s.Message)
	}
	add(r.Table.Flush())
	for _, s := range r.flushed {
		add(s.Flush())
	}
	for _, s := range append(slices.Clone(r.rules), r.elements...) {
		add(s.Message)
	}
	return append(list, r.without(there)...)
}

// without are the messages that take away what there is and is not in the rules. Nothing that is left refers to it.
func (r *Rules) without(there nft.Contents) (list []string) {
	add := func(m nft.Message) { list = append(list, m.Bytes) }
	for _, name := range there.Chains {
		if !r.Chains[name] {
			add(r.Table.DeleteChain(name))
		}
	}
	for _, name := range there.Sets {
		if !r.Sets[name] {
			add(nft.Set{Table: r.Table, Name: name}.DeleteSet())
		}
	}
	for name := range there.Counters {
		if !r.Counters[name] {
			add(r.Table.DeleteCounter(name))
		}
	}
	for _, name := range there.Limits {
		if !r.Limits[name] {
			add(r.Table.DeleteLimit(name))
		}
	}
	return list
}

// unfinished is a chain that is there between the parts of a replacement, so that Are tells of one whose maker was killed.
const unfinished = "unfinished"

// Parts are the messages of Replace as several transactions, of at most so many bytes each, for who may not have a socket's buffer as large
// as he likes. One is enough for few containers. Else each chain is replaced at once, and the last part, which has no bound, makes
// them hold: who had rules is held to the old or the new ones in between, but may be refused for that moment what names and labels are to let
// through.
func (r *Rules) Parts(there nft.Contents, most int) (parts [][]string) {
	whole, size := r.Replace(there), 0
	for _, m := range whole {
		size += len(m)
	}
	if size <= most {
		return [][]string{whole}
	}
	var part []string
	left := most
	end := func() {
		if len(part) > 0 {
			parts = append(parts, part)
		}
		part, left = nil, most
	}
	add := func(messages ...string) { // together
		n := 0
		for _, m := range messages {
			n += len(m)
		}
		if n > left {
			end()
		}
		part, left = append(part, messages...), left-n
	}
	add(r.Table.New().Bytes, r.Table.Chain(unfinished).Bytes)
	for _, s := range r.made {
		add(s.Bytes)
	}
	end()
	rules := map[string][]string{}
	for i, s := range r.rules {
		rules[r.chainOf[i]] = append(rules[r.chainOf[i]], s.Bytes)
	}
	for _, name := range sorted(r.Chains) {
		add(append([]string{r.Table.FlushChain(name).Bytes}, rules[name]...)...)
	}
	end()
	for _, s := range r.flushed {
		part = append(part, s.Flush().Bytes)
	}
	for _, s := range r.elements {
		part = append(part, s.Bytes)
	}
	for _, name := range there.Chains {
		if !r.Chains[name] {
			part = append(part, r.Table.FlushChain(name).Bytes)
		}
	}
	if !slices.Contains(there.Chains, unfinished) {
		there.Chains = append(slices.Clone(there.Chains), unfinished)
	}
	part = append(part, r.without(there)...)
	end()
	return parts
}
