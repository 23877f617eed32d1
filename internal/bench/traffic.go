package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/internal/sys"
)

// trafficTime is how long traffic flows for one figure.
const trafficTime = time.Second

// path is a way from one network namespace to another: processes that are in them, and where the first finds the second.
type path struct {
	name     string
	from, to int
	// listen is where the program at the far end listens, address where it is found.
	listen, address string

	through, requests []float64 // Gbit/s, and requests per second
}

// traffic measures what goes from one container to another, beside a bare cable. All paths take their turns in every round.
func (n *networked) traffic() (t table, err error) {
	const port = ":5201"
	var clean [][]string
	defer func() { err = errors.Join(err, sayAll(clean)) }()
	bare, end, err := bareCable()
	if err != nil {
		return t, err
	}
	defer end()
	paths := []*path{{name: "a bare veth pair", from: bare[0], to: bare[1], listen: port, address: "10.99.0.2" + port}}
	engines := []struct {
		name string
		argv func(...string) []string
		pid  string
	}{{"containr", n.ours, "{{.State.Pid}}"}}
	if n.docker != nil {
		engines = append(engines, struct {
			name string
			argv func(...string) []string
			pid  string
		}{"docker", n.theirs, "{{.State.Pid}}"})
	}
	for i, e := range engines {
		clean = append(clean, e.argv("rm", "-f", "near", "far"))
		host := ":" + strconv.Itoa(6201+i)
		if err := sayAll([][]string{e.argv("run", "-d", "--name", "near", "base", "sleep", "1000"), e.argv("run", "-d", "--name", "far", "-p", host[1:]+":5201", "base", "sleep", "1000")}); err != nil {
			return t, err
		}
		near, err := ask(e.argv("inspect", "-f", e.pid, "near"))
		if err != nil {
			return t, err
		}
		far, err := ask(e.argv("inspect", "-f", e.pid+" {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "far"))
		if err != nil {
			return t, err
		}
		pids, address, _ := strings.Cut(far, " ")
		from, errFrom := strconv.Atoi(near)
		to, errTo := strconv.Atoi(pids)
		if err := errors.Join(errFrom, errTo); err != nil {
			return t, err
		}
		paths = append(paths, &path{name: e.name + ", container to container", from: from, to: to, listen: port, address: address + port},
			&path{name: e.name + ", the host's 127.0.0.1 to a published port", to: to, listen: port, address: "127.0.0.1" + host})
	}
	for range n.rounds(7) {
		for _, p := range paths {
			if err := errors.Join(n.ctx.Err(), p.measure()); err != nil {
				return t, fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return trafficTable(paths), nil
}

func trafficTable(paths []*path) table {
	t := table{title: "Network: TCP", rule: numbers, head: []string{"", "n", "Gbit/s", "of the bare pair", "requests/s", "of the bare pair"},
		text: "One connection: for a second as much as goes, and for a second a byte there and back. Medians of rounds in which all paths took their turns, and of the ratios in these."}
	for _, p := range paths {
		row := []string{p.name, fmt.Sprint(len(p.through))}
		for _, values := range [][2][]float64{{p.through, paths[0].through}, {p.requests, paths[0].requests}} {
			var ratio []float64
			for i, v := range values[0] {
				ratio = append(ratio, v/values[1][i])
			}
			row = append(row, number(summarize(values[0]).median), fmt.Sprintf("%.2f", summarize(ratio).median))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// ask runs a command and returns what it prints.
func ask(argv []string) (string, error) {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// bareCable makes two network namespaces with nothing but a cable between them. end ends the processes that hold them.
func bareCable() (pids [2]int, end func(), err error) {
	var holders []*exec.Cmd
	end = func() {
		for _, h := range holders {
			_ = h.Process.Kill() // it has no other end
			_ = h.Wait()
		}
	}
	for i := range pids {
		h, err := holdNetwork()
		if err != nil {
			end()
			return pids, nil, err
		}
		holders = append(holders, h)
		pids[i] = h.Process.Pid
	}
	near, far := strconv.Itoa(pids[0]), strconv.Itoa(pids[1])
	list := [][]string{{"ip", "link", "add", "cable0", "netns", near, "type", "veth", "peer", "name", "cable1", "netns", far}}
	for i, pid := range []string{near, far} {
		inside := []string{"nsenter", "--net", "--target", pid, "ip"}
		device := "cable" + strconv.Itoa(i)
		list = append(list, append(inside[:5:5], "address", "add", fmt.Sprintf("10.99.0.%d/24", i+1), "dev", device), append(inside[:5:5], "link", "set", device, "up"))
	}
	if err := sayAll(list); err != nil {
		end()
		return pids, nil, err
	}
	return pids, end, nil
}

// holdNetwork starts a process in a network namespace of its own.
func holdNetwork() (*exec.Cmd, error) {
	h := exec.Command("unshare", "--net", "sh", "-c", "echo; exec sleep 1000")
	out, err := h.StdoutPipe()
	if err == nil {
		err = h.Start()
	}
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it is in its namespace
		return nil, errors.Join(err, h.Process.Kill(), ignoreExit(h.Wait()))
	}
	return h, nil
}

// measure takes one figure of each kind.
func (p *path) measure() error {
	through, err := p.flow(flood)
	if err != nil {
		return err
	}
	requests, err := p.flow(pingPong)
	p.through, p.requests = append(p.through, through*8/1e9), append(p.requests, requests)
	return err
}

// flow connects the two ends and returns how much of what a second has seen.
func (p *path) flow(what func(near, far net.Conn) (float64, error)) (float64, error) {
	l, err := p.accept()
	if err != nil {
		return 0, err
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept() // nil says that it failed
		accepted <- c
	}()
	near, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer near.Close()
	far := <-accepted
	if far == nil {
		return 0, errors.New("nobody came")
	}
	defer far.Close()
	return what(near, far)
}

// accept listens at the far end.
func (p *path) accept() (l net.Listener, err error) {
	err = sys.InNetworkOf(p.to, func() (err error) { l, err = net.Listen("tcp4", p.listen); return err })
	return l, err
}

// dial connects from the near end.
func (p *path) dial() (near net.Conn, err error) {
	dial := func() (err error) { near, err = net.DialTimeout("tcp4", p.address, 10*time.Second); return err }
	if p.from == 0 {
		err = dial()
	} else {
		err = sys.InNetworkOf(p.from, dial)
	}
	return near, err
}

// flood sends as much as goes, and returns the bytes that have arrived in a second.
func flood(near, far net.Conn) (float64, error) {
	begin := time.Now()
	go func() {
		chunk := make([]byte, 128<<10)
		for time.Since(begin) < trafficTime {
			if _, err := near.Write(chunk); err != nil {
				break
			}
		}
		near.Close()
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{far}, make([]byte, 128<<10))
	return float64(n) / time.Since(begin).Seconds(), err
}

// pingPong sends a byte there and back, one after the other, and returns how often in a second.
func pingPong(near, far net.Conn) (float64, error) {
	go func() { _, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, make([]byte, 16)) }() // until near is closed
	begin, count, b := time.Now(), 0, make([]byte, 1)
	for time.Since(begin) < trafficTime {
		if _, err := near.Write(b); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(near, b); err != nil {
			return 0, err
		}
		count++
	}
	return float64(count) / time.Since(begin).Seconds(), nil
}
