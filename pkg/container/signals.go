package container

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/spelling"
)

// signalNames are the signals of signal(7) by number, as x86, arm and the other
// common architectures count them.
var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS",
	8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE",
	14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP",
	20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ",
	26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

// signalAliases are second names.
var signalAliases = map[string]int{"IOT": 6, "CLD": 17, "POLL": 29}

// The real-time signals that programs may use: the C library keeps 32 and 33.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// ParseSignal reads a signal: a number from 1 to 64, or a name with or without
// SIG in front, in any case, RTMIN+n and RTMAX-n included.
func ParseSignal(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("signal %q: number out of range 1..%d", s, sigRTMax)
		}
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for n, known := range signalNames {
		if known != "" && known == name {
			return n, nil
		}
	}
	if n, ok := signalAliases[name]; ok {
		return n, nil
	}
	if n, ok := realTimeSignal(name); ok {
		return n, nil
	}
	if near := spelling.Nearest(name, signalNames[1:]); near != "" {
		return 0, fmt.Errorf("unknown signal %q: did you mean SIG%s?", s, near)
	}
	return 0, fmt.Errorf("unknown signal %q: see signal(7)", s)
}

func realTimeSignal(name string) (int, bool) {
	base := sigRTMin
	rest, ok := strings.CutPrefix(name, "RTMIN")
	if !ok {
		base = sigRTMax
		rest, ok = strings.CutPrefix(name, "RTMAX")
	}
	if !ok {
		return 0, false
	}
	if rest == "" {
		return base, true
	}
	n, err := strconv.Atoi(rest) // Atoi takes the sign
	n += base
	return n, err == nil && strings.ContainsAny(rest[:1], "+-") && n >= sigRTMin && n <= sigRTMax
}
