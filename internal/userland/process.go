package userland

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is what /proc tells about one process (proc(5)).
type process struct {
	pid, ppid, pgid, sid int
	uid, gid             int
	comm, args           string
	state                string
	tty                  int
	nice, threads        int
	ticks                uint64 // of CPU time, user and system
	started              uint64 // in ticks after boot
	virtual, resident    uint64 // KiB
}

// ticksPerSecond is USER_HZ, in which /proc counts: 100 on every architecture that Linux still has.
const ticksPerSecond = 100

// processes reads every process that this process may see. One that ends meanwhile is left out.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if proc, err := readProcess(pid); err == nil {
				all = append(all, proc)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("/proc shows no process: is it mounted?")
	}
	slices.SortFunc(all, func(a, b process) int { return a.pid - b.pid })
	return all, nil
}

func readProcess(pid int) (process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	// The name stands in parentheses and may itself contain some: it ends at the last one.
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("%s/stat: unexpected form", dir)
	}
	f := strings.Fields(string(stat[end+1:]))
	if len(f) < 22 {
		return process{}, fmt.Errorf("%s/stat: unexpected form", dir)
	}
	n := func(field int) int { v, _ := strconv.Atoi(f[field-3]); return v } // numbered as in proc(5)
	proc := process{
		pid: pid, comm: string(stat[open+1 : end]), state: f[0], ppid: n(4), pgid: n(5), sid: n(6), tty: n(7),
		ticks: uint64(n(14)) + uint64(n(15)), nice: n(19), threads: n(20), started: uint64(n(22)),
		virtual: uint64(n(23)) / 1024, resident: uint64(n(24)) * uint64(os.Getpagesize()) / 1024,
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return process{}, err
	}
	proc.uid, proc.gid = int(st.Uid), int(st.Gid)
	cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	proc.args = strings.TrimRight(strings.ReplaceAll(string(cmdline), "\x00", " "), " ")
	if proc.args == "" {
		proc.args = "[" + proc.comm + "]" // a kernel thread or a zombie
	}
	return proc, nil
}

// uptime is the time since boot, of /proc/uptime.
func uptime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	return time.Duration(seconds * float64(time.Second)), err
}

// psColumn is a column of ps.
type psColumn struct {
	name, title string
	right       bool
	value       func(process, *psTable) string
}

// psTable is what the columns need besides the process.
type psTable struct {
	users, groups map[int]string
	up            time.Duration
	memory        uint64 // KiB
}

// psColumns are all the columns that ps -o knows.
func psColumns() []psColumn {
	number := func(get func(process) int) func(process, *psTable) string {
		return func(p process, _ *psTable) string { return strconv.Itoa(get(p)) }
	}
	return []psColumn{
		{"pid", "PID", true, number(func(p process) int { return p.pid })},
		{"ppid", "PPID", true, number(func(p process) int { return p.ppid })},
		{"pgid", "PGID", true, number(func(p process) int { return p.pgid })},
		{"sid", "SID", true, number(func(p process) int { return p.sid })},
		{"uid", "UID", true, number(func(p process) int { return p.uid })},
		{"gid", "GID", true, number(func(p process) int { return p.gid })},
		{"user", "USER", false, func(p process, t *psTable) string { return nameOr(t.users, p.uid) }},
		{"group", "GROUP", false, func(p process, t *psTable) string { return nameOr(t.groups, p.gid) }},
		{"nice", "NI", true, number(func(p process) int { return p.nice })},
		{"nlwp", "NLWP", true, number(func(p process) int { return p.threads })},
		{"vsz", "VSZ", true, func(p process, _ *psTable) string { return strconv.FormatUint(p.virtual, 10) }},
		{"rss", "RSS", true, func(p process, _ *psTable) string { return strconv.FormatUint(p.resident, 10) }},
		{"pcpu", "%CPU", true, cpuShare},
		{"pmem", "%MEM", true, func(p process, t *psTable) string {
			return fmt.Sprintf("%.1f", 100*float64(p.resident)/float64(max(t.memory, 1)))
		}},
		{"tty", "TTY", false, func(p process, _ *psTable) string { return ttyName(p.tty) }},
		{"stat", "STAT", false, func(p process, _ *psTable) string { return statLetters(p) }},
		{"start", "START", false, startTime},
		{"etime", "ELAPSED", true, func(p process, t *psTable) string { return clock(elapsed(p, t)) }},
		{"time", "TIME", true, func(p process, _ *psTable) string {
			return clock(time.Duration(p.ticks) * time.Second / ticksPerSecond)
		}},
		{"comm", "COMMAND", false, func(p process, _ *psTable) string { return p.comm }},
		{"args", "COMMAND", false, func(p process, _ *psTable) string { return p.args }},
	}
}

func elapsed(p process, t *psTable) time.Duration {
	return t.up - time.Duration(p.started)*time.Second/ticksPerSecond
}

func cpuShare(p process, t *psTable) string {
	lived := max(elapsed(p, t), time.Second/ticksPerSecond)
	used := time.Duration(p.ticks) * time.Second / ticksPerSecond
	return fmt.Sprintf("%.1f", 100*float64(used)/float64(lived))
}

func startTime(p process, t *psTable) string {
	start := time.Now().Add(-elapsed(p, t))
	if time.Since(start) > 24*time.Hour {
		return start.Format("Jan02")
	}
	return start.Format("15:04")
}

// clock prints a time as [D-][HH:]MM:SS.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d", s/60%60, s%60)
	if s >= 3600 {
		text = fmt.Sprintf("%02d:%s", s/3600%24, text)
	}
	if s >= 86400 {
		text = fmt.Sprintf("%d-%s", s/86400, text)
	}
	return text
}

// ttyName names a controlling terminal by its device number (devices.txt of the kernel's documentation).
func ttyName(dev int) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major < 144:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// statLetters is the state with the marks of ps(1): < and N for priority, s for a session leader, l for threads.
func statLetters(p process) string {
	s := p.state
	switch {
	case p.nice < 0:
		s += "<"
	case p.nice > 0:
		s += "N"
	}
	if p.sid == p.pid {
		s += "s"
	}
	if p.threads > 1 {
		s += "l"
	}
	return s
}

func runPs(p *Proc) error {
	if len(p.Args) > 0 && strings.Trim(p.Args[0], "auxwef") == "" { // the BSD form
		p.Args = append([]string{"-" + p.Args[0]}, p.Args[1:]...)
	}
	every := p.Bool("every", "e", "every process (always so here)")
	p.Bool("all", "A", "every process (always so here)")
	p.Bool("a", "a", "every process (always so here)")
	p.Bool("x", "x", "every process (always so here)")
	p.Bool("w", "w", "wide output (always so here)")
	user := p.Bool("u", "u", "show users, CPU and memory")
	full := p.Bool("full", "f", "show users, parents and whole command lines")
	format := p.Strings("format", "o", "show these columns: `LIST` of pid ppid pgid sid uid gid user group nice nlwp vsz rss pcpu pmem tty stat start etime time comm args; NAME=TITLE names one")
	only := p.String("pid", "p", "", "show only these processes (`LIST`)")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	list := "pid,user,time,stat,args"
	switch {
	case len(*format) > 0:
		list = strings.Join(*format, ",")
	case *full && *every || *full:
		list = "user,pid,ppid,start,tty,time,args"
	case *user:
		list = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,args"
	}
	columns, err := chooseColumns(list)
	if err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	if *only != "" {
		wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' || r == ' ' })
		all = slices.DeleteFunc(all, func(proc process) bool { return !slices.Contains(wanted, strconv.Itoa(proc.pid)) })
		if len(all) == 0 {
			p.status = 1
		}
	}
	return p.printProcesses(all, columns)
}

func chooseColumns(list string) ([]psColumn, error) {
	known := psColumns()
	alias := map[string]string{"cmd": "args", "command": "args", "ucmd": "comm", "%cpu": "pcpu", "%mem": "pmem", "euid": "uid", "euser": "user", "ni": "nice", "state": "stat", "s": "stat", "pgrp": "pgid", "sess": "sid", "tt": "tty", "stime": "start", "rssize": "rss", "vsize": "vsz", "thcount": "nlwp"}
	var columns []psColumn
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, title, titled := strings.Cut(name, "=")
		if real, ok := alias[name]; ok {
			name = real
		}
		i := slices.IndexFunc(known, func(c psColumn) bool { return c.name == name })
		if i < 0 {
			return nil, Usagef("unknown column %q", name)
		}
		c := known[i]
		if titled {
			c.title = title
		}
		columns = append(columns, c)
	}
	return columns, nil
}

func (p *Proc) printProcesses(all []process, columns []psColumn) error {
	t := &psTable{users: names(passwdFile), groups: names(groupFile)}
	t.up, _ = uptime()
	if info, err := meminfo(); err == nil {
		t.memory = info["MemTotal"]
	}
	rows := make([][]string, 0, len(all)+1)
	header, titled := make([]string, len(columns)), false
	for i, c := range columns {
		header[i] = c.title
		titled = titled || c.title != ""
	}
	if titled {
		rows = append(rows, header)
	}
	for _, proc := range all {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(proc, t)
		}
		rows = append(rows, row)
	}
	p.table(rows, func(column int) bool { return columns[column].right })
	return nil
}

// table prints rows in columns, each as wide as its widest cell; the last column is not padded.
func (p *Proc) table(rows [][]string, right func(column int) bool) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				p.Out.WriteByte(' ')
			}
			switch {
			case right(i):
				fmt.Fprintf(p.Out, "%*s", widths[i], cell)
			case i == len(row)-1:
				p.Out.WriteString(cell)
			default:
				fmt.Fprintf(p.Out, "%-*s", widths[i], cell)
			}
		}
		p.Out.WriteByte('\n')
	}
}

// parseSignal reads a signal by number or by name, with or without SIG.
func parseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if s := unix.SignalNum(name); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("unknown signal %q", text)
}

func runKill(p *Proc) error {
	args, sig := p.Args, syscall.SIGTERM
	switch {
	case len(args) == 0:
		return Usagef("missing operand")
	case args[0] == "--help":
		p.help()
		return nil
	case args[0] == "-l":
		return p.listSignals(args[1:])
	case args[0] == "-s" && len(args) > 1:
		s, err := parseSignal(args[1])
		if err != nil {
			return err
		}
		sig, args = s, args[2:]
	case args[0] == "--":
		args = args[1:]
	case strings.HasPrefix(args[0], "-"):
		s, err := parseSignal(args[0][1:])
		if err != nil {
			return err
		}
		sig, args = s, args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	for _, word := range args {
		pid, err := strconv.Atoi(word)
		if err != nil {
			p.Warnf("%q is not a process id", word)
			continue
		}
		if err := unix.Kill(pid, sig); err != nil {
			p.Warnf("%d: %w", pid, err)
		}
	}
	return nil
}

func (p *Proc) listSignals(numbers []string) error {
	for _, word := range numbers {
		if sig, err := parseSignal(word); err == nil && word[0] > '9' {
			fmt.Fprintln(p.Out, int(sig))
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return Usagef("%q is no signal", word)
		}
		if n > 128 { // the exit status of a killed process
			n -= 128
		}
		fmt.Fprintln(p.Out, strings.TrimPrefix(unix.SignalName(syscall.Signal(n)), "SIG"))
	}
	for n := syscall.Signal(1); n < 32 && len(numbers) == 0; n++ {
		fmt.Fprintf(p.Out, "%2d %s\n", int(n), strings.TrimPrefix(unix.SignalName(n), "SIG"))
	}
	return nil
}

func runPidof(p *Proc) error {
	one := p.Bool("single", "s", "print one only")
	programs, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	var pids []string
	for _, proc := range slices.Backward(all) {
		program, _, _ := strings.Cut(proc.args, " ")
		if slices.Contains(programs, proc.comm) || slices.Contains(programs, program) || slices.Contains(programs, filepath.Base(program)) {
			pids = append(pids, strconv.Itoa(proc.pid))
		}
	}
	if len(pids) == 0 {
		return exitStatus(1)
	}
	if *one {
		pids = pids[:1]
	}
	fmt.Fprintln(p.Out, strings.Join(pids, " "))
	return nil
}

func runPgrep(p *Proc) error { return p.selectProcesses(func(int) error { return nil }) }

// runPkill sends a signal to the processes that pgrep would list.
func runPkill(p *Proc) error {
	sig, err := p.signalFlag()
	if err != nil {
		return err
	}
	p.quiet = true
	return p.selectProcesses(func(pid int) error { return unix.Kill(pid, sig) })
}

// runKillall sends a signal to the processes of a program.
func runKillall(p *Proc) error {
	sig, err := p.signalFlag()
	if err != nil {
		return err
	}
	quiet := p.Bool("quiet", "q", "do not complain about names that no process has")
	names, err := p.Parse(1, -1)
	if err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	for _, name := range names {
		found := false
		for _, proc := range all {
			if proc.comm != name || proc.pid == os.Getpid() {
				continue
			}
			found = true
			if err := unix.Kill(proc.pid, sig); err != nil {
				p.Warnf("%d: %w", proc.pid, err)
			}
		}
		if !found && *quiet {
			p.status = 1
		} else if !found {
			p.Warnf("%s: no process", name)
		}
	}
	return nil
}

// signalFlag takes a first word that names a signal, as in "-9" and "-s HUP". Without one it is SIGTERM.
func (p *Proc) signalFlag() (syscall.Signal, error) {
	if len(p.Args) > 1 && p.Args[0] == "-s" {
		sig, err := parseSignal(p.Args[1])
		p.Args = p.Args[2:]
		return sig, err
	}
	if len(p.Args) > 0 && len(p.Args[0]) > 1 && p.Args[0][0] == '-' {
		if sig, err := parseSignal(p.Args[0][1:]); err == nil {
			p.Args = p.Args[1:]
			return sig, nil
		}
	}
	return syscall.SIGTERM, nil
}

// selectProcesses prints the processes that match, and does something with each.
func (p *Proc) selectProcesses(do func(pid int) error) error {
	full := p.Bool("full", "f", "match whole command lines")
	exact := p.Bool("exact", "x", "match the whole name")
	long := p.Bool("list-name", "l", "print names too")
	operands, err := p.Parse(1, 1)
	if err != nil {
		return err
	}
	pattern := operands[0]
	if *exact {
		pattern = "^(" + pattern + ")$"
	}
	re, err := compilePattern(pattern, true, false)
	if err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	p.status = 1
	for _, proc := range all {
		text := proc.comm
		if *full {
			text = proc.args
		}
		if proc.pid == os.Getpid() || !re.MatchString(text) {
			continue
		}
		p.status = 0
		if err := do(proc.pid); err != nil {
			p.Warnf("%d: %w", proc.pid, err)
		}
		if p.quiet {
			continue
		}
		if *long {
			fmt.Fprintf(p.Out, "%d %s\n", proc.pid, text)
		} else {
			fmt.Fprintln(p.Out, proc.pid)
		}
	}
	return nil
}

func runPstree(p *Proc) error {
	withPID := p.Bool("show-pids", "p", "show process ids")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	children, known := map[int][]process{}, map[int]bool{}
	for _, proc := range all {
		known[proc.pid] = true
		children[proc.ppid] = append(children[proc.ppid], proc)
	}
	var show func(proc process, prefix, branch string)
	show = func(proc process, prefix, branch string) {
		label := proc.comm
		if *withPID {
			label = fmt.Sprintf("%s(%d)", proc.comm, proc.pid)
		}
		fmt.Fprintf(p.Out, "%s%s%s\n", prefix, branch, label)
		switch branch {
		case "├── ":
			prefix += "│   "
		case "└── ":
			prefix += "    "
		}
		for i, child := range children[proc.pid] {
			if i < len(children[proc.pid])-1 {
				show(child, prefix, "├── ")
			} else {
				show(child, prefix, "└── ")
			}
		}
	}
	for _, proc := range all {
		if !known[proc.ppid] { // its parent is outside this pid namespace
			show(proc, "", "")
		}
	}
	return nil
}
