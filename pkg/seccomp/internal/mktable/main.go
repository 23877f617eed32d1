// Mktable writes the table of system call names and numbers that pkg/seccomp
// compiles with.
//
// The numbers of amd64, 386, arm64 and arm are taken from the module
// golang.org/x/sys at the version that go.mod names, so a newer kernel's calls
// arrive by raising that version and running go generate again. Two things
// are not there and stand below as constants: the numbers of x32 where they
// differ from amd64's, and ARM's private calls. The names of every other
// architecture are kept too, without a number, so that a policy written for
// all of them can be told from one with a spelling mistake.
//
// Usage (from pkg/seccomp, see the go:generate line there):
//
//	mktable -o table_generated.go
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// columns are the architectures of the table in the order of seccomp.Arch.
var columns = []string{"amd64", "386", "x32", "arm64", "arm"}

// none marks a call that an architecture does not have.
const none = 0xffff

// x32Own are the numbers of the calls that x32 has apart from amd64's, because
// their arguments hold pointers or longs of another size. Source: the rows
// marked "x32" of Linux arch/x86/entry/syscalls/syscall_64.tbl; the file says
// that none will be added after 547.
var x32Own = map[string]int{
	"rt_sigaction": 512, "rt_sigreturn": 513, "ioctl": 514, "readv": 515,
	"writev": 516, "recvfrom": 517, "sendmsg": 518, "recvmsg": 519,
	"execve": 520, "ptrace": 521, "rt_sigpending": 522,
	"rt_sigtimedwait": 523, "rt_sigqueueinfo": 524, "sigaltstack": 525,
	"timer_create": 526, "mq_notify": 527, "kexec_load": 528, "waitid": 529,
	"set_robust_list": 530, "get_robust_list": 531, "vmsplice": 532,
	"move_pages": 533, "preadv": 534, "pwritev": 535,
	"rt_tgsigqueueinfo": 536, "recvmmsg": 537, "sendmmsg": 538,
	"process_vm_readv": 539, "process_vm_writev": 540, "setsockopt": 541,
	"getsockopt": 542, "io_setup": 543, "io_submit": 544, "execveat": 545,
	"preadv2": 546, "pwritev2": 547,
}

// x32Lacks are the rows marked "64" of the same file that have no counterpart.
var x32Lacks = []string{
	"uselib", "_sysctl", "create_module", "get_kernel_syms", "query_module",
	"nfsservctl", "set_thread_area", "get_thread_area", "epoll_ctl_old",
	"epoll_wait_old", "vserver",
}

// armPrivate are ARM's own calls, whose numbers begin at 0x0f0000. Source:
// Linux arch/arm/include/uapi/asm/unistd.h. The table keeps them as 0xf000+n.
var armPrivate = map[string]int{
	"breakpoint": 0xf001, "cacheflush": 0xf002, "usr26": 0xf003,
	"usr32": 0xf004, "set_tls": 0xf005, "get_tls": 0xf006,
}

// socketcall and ipc are the calls that 32-bit x86 also reaches through one
// multiplexing call, by the number in its first argument. Source: Linux
// include/uapi/linux/net.h and include/uapi/linux/ipc.h.
var (
	socketcall = map[string]int{
		"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5,
		"getsockname": 6, "getpeername": 7, "socketpair": 8, "send": 9,
		"recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13,
		"setsockopt": 14, "getsockopt": 15, "sendmsg": 16, "recvmsg": 17,
		"accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
	}
	ipc = map[string]int{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4,
		"msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	}
)

// notCalls are constants of x/sys that look like system calls and are not.
var notCalls = []string{"syscall_mask", "arch_specific_syscall"}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mktable: ")
	output := flag.String("o", "table_generated.go", "file to write")
	flag.Parse()
	dir, version, err := sysModule()
	if err != nil {
		log.Fatal(err)
	}
	tables, err := readTables(filepath.Join(dir, "unix"))
	if err != nil {
		log.Fatal(err)
	}
	source, err := format.Source(render(tables, version))
	if err != nil {
		log.Fatalf("format the table: %v", err)
	}
	if err := os.WriteFile(*output, source, 0o644); err != nil {
		log.Fatal(err)
	}
}

// sysModule returns the directory and version of golang.org/x/sys in use.
func sysModule() (dir, version string, err error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "golang.org/x/sys").Output()
	if err != nil {
		return "", "", fmt.Errorf("find golang.org/x/sys: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 2 {
		return "", "", fmt.Errorf("find golang.org/x/sys: go list printed %q", out)
	}
	return fields[0], fields[1], nil
}

var constant = regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s*=\s*(\d+)$`)

// readTables returns name to number for every Linux architecture of x/sys,
// and for x32.
func readTables(dir string) (map[string]map[string]int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "zsysnum_linux_*.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no system call lists in %s", dir)
	}
	tables := map[string]map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		table := map[string]int{}
		for _, m := range constant.FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			if slices.Contains(notCalls, name) {
				continue
			}
			if table[name], err = strconv.Atoi(m[2]); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		arch := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "zsysnum_linux_"), ".go")
		tables[arch] = table
	}
	tables["x32"] = x32Table(tables["amd64"])
	maps.Copy(tables["arm"], armPrivate)
	return tables, nil
}

func x32Table(amd64 map[string]int) map[string]int {
	table := maps.Clone(amd64)
	for _, name := range x32Lacks {
		delete(table, name)
	}
	maps.Copy(table, x32Own)
	return table
}

// render writes the Go source of the table, not yet formatted.
func render(tables map[string]map[string]int, version string) []byte {
	all := map[string]bool{}
	for _, table := range tables {
		for name := range table {
			all[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(all))

	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated by mktable from golang.org/x/sys %s. DO NOT EDIT.\n\n", version)
	fmt.Fprintf(&b, "package seccomp\n\n")
	fmt.Fprintf(&b, "// callCount is how many system call names are known.\nconst callCount = %d\n\n", len(names))
	fmt.Fprintf(&b, "// callNames holds all names in order, one after the other.\nconst callNames = \"\" +\n")
	for i := 0; i < len(names); i += 8 {
		line := strings.Join(names[i:min(i+8, len(names))], "")
		end := " +\n"
		if i+8 >= len(names) {
			end = "\n\n"
		}
		fmt.Fprintf(&b, "%q%s", line, end)
	}
	fmt.Fprintf(&b, "// callStart says where each name begins in callNames; the next one ends it.\n")
	fmt.Fprintf(&b, "var callStart = [callCount + 1]uint16{")
	at := 0
	for i, name := range append(slices.Clone(names), "") {
		if i%12 == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%d, ", at)
		at += len(name)
	}
	fmt.Fprintf(&b, "\n}\n\n// callNumbers has a row for each name: its numbers in the order of Arch, and how\n")
	fmt.Fprintf(&b, "// 32-bit x86 multiplexes it.\nvar callNumbers = [callCount]callRow{\n")
	for _, name := range names {
		row := make([]string, len(columns))
		for i, column := range columns {
			number, ok := tables[column][name]
			if !ok {
				number = none
			}
			row[i] = fmt.Sprintf("%#x", number)
			if number < 0xf000 {
				row[i] = strconv.Itoa(number)
			}
		}
		fmt.Fprintf(&b, "{[archCount]uint16{%s}, %s}, // %s\n", strings.Join(row, ", "), mux(name), name)
	}
	fmt.Fprintf(&b, "}\n")
	return b.Bytes()
}

// mux renders how 32-bit x86 multiplexes a call.
func mux(name string) string {
	if n, ok := socketcall[name]; ok {
		return fmt.Sprintf("muxSocket | %d", n)
	}
	if n, ok := ipc[name]; ok {
		return fmt.Sprintf("muxIPC | %d", n)
	}
	return "0"
}
