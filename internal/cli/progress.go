package cli

import (
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

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

	bars  *mpb.Progress
	known map[digest.Digest]*mpb.Bar
}

func (p *Program) newProgress(quiet bool) *progress {
	return &progress{program: p, quiet: quiet}
}

// event takes one event; they come one at a time.
func (g *progress) event(e registry.Progress) {
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

func short(d digest.Digest) string {
	if d.Validate() != nil {
		return d.String()
	}
	return d.Encoded()[:12]
}
