package userland

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func runUname(p *Proc) error {
	all := p.Bool("all", "a", "everything")
	system := p.Bool("kernel-name", "s", "the kernel's name (the default)")
	node := p.Bool("nodename", "n", "the host name")
	release := p.Bool("kernel-release", "r", "the kernel's release")
	version := p.Bool("kernel-version", "v", "the kernel's version")
	machine := p.Bool("machine", "m", "the architecture")
	processor := p.Bool("processor", "p", "the architecture")
	os := p.Bool("operating-system", "o", "the operating system")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	if !(*all || *system || *node || *release || *version || *machine || *processor || *os) {
		*system = true
	}
	var words []string
	for _, part := range []struct {
		wanted bool
		text   string
	}{
		{*all || *system, unix.ByteSliceToString(u.Sysname[:])},
		{*all || *node, unix.ByteSliceToString(u.Nodename[:])},
		{*all || *release, unix.ByteSliceToString(u.Release[:])},
		{*all || *version, unix.ByteSliceToString(u.Version[:])},
		{*all || *machine, unix.ByteSliceToString(u.Machine[:])},
		{*processor, unix.ByteSliceToString(u.Machine[:])},
		{*all || *os, "Linux"},
	} {
		if part.wanted {
			words = append(words, part.text)
		}
	}
	fmt.Fprintln(p.Out, strings.Join(words, " "))
	return nil
}

func runArch(p *Proc) error {
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	var u unix.Utsname
	err := unix.Uname(&u)
	fmt.Fprintln(p.Out, unix.ByteSliceToString(u.Machine[:]))
	return err
}

func runHostname(p *Proc) error {
	short := p.Bool("short", "s", "up to the first dot")
	address := p.Bool("ip-address", "i", "print its addresses")
	p.Bool("fqdn", "f", "accepted; the name is printed as it is")
	names, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	if len(names) == 1 {
		return pathError("sethostname", names[0], unix.Sethostname([]byte(names[0])))
	}
	name, err := os.Hostname()
	if *short {
		name, _, _ = strings.Cut(name, ".")
	}
	if *address {
		addresses, err := net.LookupHost(name)
		fmt.Fprintln(p.Out, strings.Join(addresses, " "))
		return err
	}
	fmt.Fprintln(p.Out, name)
	return err
}

func runUptime(p *Proc) error {
	pretty := p.Bool("pretty", "p", "only how long, in words")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	up, err := uptime()
	if err != nil {
		return err
	}
	days, hours, minutes := int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60
	if *pretty {
		fmt.Fprintf(p.Out, "up %d days, %d hours, %d minutes\n", days, hours, minutes)
		return nil
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	averages := strings.Fields(string(load))
	since := fmt.Sprintf("%d:%02d", hours, minutes)
	if days > 0 {
		since = fmt.Sprintf("%d days, %s", days, since)
	}
	fmt.Fprintf(p.Out, " %s up %s, load average: %s\n", time.Now().Format("15:04:05"), since, strings.Join(averages[:3], ", "))
	return nil
}

// meminfo is /proc/meminfo in KiB.
func meminfo() (map[string]uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	info := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) > 0 {
			info[name], _ = strconv.ParseUint(fields[0], 10, 64)
		}
	}
	return info, nil
}

func runFree(p *Proc) error {
	mega := p.Bool("mebi", "m", "in MiB")
	giga := p.Bool("gibi", "g", "in GiB")
	bytes := p.Bool("bytes", "b", "in bytes")
	p.Bool("kibi", "k", "in KiB (the default)")
	human := p.Bool("human", "h", "with units")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	m, err := meminfo()
	if err != nil {
		return err
	}
	show := func(kib uint64) string {
		switch {
		case *human:
			return humanSize(int64(kib) << 10)
		case *mega:
			kib >>= 10
		case *giga:
			kib >>= 20
		case *bytes:
			kib <<= 10
		}
		return strconv.FormatUint(kib, 10)
	}
	cache := m["Buffers"] + m["Cached"] + m["SReclaimable"]
	used := m["MemTotal"] - m["MemAvailable"]
	row := func(name string, values ...uint64) []string {
		cells := []string{name}
		for _, v := range values {
			cells = append(cells, fmt.Sprintf("%11s", show(v)))
		}
		return cells
	}
	p.table([][]string{
		{"", "total", "used", "free", "shared", "buff/cache", "available"},
		row("Mem:", m["MemTotal"], used, m["MemFree"], m["Shmem"], cache, m["MemAvailable"]),
		row("Swap:", m["SwapTotal"], m["SwapTotal"]-m["SwapFree"], m["SwapFree"]),
	}, func(column int) bool { return column > 0 })
	return nil
}

func runNproc(p *Proc) error {
	all := p.Bool("all", "", "count the processors of the machine, not those that this process may use")
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	if *all {
		online, err := os.ReadFile("/sys/devices/system/cpu/present")
		if err != nil {
			return err
		}
		list, err := spans(strings.TrimSpace(strings.ReplaceAll(string(online), "0-", "1-")))
		if err == nil {
			fmt.Fprintln(p.Out, max(1, list[len(list)-1].last+1))
		}
		return err
	}
	var set unix.CPUSet
	err := unix.SchedGetaffinity(0, &set)
	fmt.Fprintln(p.Out, set.Count())
	return err
}

func runDate(p *Proc) error {
	utc := p.Bool("utc", "u", "in UTC")
	date := p.String("date", "d", "", "print this `TIME`, not now")
	for i, a := range p.Args { // the flag library wants -I=FORM
		if form, ok := strings.CutPrefix(a, "-I"); ok && form != "" && form[0] != '=' {
			p.Args = slices.Clone(p.Args)
			p.Args[i] = "-I=" + form
		}
	}
	iso := p.String("iso-8601", "I", "", "print as in 2006-01-02; with `FORM` hours, minutes, seconds or ns the time too")
	p.Flags.Lookup("iso-8601").NoOptDefVal = "date"
	rfc := p.Bool("rfc-email", "R", "print as in mail headers")
	reference := p.String("reference", "r", "", "print the modification time of this `FILE`")
	operands, err := p.Parse(0, 1)
	if err != nil {
		return err
	}
	t := time.Now()
	switch {
	case *date != "":
		if t, err = parseTime(*date); err != nil {
			return err
		}
	case *reference != "":
		info, err := os.Stat(*reference)
		if err != nil {
			return err
		}
		t = info.ModTime()
	}
	if *utc {
		t = t.UTC()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	switch {
	case len(operands) == 1 && !strings.HasPrefix(operands[0], "+"):
		return Usagef("the format must begin with +; setting the clock is not for containers")
	case len(operands) == 1:
		format = operands[0][1:]
	case *iso != "":
		forms := map[string]string{"date": "%F", "hours": "%FT%H%:z", "minutes": "%FT%H:%M%:z", "seconds": "%FT%T%:z", "ns": "%FT%T,%N%:z"}
		if format = forms[*iso]; format == "" {
			return Usagef("unknown form %q: it is one of date, hours, minutes, seconds, ns", *iso)
		}
	case *rfc:
		format = "%a, %d %b %Y %H:%M:%S %z"
	}
	fmt.Fprintln(p.Out, strftime(t, format))
	return nil
}

// strftime formats a time by the sequences of date(1).
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'l': "_3", 'm': "01", 'M': "04",
		'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06",
		'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'h': "Jan", 'N': "000000000", 'x': "01/02/06", 'X': "15:04:05", 'j': "002",
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; {
		case c == ':' && strings.HasPrefix(format[i:], ":z"):
			i++
			out.WriteString(t.Format("-07:00"))
		case c == 's':
			fmt.Fprintf(&out, "%d", t.Unix())
		case c == 'N':
			fmt.Fprintf(&out, "%09d", t.Nanosecond())
		case c == 'u':
			fmt.Fprintf(&out, "%d", (int(t.Weekday())+6)%7+1)
		case c == 'w':
			fmt.Fprintf(&out, "%d", t.Weekday())
		case c == 'n':
			out.WriteByte('\n')
		case c == 't':
			out.WriteByte('\t')
		case c == '%':
			out.WriteByte('%')
		case layouts[c] != "":
			out.WriteString(t.Format(layouts[c]))
		default:
			out.WriteByte('%')
			out.WriteByte(c)
		}
	}
	return out.String()
}

func runDmesg(p *Proc) error {
	if _, err := p.Parse(0, 0); err != nil {
		return err
	}
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return fmt.Errorf("read kernel log: %w", err)
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return fmt.Errorf("read kernel log: %w", err)
	}
	for line := range strings.Lines(string(buf[:n])) {
		if level, rest, ok := strings.Cut(line, ">"); ok && strings.HasPrefix(level, "<") {
			line = rest
		}
		p.Out.WriteString(line)
	}
	return nil
}
