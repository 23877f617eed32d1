package cli

import (
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/registry"
)

// progress shows how a pull or push goes on: bars on a terminal, a line for each finished
// layer otherwise. It goes to standard error, so that a container's output is its
// own. Nothing is made before the first event.
type progress struct {
	program *Program
	quiet   bool
	once    sync.Once

	mu    sync.Mutex // held while something is written
	bars  *mpb.Progress
	known map[digest.Digest]*mpb.Bar
	waits map[string]bool // that were told of, by their lines without a time
}

func (p *Program) newProgress(quiet bool) *progress {
	p.showing.Lock()
	defer p.showing.Unlock()
	p.shown = &progress{program: p, quiet: quiet, waits: map[string]bool{}}
	return p.shown
}

// event takes one event; they come one at a time.
func (g *progress) event(e registry.Progress) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.quiet:
	case tty.IsTerminal(g.program.Err):
		g.draw(e)
	case e.Phase.IsLast():
		fmt.Fprintf(g.program.Err, "%s: %s\n", short(e.Layer), e.Phase)
	}
}

func (g *progress) draw(e registry.Progress) {
	if g.bars == nil {
		g.bars = mpb.New(mpb.WithOutput(g.program.Err), mpb.WithWidth(40))
		g.known = map[digest.Digest]*mpb.Bar{}
	}
	bar := g.known[e.Layer]
	if bar == nil {
		bar = g.bars.AddBar(max(e.Total, 1),
			mpb.PrependDecorators(decor.Name(short(e.Layer)+" ")),
			mpb.AppendDecorators(decor.OnComplete(decor.CountersKibiByte("% .1f / % .1f"), "done")))
		g.known[e.Layer] = bar
	}
	bar.SetCurrent(min(e.Done, max(e.Total-1, 0)))
	if e.Phase.IsLast() {
		bar.SetTotal(-1, true)
	}
}

// close ends the bars, finished or not. It may be called twice.
func (g *progress) close() {
	g.once.Do(func() {
		for _, bar := range g.known {
			bar.Abort(false)
		}
		if g.bars != nil {
			g.bars.Wait()
		}
	})
}

// showWait says that a registry keeps us waiting, in any command that asks one.
func (p *Program) showWait(w registry.Wait) {
	p.showing.Lock()
	g := p.shown
	p.showing.Unlock()
	if g == nil {
		g = p.newProgress(false)
	}
	g.wait(w)
}

// wait takes one wait, at any time. Where there are no bars yet, a terminal has one line for it, which counts the seconds
// and vanishes when the wait is over. Everywhere else there is one line for each thing that is waited for.
func (g *progress) wait(w registry.Wait) {
	g.mu.Lock()
	defer g.mu.Unlock()
	what, text := describeWait(w)
	alone := g.bars == nil && tty.IsTerminal(g.program.Err)
	switch {
	case g.quiet:
	case w.Over:
		if alone {
			fmt.Fprint(g.program.Err, eraseLine)
		}
	case alone && w.Failed == nil:
		fmt.Fprint(g.program.Err, eraseLine+g.fitting(text))
	case w.Failed == nil && g.waits[what]:
	case g.bars != nil:
		g.waits[what] = true
		fmt.Fprintln(g.bars, text)
	default:
		g.waits[what] = true
		fmt.Fprintln(g.program.Err, text)
	}
}

// eraseLine takes a terminal's cursor to the beginning of its line, and erases it (ECMA-48, EL).
const eraseLine = "\r\x1b[K"

// describeWait returns what is waited for, and the whole line, whose end matters least.
func describeWait(w registry.Wait) (what, text string) {
	if w.Failed != nil {
		text = fmt.Sprintf("%v; attempt %d of %d follows in %.1f s", w.Failed, w.Attempt+1, w.Attempts, w.For.Seconds())
		return text, present.CleanLine(text)
	}
	asked := w.What
	if !strings.HasSuffix(w.Doing, " "+w.Registry) { // it sent us elsewhere
		asked += " of registry " + w.Registry
	}
	what = fmt.Sprint(w.Doing, w.Attempt, asked)
	return what, present.CleanLine(fmt.Sprintf("%s for %.0f s, at most %.0f s, attempt %d of %d: %s",
		w.Doing, w.For.Seconds(), w.Limit.Seconds(), w.Attempt, w.Attempts, asked))
}

// fitting cuts a line to the terminal's width: of one that went on in the next, a part could not be erased.
func (g *progress) fitting(line string) string {
	size, err := tty.WindowSize(g.program.Err)
	if err != nil || size.Columns < 2 || len(line) < int(size.Columns) {
		return line
	}
	return line[:size.Columns-1]
}

func short(d digest.Digest) string {
	if d.Validate() != nil {
		return d.String()
	}
	return d.Encoded()[:12]
}
