package sys

import (
	"bytes"
	"fmt"
	"strconv"
)

// StartTime is when a process was started, in clock ticks since boot: field 22 of
// /proc/PID/stat. With its number it tells a process from every other one.
func StartTime(pid int) (uint64, error) {
	const most = 4096
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	text, err := ReadFile(path, most)
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const place = 22 - 3
	if len(fields) <= place {
		return 0, fmt.Errorf("%s: %d fields after the name", path, len(fields))
	}
	return strconv.ParseUint(string(fields[place]), 10, 64)
}
