package cli_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"
)

// A possibility is a state that may be the true one, and how many phases of those commands have been made
// that have begun and not ended, by the time of their beginning.
type possibility struct {
	state modelled
	made  map[int]int
}

func (p possibility) key() string {
	out := p.state.key()
	for _, begin := range slices.Sorted(maps.Keys(p.made)) {
		out += fmt.Sprintf("%d:%d ", begin, p.made[begin])
	}
	return out
}

// checker goes through a history from its beginning to its end, with all that may be true at that time. A command may make its
// phases at any moment from its beginning to its end; what was killed, or a second time later, at the end of which settle
// is called. If at the end of a command nothing is possible any more in which it had the outcome that it had, then no
// order of the commands explains what was seen: one was lost, or half done.
type checker struct {
	open     map[int]act // have begun and not ended
	possible map[string]possibility
}

func newChecker() *checker {
	first := possibility{modelled{map[string]string{}, map[string]string{}, map[int][]string{}}, map[int]int{}}
	return &checker{map[int]act{}, map[string]possibility{first.key(): first}}
}

// check returns the first act of a history that cannot be explained, and what was possible before its end.
func check(history []act) (wrong *act, before []string) {
	type tick struct {
		at    int
		act   act
		isEnd bool
	}
	var ticks []tick
	for _, a := range history {
		for _, o := range history {
			if o.Begin < a.End && a.Begin < o.End && o.Begin != a.Begin {
				a.Disturbed = a.Disturbed || slices.Contains(enders, o.Verb)
				a.Contended = a.Contended || slices.Contains(rivals[a.Verb], o.Verb)
			}
			a.Disturbed = a.Disturbed || o.Verb == "start" && o.Outcome == wasKilled && o.Begin < a.End // it may have its effect later
		}
		ticks = append(ticks, tick{a.Begin, a, false}, tick{a.End, a, true})
	}
	sort.Slice(ticks, func(i, k int) bool { return ticks[i].at < ticks[k].at })
	c := newChecker()
	for _, t := range ticks {
		switch {
		case t.act.Verb == settled:
			if t.isEnd {
				before = c.states()
				if c.settle(); len(c.possible) == 0 {
					return &t.act, before
				}
			}
		case !t.isEnd:
			c.begin(t.act)
		case t.act.Outcome == wasKilled: // until all is settled
		default:
			before = c.states()
			if c.end(t.act); len(c.possible) == 0 {
				return &t.act, before
			}
		}
	}
	return nil, nil
}

// enders are the commands that end a container; a start that is killed may, too.
var enders = []string{"stop", "kill", "restart", "rm -f"}

// rivals are those that a command may be refused for before they have had their effect.
var rivals = map[string][]string{
	"create": {"create", "rename"}, "rename": {"create", "rename"}, "rm": {"create", "rm", "rm -f", "start", "restart"},
	"pause": {"start", "restart"}, "unpause": {"start", "restart"}, "exec": {"start", "restart"},
}

// settled is the verb of an act that stands for a moment when no command is at work, and what was killed has had its
// effects.
const settled = "settled"

func (c *checker) states() (out []string) {
	for _, p := range c.possible {
		out = append(out, p.state.key())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// begin opens a command. What was killed and would have changed nothing is no matter.
func (c *checker) begin(a act) {
	if a.Outcome != wasKilled || !a.changesNothing() {
		c.open[a.Begin] = a
	}
}

// spread replaces what is possible by all that may become of it.
func (c *checker) spread() {
	seen := map[string]bool{}
	var work []possibility
	add := func(p possibility) {
		for begin, a := range c.open {
			if p.made[begin] < len(phases[a.Verb]) {
				p.state = p.state.find(a)
			}
		}
		if key := p.key(); !seen[key] {
			seen[key] = true
			work = append(work, p)
		}
	}
	for _, p := range c.possible {
		add(p)
	}
	c.possible = map[string]possibility{}
	for len(work) > 0 {
		p := work[len(work)-1]
		work = work[:len(work)-1]
		next, certain := c.next(p)
		if !certain {
			c.possible[p.key()] = p
		}
		for _, n := range next {
			add(n)
		}
	}
}

// next is what may happen in a possibility. If something can that changes nothing, it is only that: certain.
func (c *checker) next(p possibility) (next []possibility, certain bool) {
	for id, status := range p.state.status {
		if status == dying {
			next = append(next, possibility{p.state.with(id, exited), p.made})
		}
	}
	for begin, a := range c.open {
		n := p.made[begin]
		if n == len(phases[a.Verb]) {
			continue
		}
		for _, id := range p.state.found[begin] {
			state, fits := phases[a.Verb][n](p.state, id, a)
			if !fits {
				continue
			}
			made := maps.Clone(p.made)
			made[begin] = n + 1
			state.found = maps.Clone(state.found)
			if state.found[begin] = []string{id}; n+1 == len(phases[a.Verb]) { // from now on it means this one
				delete(state.found, begin)
			}
			then := possibility{state, made}
			if a.changesNothing() && state.sameAs(p.state) {
				return []possibility{then}, true
			}
			next = append(next, then)
		}
	}
	return next, false
}

// close forgets a command, and keeps what keep says.
func (c *checker) close(a act, keep func(made int) bool) {
	left := map[string]possibility{}
	for _, p := range c.possible {
		if !keep(p.made[a.Begin]) {
			continue
		}
		p.made, p.state.found = maps.Clone(p.made), maps.Clone(p.state.found)
		delete(p.made, a.Begin)
		delete(p.state.found, a.Begin)
		left[p.key()] = p
	}
	delete(c.open, a.Begin)
	c.possible = left
}

func (c *checker) end(a act) {
	c.spread()
	c.close(a, func(made int) bool { return made == len(phases[a.Verb]) })
}

// settle ends what was killed. That which is whole or not at all has now been made, or not begun.
func (c *checker) settle() {
	c.spread()
	for _, a := range c.open {
		all := len(phases[a.Verb])
		c.close(a, func(made int) bool { return !wholes[a.Verb] || made == 0 || made == all })
	}
	for key, p := range c.possible {
		for _, status := range p.state.status {
			if status == dying || status == restarting {
				delete(c.possible, key)
			}
		}
	}
}

// TestTheModelRefuses: histories that no order of commands explains are found, and those that one explains are not.
func TestTheModelRefuses(t *testing.T) {
	for _, c := range []struct {
		name, history string
		wrong         string // the beginning of the act that cannot be, "" for a history that can
	}{
		{"one after another", "0 1 create a done X, 2 3 look a done X created, 4 5 start a done, 6 7 look a done X running, 8 9 rm a is_running, 10 11 rm_-f a done, 12 13 look a absent", ""},
		{"a name given twice", "0 1 create a done X, 2 3 create a done Y", "create a: done Y"},
		{"a name given twice at once", "0 5 create a done X, 1 4 create a done Y", "create a: done X"},
		{"a loser at once", "0 5 create a done X, 1 4 create a in_use", ""},
		{"a loser before all see the winner", "0 9 create a done X, 1 4 create a in_use, 5 6 look a absent", ""},
		{"refused without a reason", "0 1 create a in_use", "create a: name in use"},
		{"a lost start", "0 1 create a done X, 2 3 start a done, 4 5 look a done X created", "look a: done X created"},
		{"a lost stop", "0 1 create a done X, 2 3 start a done, 4 7 stop a done, 5 6 look a done X running, 8 9 look a done X running", "look a: done X running"},
		{"a stop beside a restart", "0 1 create a done X, 2 3 start a done, 4 9 restart a done, 5 7 stop a done, 10 11 look a done X running", ""},
		{"a stop after a restart", "0 1 create a done X, 2 3 start a done, 4 5 restart a done, 6 7 stop a done, 8 9 look a done X running", "look a: done X running"},
		{"a kill takes a while", "0 1 create a done X, 2 3 start a done, 4 5 kill a done, 6 7 look a done X running, 8 9 look a done X exited", ""},
		{"and is not taken back", "0 1 create a done X, 2 3 start a done, 4 5 kill a done, 6 7 look a done X exited, 8 9 look a done X running", "look a: done X running"},
		{"both names", "0 1 create a done X, 2 9 rename a b done, 3 4 look b done X created, 5 6 look a done X created", "look a: done X created"},
		{"renamed under its feet", "0 1 create a done X, 2 3 start a done, 4 9 stop a done, 5 6 rename a b done, 7 8 look b done X running, 10 11 look b done X exited", ""},
		{"killed, and whole", "0 1 create a done X, 2 3 rename a b killed, 4 5 settled, 6 7 look b done X created, 8 9 look a absent", ""},
		{"killed, and not done", "0 1 create a done X, 2 3 rename a b killed, 4 5 settled, 6 7 look a done X created, 8 9 look b absent", ""},
		{"killed, and half done", "0 1 create a done X, 2 3 rename a b killed, 4 5 settled, 6 7 look a done X created, 8 9 look b done X created", "look b: done X created"},
		{"killed over a restart", "0 1 create a done X, 2 3 start a done, 4 5 restart a killed, 6 7 settled, 8 9 look a done X exited", "look a: done X exited"},
		{"killed over a create", "0 1 create a killed, 2 3 settled, 4 5 look a done X created, 6 7 look a done X created, 8 9 look a done Y created", "look a: done Y created"},
		{"killed start that ends it", "0 1 create a done X, 2 3 start a killed, 4 5 look a done X running, 6 7 look a done X exited", ""},
		{"start that ends it", "0 1 create a done X, 2 3 start a done, 4 5 look a done X running, 6 7 look a done X exited", "look a: done X exited"},
		{"cut short", "0 1 create a done X, 2 9 start a cut_short, 3 4 stop a done, 10 11 look a done X exited", ""},
		{"cut short by nobody", "0 1 create a done X, 2 9 start a cut_short", "start a: cut short"},
		{"removed twice", "0 1 create a done X, 2 3 rm a done, 4 5 rm a done", "rm a: done"},
		{"a start of what is paused", "0 1 create a done X, 2 3 start a done, 4 5 pause a done, 6 7 start a is_paused, 8 9 look a done X paused", ""},
		{"a start of what is paused, as if it were not", "0 1 create a done X, 2 3 start a done, 4 5 pause a done, 6 7 start a done", "start a: done"},
		{"one exec too many", "0 1 create a done X, 2 3 exec a done", "exec a: done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong, before := check(readHistory(t, c.history))
			got := ""
			if wrong != nil {
				_, got, _ = strings.Cut(wrong.String(), "worker 0: ")
			}
			if got != c.wrong {
				t.Errorf("the act that cannot be is %q, want %q; possible was %v", got, c.wrong, before)
			}
		})
	}
}

// readHistory reads acts as the test above has them: BEGIN END VERB NAME [TO] OUTCOME [ID [STATUS]].
func readHistory(t *testing.T, text string) (history []act) {
	t.Helper()
	outcomes := map[string]string{"done": done, "absent": absent, "in_use": inUse, "is_running": isRunning, "killed": wasKilled, "cut_short": cutShort, "is_paused": isPaused}
	for one := range strings.SplitSeq(text, ", ") {
		w := strings.Fields(one)
		var a act
		if _, err := fmt.Sscan(w[0]+" "+w[1], &a.Begin, &a.End); err != nil {
			t.Fatal(err)
		}
		a.Verb = strings.ReplaceAll(w[2], "_", " ")
		if len(w) > 3 {
			a.Name = w[3]
			w = w[4:]
			if a.Verb == "rename" {
				a.To, w = w[0], w[1:]
			}
			a.Outcome = outcomes[w[0]]
			if len(w) > 1 {
				a.ID = w[1]
			}
			if len(w) > 2 {
				a.Status = w[2]
			}
		}
		history = append(history, a)
	}
	return history
}
