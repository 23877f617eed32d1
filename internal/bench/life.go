package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// liver is an engine whose containers live for a while. The command lines are the same for all.
type liver struct {
	name    string
	command func(args ...string) command
	// daemons are the programs that stay while containers live, by the names of their files.
	daemons []string
	// own is the one of them that each container has for itself; the others are there once.
	own string
}

// Numbers of what is measured, before the divisor.
const (
	crowdSize  = 100
	logLines   = 2_560_000 // of 100 bytes, so that it is 256 MB
	healthTime = 20 * time.Second
)

// life measures what containers cost that live for a while, many of them, beside docker's.
func (b *bench) life() (tables []table, err error) {
	e, err := b.newEngine("life")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	peers := []liver{{"containr", e.command, []string{"containr-monitor", "memfd:containr-init"}, "memfd:containr-init"}}
	if b.found("dockerd", "docker") {
		d, err := b.startDocker()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		if err := b.importBase(d.docker("import", "-", "base")); err != nil {
			return nil, err
		}
		peers = append(peers, liver{"docker", func(args ...string) command { return cmd(d.docker(args...)...) },
			[]string{"dockerd", "containerd", "containerd-shim-runc-v2"}, "containerd-shim-runc-v2"})
	}
	n := b.rounds(crowdSize)
	t := table{title: "Life of containers", rule: numbers, head: []string{""},
		text: fmt.Sprintf("%d containers run at the same time, each with a health check every 10 seconds; memory and processor time are those of the "+
			"programs that look after them, without the containers' own processes. One writes %d lines of 100 bytes to its log, as fast as it can. "+
			"podman has a section of its own; nerdctl, which leaves health checks to systemd, is in that of engines.", n, b.rounds(logLines))}
	for i, p := range peers {
		t.head = append(t.head, p.name)
		rows, err := b.live(p, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		for k, row := range rows {
			if i == 0 {
				t.rows = append(t.rows, []string{row[0]})
			}
			t.rows[k] = append(t.rows[k], row[1])
		}
	}
	return []table{t}, b.ctx.Err()
}

// live measures one engine. A row is what was measured, and the figure.
func (b *bench) live(p liver, n int) (rows [][2]string, err error) {
	for _, part := range []func(liver, int) ([][2]string, error){b.short, b.idle, b.listed, b.logged} {
		more, err := part(p, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// short runs containers that end at once, one after another and 8 at once.
func (b *bench) short(p liver, n int) (rows [][2]string, err error) {
	run := p.command("run", "--rm", "--network", "none", "base", "true")
	if _, err := run.measure(); err != nil { // the image is unpacked
		return nil, err
	}
	var one, eight sample
	for range n {
		s, err := run.measure()
		if err != nil {
			return nil, err
		}
		one.wall += s.wall
	}
	for range max(n/8, 1) {
		s, err := atOnce(slices.Repeat([]command{run}, 8))
		if err != nil {
			return nil, err
		}
		eight.wall += s.wall
	}
	return [][2]string{
		{fmt.Sprintf("`run --rm`, %d one after another, s", n), seconds(one.wall)},
		{fmt.Sprintf("`run --rm`, %d, 8 at once, s", max(n/8, 1)*8), seconds(eight.wall)},
	}, b.ctx.Err()
}

// idle has n containers that do nothing but be healthy.
func (b *bench) idle(p liver, n int) (rows [][2]string, err error) {
	before, err := p.alive()
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("idle", i))
	}
	began := time.Now()
	for _, name := range names {
		if _, err := p.command("run", "-d", "--name", name, "--network", "none", "--health-cmd", "true", "--health-interval", "10s", "base", "sleep", "100000").measure(); err != nil {
			return nil, err
		}
	}
	started := time.Since(began)
	exec, err := medianOf(b.rounds(20), p.command("exec", names[0], "true"))
	if err != nil {
		return nil, err
	}
	now, err := p.alive()
	if err != nil {
		return nil, err
	}
	time.Sleep(healthTime) // this is what is measured
	after, err := p.alive()
	if err != nil {
		return nil, err
	}
	began = time.Now()
	if _, err := p.command(append([]string{"rm", "-f"}, names...)...).measure(); err != nil {
		return nil, err
	}
	each := fmt.Sprintf("%.0f", (now.total()-before.total())/float64(n))
	return [][2]string{
		{fmt.Sprintf("`run -d`, %d one after another, s", n), seconds(started)},
		{"`exec`, ms", exec},
		{"private memory for each of them, kB", each},
		{"of it the process that each has for itself, kB", fmt.Sprintf("%.0f", (now.own-before.own)/float64(n))},
		{"private memory of what is there once, kB", fmt.Sprintf("%.0f", now.total()-now.own)},
		{"private memory of the daemons, kB", fmt.Sprintf("%.0f", now.total())},
		{"processor time of all health checks, % of one processor", fmt.Sprintf("%.1f", 100*(after.cpu-now.cpu).Seconds()/healthTime.Seconds())},
		{fmt.Sprintf("`rm -f` of %d, s", n), seconds(time.Since(began))},
	}, b.ctx.Err()
}

// listed lists a thousand containers.
func (b *bench) listed(p liver, _ int) (rows [][2]string, err error) {
	n := b.rounds(many)
	create := p.command("create", "--network", "none", "base", "true")
	for made := 0; made < n; made += 8 {
		if _, err := atOnce(slices.Repeat([]command{create}, min(8, n-made))); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{{"ps", "-aq"}, {"ps", "-a"}} {
		median, err := medianOf(11, p.command(args...))
		if err != nil {
			return nil, err
		}
		rows = append(rows, [2]string{fmt.Sprintf("`%s` of %d containers, ms", strings.Join(args, " "), n), median})
	}
	return rows, b.ctx.Err()
}

// logged has one container write as fast as it can, and reads that again.
func (b *bench) logged(p liver, _ int) (rows [][2]string, err error) {
	n := b.rounds(logLines)
	megabytes := float64(n) * 100 / 1e6
	began := time.Now()
	script := fmt.Sprintf("yes %s | head -n %d", strings.Repeat("x", 99), n)
	if _, err := p.command("run", "-d", "--name", "writer", "--network", "none", "--log-driver", "json-file", "--log-opt", "max-size=10g", "base", "sh", "-c", script).measure(); err != nil {
		return nil, err
	}
	if _, err := p.command("wait", "writer").measure(); err != nil {
		return nil, err
	}
	wrote := time.Since(began)
	began = time.Now()
	lines, err := countLines(p.command("logs", "writer").argv)
	if err != nil {
		return nil, err
	}
	read := time.Since(began)
	if _, err := p.command("rm", "-f", "writer").measure(); err != nil {
		return nil, err
	}
	return [][2]string{
		{"written to its log, MB/s", fmt.Sprintf("%.0f", megabytes/wrote.Seconds())},
		{"lines lost", fmt.Sprint(n - lines)},
		{"read by `logs`, MB/s", fmt.Sprintf("%.0f", megabytes/read.Seconds())},
	}, b.ctx.Err()
}

// countLines runs a command and counts the lines that it prints.
func countLines(argv []string) (lines int, err error) {
	c := exec.Command(argv[0], argv[1:]...)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(out, 1<<20)
	for {
		part, err := in.ReadSlice('\n')
		lines += bytes.Count(part, []byte("\n"))
		if errors.Is(err, io.EOF) {
			return lines, c.Wait()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return lines, errors.Join(err, c.Wait())
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// medianOf measures a command several times, and returns milliseconds.
func medianOf(n int, c command) (string, error) {
	var walls []float64
	for range n {
		s, err := c.measure()
		if err != nil {
			return "", err
		}
		walls = append(walls, milliseconds(s.wall))
	}
	return number(summarize(walls).median), nil
}

// living are the processes that look after containers.
type living struct {
	private map[int]float64 // kB, by process
	own     float64         // kB, of it those that containers have for themselves
	cpu     time.Duration   // and of children that have ended
}

func (l living) total() (kB float64) {
	for _, n := range l.private {
		kB += n
	}
	return kB
}

// alive finds the processes that look after containers. There should be no others of this machine.
func (p liver) alive() (l living, err error) {
	l.private = map[int]float64{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return l, err
	}
	for _, dir := range dirs {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || !slices.Contains(p.daemons, filepath.Base(strings.TrimSuffix(exe, " (deleted)"))) {
			continue // it has ended, or is none
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return l, err
		}
		kB, err := privatePages(pid)
		stat, statErr := os.ReadFile(dir + "/stat")
		if err != nil || statErr != nil {
			continue // it has ended meanwhile
		}
		l.private[pid] = kB
		if filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == p.own {
			l.own += kB
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		for _, field := range strings.Fields(rest)[11:15] { // utime, stime, cutime, cstime, see proc(5)
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return l, err
			}
			l.cpu += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return l, nil
}
