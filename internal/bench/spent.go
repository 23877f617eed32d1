package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// writtenBy is how many bytes a process, and those children that it has waited for, gave to write(2) and its like: 0 if the
// kernel does not count them.
func writtenBy(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}

// clockTick is the unit of times in /proc/PID/stat, in every kernel that people run.
const clockTick = 10 * time.Millisecond

// spent is what a daemon, its children and those that have ended have used up so far.
func (d *daemon) spent() (sum sample, err error) {
	for _, pid := range family(d.process.Process.Pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return sum, err
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime: proc_pid_stat(5)
			ticks, err := strconv.Atoi(f)
			if err != nil {
				return sum, err
			}
			sum.cpu += time.Duration(ticks) * clockTick
		}
		sum.written += writtenBy(pid)
	}
	return sum, nil
}

// peak is the most that a daemon and its children have had in memory, each at its own time, in kB.
func (d *daemon) peak() (kB float64, err error) {
	for _, pid := range family(d.process.Process.Pid) {
		most, err := sizes(pid, "status", func(name string) bool { return name == "VmHWM:" })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		kB += most
	}
	return kB, nil
}

// family is a process with its children and theirs.
func family(pid int) []int {
	all := []int{pid}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)) // gone, then it has none
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, family(child)...)
			}
		}
	}
	return all
}
