package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// carried is an ordinary user's container, whose packets a program carries.
type carried struct {
	network string
	// program is the beginning of the name of the program's file.
	program string
	// out is the way from the container to the host's neighbour, in that from the host to a published port.
	out, in *path
	// through and requests of these are by both; downloads are what comes from the neighbour, in Gbit/s, and calls how long a
	// connection to the published port takes that carries a byte there and back, in microseconds.
	downloads, calls []float64
	// idle and busy are what the program has in memory for itself before and after all of this, in kB.
	idle, busy float64
}

// traffic measures what goes through the networks of an ordinary user's containers. All take turns in every round.
func (o *ordinary) traffic() (tables []table, err error) {
	bare := &path{name: "the host itself", to: o.neighbour, listen: ":5201", address: otherAddress + ":5201"}
	var list []*carried
	for i, name := range o.carriers() {
		var c *carried
		var startErr error
		defer func() { // also of one that was made and cannot be used
			if _, failed := o.command("rm", "-f", name).measure(); startErr == nil {
				err = errors.Join(err, failed)
			}
		}()
		c, startErr = o.start(name, 6301+i)
		if startErr != nil {
			return nil, startErr
		}
		list = append(list, c)
	}
	for round := range o.rounds(12) {
		if err := bare.measure(); err != nil {
			return nil, err
		}
		for _, i := range order(len(list), round) {
			if err := errors.Join(o.ctx.Err(), list[i].measure()); err != nil {
				return nil, fmt.Errorf("%s: %w", list[i].network, err)
			}
		}
	}
	for _, c := range list {
		if c.busy, err = privateOf(c.program, ordinaryID); err != nil {
			return nil, err
		}
	}
	return userTables(list, bare), nil
}

func (o *ordinary) start(network string, port int) (*carried, error) {
	c := &carried{network: network}
	for _, n := range userNetworks {
		if n.name == network {
			c.program = n.program
		}
	}
	run := o.command("run", "-d", "--name", network, "--network", network, "-p", strconv.Itoa(port)+":5201", "base", "sleep", "1000")
	if _, err := run.measure(); err != nil {
		return nil, err
	}
	pid, err := o.command("inspect", "-f", "{{.State.Pid}}", network).output()
	if err != nil {
		return nil, err
	}
	inside, err := strconv.Atoi(pid)
	if err != nil {
		return nil, err
	}
	c.out = &path{from: inside, to: o.neighbour, listen: ":5201", address: otherAddress + ":5201"}
	c.in = &path{to: inside, listen: ":5201", address: "127.0.0.1:" + strconv.Itoa(port)}
	if _, err := c.call(1); err != nil { // all is there
		return nil, err
	}
	c.idle, err = privateOf(c.program, ordinaryID)
	return c, err
}

// measure takes one figure of each kind.
func (c *carried) measure() error {
	errOut := c.out.measure()
	down, errDown := c.out.flow(func(near, far net.Conn) (float64, error) { return flood(far, near) })
	errIn := c.in.measure()
	took, errCall := c.call(callsAtOnce)
	c.downloads, c.calls = append(c.downloads, down*8/1e9), append(c.calls, took)
	return errors.Join(errOut, errDown, errIn, errCall)
}

// callsAtOnce is how many connections are made, one after another, for one figure.
const callsAtOnce = 200

// call makes connections to the published port, and returns the median of what they took in microseconds.
func (c *carried) call(n int) (float64, error) {
	l, err := c.in.accept()
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() {
		for {
			far, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			_, _ = io.CopyN(far, far, 1) // if it fails, the other end sees that
			far.Close()
		}
	}()
	var took []float64
	for range n {
		begin := time.Now()
		near, err := c.in.dial()
		if err != nil {
			return 0, err
		}
		_, err = near.Write([]byte{1})
		if err == nil {
			_, err = io.ReadFull(near, make([]byte, 1))
		}
		if err := errors.Join(err, near.Close()); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(begin))/float64(time.Microsecond))
	}
	return summarize(took).median, nil
}

// userTables shows the figures, and what of each other way's ours is: more is better for bytes and requests, less for calls.
func userTables(list []*carried, bare *path) []table {
	type column struct {
		name   string
		values func(*carried) []float64
	}
	show := func(t table, columns []column) table {
		t.rule, t.head = numbers, []string{"", "n"}
		for _, col := range columns {
			t.head = append(t.head, col.name, "builtin / this")
		}
		for i, c := range list {
			row := []string{"`--network " + c.network + "`", fmt.Sprint(len(c.calls))}
			for _, col := range columns {
				row = append(row, number(summarize(col.values(c)).median), "")
				if i > 0 {
					row[len(row)-1] = fmt.Sprintf("%.2f", summarize(quotients(col.values(list[0]), col.values(c))).median)
				}
			}
			t.rows = append(t.rows, row)
		}
		return t
	}
	out := show(table{title: "Rootless: TCP to another machine", text: fmt.Sprintf("One connection from a container: for a second as much as goes there, for a second as much as comes back, and for a second a byte "+
		"there and back. All took turns. Without a container the host itself sends %s Gbit/s and has %s requests answered in a second; ours is %.2f and %.2f of that.",
		number(summarize(bare.through).median), number(summarize(bare.requests).median),
		summarize(quotients(list[0].out.through, bare.through)).median, summarize(quotients(list[0].out.requests, bare.requests)).median)},
		[]column{{"Gbit/s there", func(c *carried) []float64 { return c.out.through }}, {"Gbit/s back", func(c *carried) []float64 { return c.downloads }},
			{"requests/s", func(c *carried) []float64 { return c.out.requests }}})
	in := show(table{title: "Rootless: TCP to a published port", text: "From the host's 127.0.0.1, in the same rounds. A call is a connection that is made, carries a byte there and back, and is closed; one after another."},
		[]column{{"Gbit/s", func(c *carried) []float64 { return c.in.through }}, {"requests/s", func(c *carried) []float64 { return c.in.requests }},
			{"a call, µs", func(c *carried) []float64 { return c.calls }}})
	memory := table{title: "Rootless: memory of the network's process", rule: numbers, head: []string{"", "at first, kB", "after all of this, kB"},
		text: "Private pages of the process that carries one container's packets."}
	for _, c := range list {
		memory.rows = append(memory.rows, []string{"`--network " + c.network + "`", fmt.Sprintf("%.0f", c.idle), fmt.Sprintf("%.0f", c.busy)})
	}
	return []table{out, in, memory}
}

// quotients are those of two series, round by round.
func quotients(a, b []float64) (list []float64) {
	for i := range a {
		list = append(list, a[i]/b[i])
	}
	return list
}

// privateOf is the private memory in kB of the processes of a user whose program's name begins like that.
func privateOf(program string, uid uint32) (sum float64, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	found := false
	for _, dir := range dirs {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || !strings.HasPrefix(filepath.Base(exe), program) {
			continue // it has ended, or is none
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil || !slices.Contains(strings.Split(string(status), "\n"), fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d", uid)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		kB, err := privatePages(pid)
		if err != nil {
			return 0, err
		}
		sum, found = sum+kB, true
	}
	if !found {
		return 0, fmt.Errorf("no process of user %d is %s", uid, program)
	}
	return sum, nil
}
