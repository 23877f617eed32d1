package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/engine"
)

// statsFlags are those of `stats`.
type statsFlags struct {
	noStream, full, wide bool
	format               string
	interval             time.Duration
}

func (p *Program) statsCommand() *cobra.Command {
	var req engine.StatsRequest
	var f statsFlags
	cmd := &cobra.Command{
		Use:     "stats [FLAGS] [CONTAINER...]",
		Short:   "Show what containers use: CPU, memory, network, disks, processes",
		GroupID: groupRun,
		Long: "Show what containers use, of the kernel's counters, until interrupted. Without CONTAINER it is all\n" +
			"that run.\n\n" +
			"CPU % is of one CPU, over the last interval: 200% is two CPUs. MEM USAGE is without the part of the\n" +
			"file cache that goes first when memory is short. NET I/O is that of a network of the container's\n" +
			"own; -- stands for what is not counted. With --wide there are also NETWORKS (NET I/O of each network\n" +
			"that it is in, whoever made it), THROTTLED (in how many of the periods of 100 ms a CPU limit stopped\n" +
			"it), CACHE (files in memory), SWAP, and PRESSURE (in percent of the last ten seconds, how long\n" +
			"something waited for CPU, memory; cgroup version 2).",
		Example: "  containr stats --no-stream\n" +
			"  containr stats --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' web db",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.interval < 100*time.Millisecond {
				return usageErrorf("stats: --interval %v: use at least 100ms: the counters themselves are no finer", f.interval)
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Containers = args
			return p.stats(cmd.Context(), e, req, f)
		},
	}
	cmd.Flags().BoolVarP(&req.All, "all", "a", false, "show those that do not run too")
	cmd.Flags().BoolVar(&f.noStream, "no-stream", false, "show one interval, and end")
	cmd.Flags().BoolVar(&f.full, "no-trunc", false, "print whole ids")
	cmd.Flags().BoolVarP(&f.wide, "wide", "w", false, "show throttling, cache, swap and pressure too")
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "measure for `TIME`, such as 5s")
	cmd.Flags().StringVar(&f.format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

// stats prints one table after the other. Each compares the counters with those of the one
// before.
func (p *Program) stats(ctx context.Context, e *engine.Engine, req engine.StatsRequest, f statsFlags) error {
	before, err := e.Stats(ctx, req)
	if err != nil {
		return err
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now, err := e.Stats(ctx, req)
		if err != nil {
			return err
		}
		if err := p.printStats(now, before, f); err != nil || f.noStream {
			return err
		}
		before = now
	}
}

// printStats prints a table, on a terminal in the place of the one before.
func (p *Program) printStats(now, before []engine.Sample, f statsFlags) error {
	earlier := map[string]engine.Sample{}
	for _, s := range before {
		earlier[s.ID] = s
	}
	var out []statsRow
	for _, s := range now {
		out = append(out, newStatsRow(s, s.Since(earlier[s.ID]), f.full))
	}
	l := present.List{Format: f.format, Columns: statsColumns, Titles: append(statsWide, present.Column{Field: "Container", Title: "CONTAINER"})}
	if f.wide {
		l.Columns = append(l.Columns[:len(l.Columns):len(l.Columns)], statsWide...)
	}
	var text bytes.Buffer
	clear := ""
	if !f.noStream && tty.IsTerminal(p.Out) {
		clear = "\x1b[H\x1b[J" // to the first line, and away with what is there
	}
	if err := present.Rows(&text, l, out); err != nil {
		return err
	}
	if _, err := p.Out.WriteString(clear); err != nil {
		return err
	}
	_, err := text.WriteTo(p.text())
	return err
}

var statsColumns = []present.Column{
	{Field: "ID", Title: "CONTAINER ID"}, {Field: "Name", Title: "NAME"}, {Field: "CPUPerc", Title: "CPU %"},
	{Field: "MemUsage", Title: "MEM USAGE / LIMIT"}, {Field: "MemPerc", Title: "MEM %"}, {Field: "NetIO", Title: "NET I/O"},
	{Field: "BlockIO", Title: "BLOCK I/O"}, {Field: "PIDs", Title: "PIDS"},
}

var statsWide = []present.Column{
	{Field: "Networks", Title: "NETWORKS"}, {Field: "Throttled", Title: "THROTTLED"}, {Field: "Cache", Title: "CACHE"}, {Field: "Swap", Title: "SWAP"},
	{Field: "Pressure", Title: "PRESSURE"},
}

// statsRow is one line of `stats`, and what a template may name: docker's names, and those of --wide.
type statsRow struct {
	Container, ID, Name                              string
	CPUPerc, MemUsage, MemPerc, NetIO, BlockIO, PIDs string
	// Networks is NetIO of each network.
	Networks, Throttled, Cache, Swap, Pressure string
}

// uncounted stands for what is not known.
const uncounted = "--"

func newStatsRow(s engine.Sample, r engine.Rates, full bool) statsRow {
	row := statsRow{Container: s.Name, ID: present.ID(s.ID, full), Name: s.Name,
		CPUPerc: uncounted, MemUsage: uncounted + " / " + uncounted, MemPerc: uncounted, NetIO: uncounted, Networks: uncounted,
		BlockIO: uncounted, PIDs: uncounted, Throttled: uncounted, Cache: uncounted, Swap: uncounted, Pressure: uncounted}
	if s.CPU != nil {
		row.CPUPerc, row.Throttled = percent(r.CPU), percent(r.Throttled)
	}
	if m := s.Memory; m != nil {
		row.MemUsage = binarySize(m.Working()) + " / " + binarySize(s.MemoryLimit())
		row.MemPerc = percent(100 * float64(m.Working()) / float64(max(s.MemoryLimit(), 1)))
		row.Cache, row.Swap = binarySize(m.File), binarySize(m.Swap)
	}
	if n := s.Network; n != nil {
		row.NetIO = netIO(*n)
		list := ""
		for _, one := range s.Networks {
			list += ", " + one.Network + " " + netIO(one.NetworkUsage)
		}
		row.Networks = cmp.Or(strings.TrimPrefix(list, ", "), uncounted)
	}
	if s.Running {
		read, written := s.BlockIO()
		row.BlockIO = present.Size(int64(read)) + " / " + present.Size(int64(written))
	}
	if s.Pids != nil {
		row.PIDs = strconv.FormatUint(s.Pids.Current, 10)
	}
	if s.CPU != nil && s.CPU.Pressure != nil && s.Memory != nil && s.Memory.Pressure != nil {
		row.Pressure = pressure(s.CPU.Pressure) + " / " + pressure(s.Memory.Pressure)
	}
	return row
}

// netIO is what was received and sent.
func netIO(n engine.NetworkUsage) string {
	return present.Size(int64(n.Received)) + " / " + present.Size(int64(n.Sent))
}

func percent(p float64) string { return fmt.Sprintf("%.2f%%", p) }

func pressure(p *cgroup.Pressure) string { return percent(p.Some.Avg10) }

// binarySize is a size of memory as people read it, in powers of 1024.
func binarySize(n uint64) string { return units.BytesSize(float64(n)) }
