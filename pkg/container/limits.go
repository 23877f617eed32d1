package container

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/spelling"
	"github.com/docker/go-units"
)

// ParseSize reads a size in bytes as docker does: a number, which may have a
// fraction, and a unit b, k, m, g, t or p of powers of 1024, also written kb or
// kib, in any case.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return 0, fmt.Errorf("size %q: not a number with a unit b, k, m or g", s)
	}
	if n < 0 || n == math.MaxInt64 { // go-units lets a float overflow
		return 0, fmt.Errorf("size %q: out of range", s)
	}
	return n, nil
}

// Lifted stands for no limit, where there may have been one.
const Lifted = -1

// ParseLimit reads what parse does, and -1 as Lifted.
func ParseLimit(parse func(string) (int64, error)) func(string) (int64, error) {
	return func(s string) (int64, error) {
		if s == "-1" {
			return Lifted, nil
		}
		return parse(s)
	}
}

// ParseMemorySwap is ParseSize, and -1 for no limit.
func ParseMemorySwap(s string) (int64, error) { return ParseLimit(ParseSize)(s) }

// ParseCPUs reads a number of CPUs such as 1.5 and returns billionths. More than
// nine digits after the point are an error, as in docker: the fraction is exact.
func ParseCPUs(s string) (nano int64, err error) {
	if strings.ContainsAny(s, "eEpPxX/_") { // big.Rat would read 1e3, 0x1p2, 1/2 and 1_0
		return 0, fmt.Errorf("cpus %q: not a number such as 1.5", s)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, fmt.Errorf("cpus %q: not a number such as 1.5", s)
	}
	r.Mul(r, big.NewRat(1e9, 1))
	if !r.IsInt() {
		return 0, fmt.Errorf("cpus %q: more than nine digits after the point", s)
	}
	if r.Sign() < 0 || !r.Num().IsInt64() {
		return 0, fmt.Errorf("cpus %q: out of range", s)
	}
	return r.Num().Int64(), nil
}

// Ulimit is a resource limit as --ulimit gives it. -1 is no limit.
type Ulimit struct {
	// Name is the setrlimit(2) name in small letters without RLIMIT_.
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// ulimitNames are the limits of setrlimit(2).
var ulimitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
	"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// ParseUlimit reads name=soft[:hard]. Without a hard limit the soft one is both;
// -1 or unlimited is none; a soft limit above the hard one is an error.
//
// Departure: docker does not take as (address space); nothing speaks against it.
func ParseUlimit(s string) (Ulimit, error) {
	name, values, ok := strings.Cut(s, "=")
	if !ok {
		return Ulimit{}, fmt.Errorf("ulimit %q: not name=soft[:hard]", s)
	}
	if !slices.Contains(ulimitNames, name) {
		if near := spelling.Nearest(name, ulimitNames); near != "" {
			return Ulimit{}, fmt.Errorf("unknown ulimit %q: did you mean %s?", name, near)
		}
		return Ulimit{}, fmt.Errorf("unknown ulimit %q: use one of %s", name, strings.Join(ulimitNames, " "))
	}
	softText, hardText, both := strings.Cut(values, ":")
	if !both {
		hardText = softText
	}
	soft, errSoft := parseLimit(softText)
	hard, errHard := parseLimit(hardText)
	if errSoft != nil || errHard != nil {
		return Ulimit{}, fmt.Errorf("ulimit %q: a limit is a number, -1 or unlimited", s)
	}
	if hard != -1 && (soft == -1 || soft > hard) {
		return Ulimit{}, fmt.Errorf("ulimit %q: the soft limit is above the hard one", s)
	}
	return Ulimit{Name: name, Soft: soft, Hard: hard}, nil
}

func parseLimit(s string) (int64, error) {
	if s == "unlimited" || s == "-1" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// ParseUmask reads an octal number from 0 to 0777.
func ParseUmask(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("umask %q: not an octal number from 0 to 0777", s)
	}
	return uint32(n), nil
}

// maxCPUNumber bounds the lists of ParseCPUList: Linux has at most 8192 CPUs and
// 1024 memory nodes.
const maxCPUNumber = 8191

// ParseCPUList reads a list as in cpuset(7): numbers and ranges with commas
// between them, 0-3,6. It returns the numbers, sorted, each once.
func ParseCPUList(s string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.ParseUint(first, 10, 32)
		to, errTo := strconv.ParseUint(last, 10, 32)
		if errFrom != nil || errTo != nil || from > to || to > maxCPUNumber {
			return nil, fmt.Errorf("list %q: not numbers and ranges such as 0-3,6", s)
		}
		for n := from; n <= to; n++ {
			out = append(out, int(n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// MinStorageSize is the least size of a container's own layer, in bytes: a file system of less has no room for its journal.
const MinStorageSize = 8 << 20

// ParseStorageOption reads KEY=VALUE of --storage-opt, where size is the one key: how much the container's own layer may take.
func ParseStorageOption(s string) (int64, error) {
	key, value, _ := strings.Cut(s, "=")
	if key != "size" {
		return 0, fmt.Errorf("storage option %q: use size=BYTES, such as size=1g", s)
	}
	n, err := ParseSize(value)
	if err == nil && n < MinStorageSize {
		err = fmt.Errorf("size %q: at least %dm", value, MinStorageSize>>20)
	}
	return n, err
}

// StorageOptions are those of ParseStorageOption, nil if there are none.
func (c Config) StorageOptions() map[string]string {
	if c.StorageSize == 0 {
		return nil
	}
	return map[string]string{"size": strconv.FormatInt(c.StorageSize, 10)}
}
