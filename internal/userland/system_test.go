package userland

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestPsTellsWhatTheKernelTells(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	pid := strconv.Itoa(child.Process.Pid)
	got := strings.Fields(must(t, "ps", "-o", "pid=,ppid=,uid=,args=", "-p", pid))
	want := []string{pid, strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getuid()), "sleep", "60"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ps says %q, want %q", got, want)
	}
	for _, args := range [][]string{{"ps"}, {"ps", "aux"}, {"ps", "-ef"}} {
		if out := must(t, args...); !strings.Contains(out, "sleep 60") || !strings.Contains(out, "PID") {
			t.Errorf("%q does not show the child:\n%s", args, out)
		}
	}
	if out := must(t, "pgrep", "-f", "sleep 60"); !strings.Contains(out, pid) {
		t.Errorf("pgrep printed %q", out)
	}
	if out := must(t, "pidof", "sleep"); !strings.Contains(" "+strings.TrimSpace(out)+" ", " "+pid+" ") {
		t.Errorf("pidof printed %q", out)
	}
	if out := must(t, "pstree", "-p"); !strings.Contains(out, "sleep("+pid+")") {
		t.Errorf("pstree does not show the child:\n%s", out)
	}
	must(t, "kill", "-TERM", pid)
	err := child.Wait()
	if exit, ok := err.(*exec.ExitError); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after kill -TERM the child ended with %v", err)
	}
	refuse(t, "no such process", "kill", "-0", pid)
	refuse(t, "unknown signal", "kill", "-NOPE", pid)
	refuse(t, "unknown column", "ps", "-o", "nope")
}

func TestPsReadsNamesWithParentheses(t *testing.T) {
	dir := t.TempDir()
	program := dir + "/a) b"
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("the host has no sleep to copy")
	}
	must(t, "cp", "-p", sleep, program)
	child := exec.Command(program, "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	p, err := readProcess(child.Process.Pid)
	if err != nil || p.ppid != os.Getpid() {
		t.Errorf("a process with a closing parenthesis in its name: %+v, %v", p, err)
	}
}

func TestKillListsSignals(t *testing.T) {
	if out := must(t, "kill", "-l", "9", "143"); out != "KILL\nTERM\n" {
		t.Errorf("kill -l 9 143 printed %q", out)
	}
	for text, want := range map[string]syscall.Signal{"9": 9, "TERM": 15, "sigint": 2, "Usr1": 10} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestMountsAreThoseOfTheKernel(t *testing.T) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skip("no /proc")
	}
	if got, want := strings.Count(must(t, "mount"), "\n"), strings.Count(string(text), "\n"); got != want {
		t.Errorf("mount shows %d mounts, the kernel has %d", got, want)
	}
	must(t, "mountpoint", "/proc")
	if _, _, status := run(t, "", "mountpoint", "-q", t.TempDir()); status != 1 {
		t.Errorf("mountpoint of an ordinary directory: status %d", status)
	}
	out := must(t, "df", "-T", "/proc", "/")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "proc") {
		t.Errorf("df printed\n%s", out)
	}
	refuse(t, "no-such-dir", "umount", "/no-such-dir")
}

func TestMachineCommandsAnswer(t *testing.T) {
	for _, args := range [][]string{{"uptime"}, {"free"}, {"free", "-h"}, {"arch"}, {"date"}, {"ip", "addr"}, {"ip", "-br", "link"}, {"ip", "route"}, {"df", "-h"}, {"groups"}, {"uname", "-a"}} {
		if out := must(t, args...); out == "" && args[0] != "ip" {
			t.Errorf("%q printed nothing", args)
		}
	}
	refuse(t, "only shows", "ip", "link", "set", "lo", "up")
	refuse(t, "no such interface", "ip", "link", "show", "nope0")
}

func TestIPShowsTheLoopback(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip("no loopback interface")
	}
	out := must(t, "ip", "link", "show", "dev", "lo")
	want := fmt.Sprintf("%d: lo: <LOOPBACK", lo.Index)
	if !strings.HasPrefix(out, want) || !strings.Contains(out, fmt.Sprintf("mtu %d", lo.MTU)) || !strings.Contains(out, "link/loopback 00:00:00:00:00:00") {
		t.Errorf("ip link show dev lo printed %q", out)
	}
}

// serve answers one connection on the loopback interface with do, and returns its address.
func serve(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			do(conn)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestNcTalks(t *testing.T) {
	address := serve(t, func(conn net.Conn) {
		text, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "got %s", text)
	})
	host, port, _ := net.SplitHostPort(address)
	if out, complaint, status := run(t, "hello", "nc", host, port); out != "got hello" || status != 0 {
		t.Errorf("nc printed %q, complained %q, status %d", out, complaint, status)
	}
	must(t, "nc", "-z", host, port)
	refuse(t, "give HOST and PORT", "nc", host)
}

func TestWgetReadsEveryFormOfBody(t *testing.T) {
	answers := map[string]string{
		"/length":    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
		"/close":     "HTTP/1.1 200 OK\r\n\r\nto the end",
		"/chunked":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
		"/moved":     "HTTP/1.1 302 Found\r\nLocation: /length\r\n\r\n",
		"/loop":      "HTTP/1.1 302 Found\r\nLocation: /loop\r\n\r\n",
		"/missing":   "HTTP/1.1 404 Not Found\r\n\r\nno",
		"/truncated": "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
		"/badchunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"/garbage":   "what?\r\n\r\n",
	}
	address := serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		request, _ := in.ReadString('\n')
		for line := "x"; strings.TrimSpace(line) != ""; line, _ = in.ReadString('\n') {
		}
		io.WriteString(conn, answers[strings.Fields(request)[1]])
	})
	t.Chdir(t.TempDir())
	for path, want := range map[string]string{"/length": "hello", "/close": "to the end", "/chunked": "abcdefg", "/moved": "hello"} {
		if out := must(t, "wget", "-q", "-O", "-", "http://"+address+path); out != want {
			t.Errorf("%s: %q, want %q", path, out, want)
		}
	}
	for path, why := range map[string]string{"/loop": "redirections", "/missing": "404", "/truncated": "unexpected EOF", "/badchunk": "chunk", "/garbage": "not an HTTP answer"} {
		refuse(t, why, "wget", "-q", "-O", "-", "http://"+address+path)
	}
	refuse(t, "only http://", "wget", "https://"+address+"/length")
	must(t, "wget", "-q", address+"/length")
	if content(t, "length") != "hello" {
		t.Error("wget did not save under the last name of the path")
	}
}
