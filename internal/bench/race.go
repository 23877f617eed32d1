package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one measurement.
type sample struct {
	wall time.Duration
	// cpu is user and system time of the process and of the children that it
	// waited for. What a daemon does for it does not count.
	cpu time.Duration
	// faults counts page faults that needed no disk.
	faults int64
	// written is how many bytes it gave to write(2) and its like, to files, pipes and sockets.
	written int64
}

// count takes over what the kernel has counted.
func (s *sample) count(usage *unix.Rusage) {
	s.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	s.faults = int64(usage.Minflt)
}

// contestant is one program in a race.
type contestant struct {
	name string
	// turn does the work once and returns what was measured of it.
	turn func(round int) (sample, error)
	// mend, if set, clears away what a turn that failed has left.
	mend func() error
	// peak, if set, returns the most that it has in memory, in kB.
	peak    func() (float64, error)
	samples []sample
	// failed counts the turns that failed, and failure is the first one's error.
	failed  int
	failure error
}

// options say how a race is run.
type options struct {
	rounds int
	// warmUp is how many rounds come before those that count.
	warmUp int
	// before, if set, is called before every turn.
	before func() error
}

// race lets the contestants take turns, see order.
//
// A peer may fail now and then: such a round is left out for all, so that ratios stay
// those of pairs, and counted, so that the table can tell of it. Our own failure ends
// the race, and so do failures of a peer in a tenth of the rounds.
func race(ctx context.Context, o options, contestants []*contestant) error {
	for round := -o.warmUp; round < o.rounds; round++ {
		samples := make([]sample, len(contestants))
		complete := true
		for _, turn := range order(len(contestants), round+o.warmUp) {
			c := contestants[turn]
			if err := errors.Join(ctx.Err(), o.prepare()); err != nil {
				return err
			}
			s, err := c.turn(round + o.warmUp)
			if err == nil {
				samples[turn] = s
				continue
			}
			complete = false
			if err := c.fails(err, turn > 0 && c.failed < o.rounds/10); err != nil {
				return err
			}
		}
		for i, c := range contestants {
			if round >= 0 && complete {
				c.samples = append(c.samples, samples[i])
			}
		}
	}
	return nil
}

// order says who of n takes turns in a round, one after another. It is another one in every
// round, so that everybody comes just after everybody else equally often: a program that
// comes after a large one finds the caches emptied, and the kernel still at work on what
// that one has left. (Latin squares of E. J. Williams, Aust. J. Sci. Res. A 2, 1949.)
func order(n, round int) []int {
	list := make([]int, n)
	for i := range list {
		at := (i + 1) / 2 // 0, 1, n-1, 2, n-2, ...
		if i%2 == 0 {
			at = n - at
		}
		list[i] = (at + round) % n
	}
	if n%2 == 1 && round/n%2 == 1 { // an odd number needs the mirrored square as well
		slices.Reverse(list)
	}
	return list
}

func (o *options) prepare() error {
	if o.before == nil {
		return nil
	}
	return o.before()
}

// fails notes that a turn failed. It returns the error if that is not to be tolerated.
func (c *contestant) fails(err error, tolerated bool) error {
	if !tolerated {
		return fmt.Errorf("%s, which has failed %d times before: %w", c.name, c.failed, err)
	}
	if c.failed++; c.failed == 1 {
		c.failure = err
	}
	if c.mend == nil {
		return nil
	}
	return c.mend()
}

// command is a program with its arguments, to be run many times.
type command struct {
	argv []string
	env  []string
	// status is the exit status that it must have.
	status int
	// user is whose process it is, in the directory dir; nil for ours, in ours.
	user *syscall.Credential
	dir  string
}

// cmd makes a command with our own environment.
func cmd(argv ...string) command { return command{argv: argv, env: os.Environ()} }

// measure runs the command, with nothing on its standard input and output, and times
// it from before the fork until it has been waited for. Standard error goes to a file,
// which is part of the error if the command fails.
func (c command) measure() (sample, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return sample{}, err
	}
	defer null.Close()
	log, err := os.CreateTemp("", "containr-bench-log-")
	if err != nil {
		return sample{}, err
	}
	defer log.Close()
	defer os.Remove(log.Name())
	attr := &syscall.ProcAttr{Env: c.env, Files: []uintptr{null.Fd(), null.Fd(), log.Fd()}, Dir: c.dir, Sys: &syscall.SysProcAttr{Credential: c.user}}

	begin := time.Now()
	pid, err := syscall.ForkExec(c.argv[0], c.argv, attr)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.argv[0], err)
	}
	err = ended(pid)
	s := sample{wall: time.Since(begin)}
	if err != nil {
		return s, err
	}
	s.written = writtenBy(pid)
	status, usage, err := wait(pid)
	if err != nil {
		return s, err
	}
	s.count(&usage)
	if status != c.status {
		said, _ := os.ReadFile(log.Name()) // only for the message
		return s, fmt.Errorf("%s: exit status %d, want %d: %s", strings.Join(c.argv, " "), status, c.status, said)
	}
	return s, nil
}

// output runs the command and returns what it prints, without the end of the line.
func (c command) output() (string, error) {
	run := exec.Command(c.argv[0], c.argv[1:]...)
	run.Env, run.Dir, run.SysProcAttr = c.env, c.dir, &syscall.SysProcAttr{Credential: c.user}
	out, err := run.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(c.argv, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// all runs commands one after another and adds up what they took.
func all(commands ...command) (sum sample, err error) {
	for _, c := range commands {
		s, err := c.measure()
		if err != nil {
			return sum, err
		}
		sum.wall, sum.cpu, sum.written = sum.wall+s.wall, sum.cpu+s.cpu, sum.written+s.written
	}
	return sum, nil
}

// atOnce runs commands at the same time, until the last has ended, and adds up their
// CPU time.
func atOnce(commands []command) (sum sample, err error) {
	samples, errs := make([]sample, len(commands)), make([]error, len(commands))
	var running sync.WaitGroup
	begin := time.Now()
	for i, c := range commands {
		running.Go(func() { samples[i], errs[i] = c.measure() })
	}
	running.Wait()
	sum.wall = time.Since(begin)
	for _, s := range samples {
		sum.cpu += s.cpu
	}
	return sum, errors.Join(errs...)
}

// ended waits until a child has ended, and leaves its process there to be asked.
func ended(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// wait waits for a child and returns its exit status, 128 and the signal if one ended it.
func wait(pid int) (status int, usage unix.Rusage, err error) {
	var ws unix.WaitStatus
	for {
		_, err = unix.Wait4(pid, &ws, 0, &usage)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, usage, fmt.Errorf("wait for process %d: %w", pid, err)
	}
	return exitStatus(ws), usage, nil
}

// exitStatus is the status of a process that has ended, as a shell tells it.
func exitStatus(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
