package shell

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// command interprets one step of the child. It returns the commands for it, or none
// when the step is understood and its effect comes with a later command.
func (w *writer) command(i int) ([]command, error) {
	s := &w.steps[i]
	switch c := s.Call.(type) {
	case linux.Fsopen, linux.Fsconfig, linux.Fsmount, linux.OpenTree, linux.MoveMount, linux.MountSetattr, linux.Mount, linux.Umount, linux.PivotRoot, linux.Chroot:
		return w.mountCommand(i)
	case linux.Openat, linux.Openat2, linux.Mkdirat, linux.Mknodat, linux.Symlinkat, linux.Fchownat, linux.Fchdir, linux.Chdir, linux.Write:
		return w.fileCommand(i)
	case linux.Prctl, linux.Capset, linux.Setgroups, linux.Setresuid, linux.Setresgid, linux.Prlimit, linux.Seccomp, linux.Ioprio, linux.Personality,
		linux.SchedSetattr:
		return nil, w.privilege(s)
	case linux.Setns:
		return nil, w.join(s, c)
	case linux.Unshare:
		return nil, w.unshare(s, c)
	case linux.Faccessat:
		return run("[ -e %s ]", shellword.Quote(c.Path)), nil
	case linux.Umask:
		return run("umask %04o", c.Mask), nil
	case linux.Sethostname:
		return w.hostname(s, "hostname", c.Hostname), nil
	case linux.Setdomainname:
		return w.hostname(s, "domainname", c.Domain), nil
	case linux.Setsid:
		w.birth.setsid = append(w.birth.setsid, s.Why)
		return nil, nil
	case linux.LinkUp:
		return w.linkUp(s, c)
	case linux.Execve:
		if !w.executed {
			return nil, errors.New("nothing has looked for the program before")
		}
		return nil, nil
	}
	return nil, w.without(s)
}

// without explains a step that needs no command, or is an error.
func (w *writer) without(s *plan.Step) error {
	switch c := s.Call.(type) {
	case linux.JoinSessionKeyring:
		w.explain(s, "util-linux has none for keyrings; keyctl session, of the package keyutils, would do it")
	case linux.Socket:
		w.inside.remember(s.Why)
	case linux.CloseRange:
		w.closing.add(s, "for fd in /proc/self/fd/*; do", "    fd=${fd##*/}", `    case $fd in [0-4]) ;; *) eval "exec $fd>&-" ;; esac`, "done")
	case linux.Getcwd:
		w.explain(s, "the directory was found inside the root, link by link")
	case linux.UnblockSignals:
		w.explain(s, "a shell blocks none")
	case linux.Read:
		if c.FD == startRegister {
			w.explain(s, "the script starts the program at once")
			return nil
		}
		return errors.New("nobody knows what it waits for")
	case linux.DefaultAction:
		w.final.reason(s, "--default-signal")
		w.final.signals = true
	case linux.SetCloexec, linux.Close:
		w.explain(s, "the last shell closes all descriptors")
	case linux.SetMempolicy:
		return errors.New("util-linux has no command for memory policies; numactl, of the package of that name, would do it")
	case linux.LandlockCreateRuleset, linux.LandlockAddRule, linux.LandlockRestrictSelf:
		return errors.New("the script itself would be confined; setpriv has --landlock-access, from util-linux 2.40 on")
	case linux.WriteReg:
		return errors.New("the listener is a descriptor in another process, and no shell can take it from there")
	default:
		return errors.New("there is no command for it")
	}
	return nil
}

// startRegister is where pkg/runtime has the fifo that a created container waits on,
// and syncRegister the socket to the host.
const (
	startRegister = "start"
	syncRegister  = "sync"
)

// hostname sets a name of the UTS namespace. The tools of that name refuse what the
// kernel would take, so the kernel is asked. Its file belongs to the host's root, who
// in a user namespace is the helper only.
func (w *writer) hostname(s *plan.Step, file, name string) []command {
	if w.userNS {
		w.helper.add(s, `nsenter --uts="/proc/$pid/ns/uts" -- sh -c 'printf %s "$1" > /proc/sys/kernel/`+file+`' sh `+shellword.Quote(name))
		return nil
	}
	return run("printf %%s %s > /proc/sys/kernel/%s", shellword.Quote(name), file)
}

// linkUp needs a sysfs of the new network, which a mount namespace of its own lets go
// at once. Again the file belongs to the host's root.
func (w *writer) linkUp(s *plan.Step, c linux.LinkUp) ([]command, error) {
	if strings.ContainsAny(c.Interface, "/'") {
		return nil, fmt.Errorf("interface %q", c.Interface)
	}
	text := "unshare --mount -- sh -c 'mount -t sysfs sysfs /sys && echo 0x1 > /sys/class/net/" + c.Interface + "/flags'"
	if w.userNS {
		w.helper.add(s, `nsenter --net="/proc/$pid/ns/net" -- `+text)
		return nil, nil
	}
	return run("%s", text), nil
}

// fileCommand interprets calls on files and directories.
func (w *writer) fileCommand(i int) ([]command, error) {
	s := &w.steps[i]
	switch c := s.Call.(type) {
	case linux.Openat:
		return nil, w.openat(s, c)
	case linux.Openat2:
		return nil, w.openKernelFile(s, c)
	case linux.Mkdirat:
		at, err := w.at(c.Dir, c.Path)
		if err == nil && tolerates(s, plan.EEXIST) {
			return tolerant("[ -d %s ] || mkdir -m %04o -- %s", at, c.Mode, at), nil
		}
		return run("mkdir -m %04o -- %s", c.Mode, at), err
	case linux.Mknodat:
		return w.mknod(s, c)
	case linux.Symlinkat:
		at, err := w.at(c.Dir, c.Path)
		return run("ln -s -- %s %s", shellword.Quote(c.Target), at), err
	case linux.Fchownat:
		at, err := w.at(c.Dir, c.Path)
		return run("chown -h -- %s %s", owner(c.UID, c.GID), at), err
	case linux.Fchdir:
		at, err := w.place(c.FD)
		return run("cd %s", at), err
	case linux.Chdir:
		if w.pivoted && c.Path != "/" {
			return nil, errors.New("a path inside the new root, which is not followed link by link")
		}
		if w.pivoted {
			return run(`cd "$root"`), nil
		}
		return run("cd %s", shellword.Quote(c.Path)), nil
	case linux.Write:
		return w.write(s, c)
	}
	return nil, errors.New("there is no command for it")
}

func tolerates(s *plan.Step, e plan.Errno) bool {
	for _, t := range s.Tolerate {
		if t == e {
			return true
		}
	}
	return false
}

// at is where a path relative to a descriptor is.
func (w *writer) at(dir linux.FD, rel string) (path, error) {
	if strings.HasPrefix(rel, "/") {
		return path{rest: rel}, nil
	}
	p, err := w.place(dir)
	return p.join(rel), err
}

func owner(uid, gid uint32) string {
	id := func(n uint32) string {
		if n == ^uint32(0) {
			return ""
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	if id(gid) == "" {
		return id(uid)
	}
	return id(uid) + ":" + id(gid)
}

// openat knows the host paths that a plan opens to have a descriptor of them, and the
// files of the host that it writes to.
func (w *writer) openat(s *plan.Step, c linux.Openat) error {
	if c.Flags&(linux.OPath|linux.OWronly) == linux.OWronly && strings.HasPrefix(c.Path, "/sys/fs/cgroup/") && !w.pivoted && s.Result != "" {
		w.regs[s.Result] = value{file: c.Path}
		return nil
	}
	if c.Path == clockOffsets || c.Path == clocksToCome {
		w.host.remember(s.Why)
		w.regs[s.Result] = value{file: c.Path}
		return nil
	}
	if c.Flags&linux.OPath == 0 || !strings.HasPrefix(c.Path, "/") || s.Result == "" {
		return errors.New("it opens something for another purpose than to mount there")
	}
	if s.Result == "root" {
		w.setRoot(path{rest: c.Path})
		w.inside.add(s, "root="+shellword.Quote(c.Path))
		return nil
	}
	w.regs[s.Result] = value{place: path{rest: c.Path}}
	return nil
}

// setRoot notes where the new root is; the variable root holds it.
func (w *writer) setRoot(p path) {
	w.regs["root"] = value{place: path{variable: "root"}}
	w.final.root = p
}

// openKernelFile knows files of a procfs that is not attached: the host's own shows
// the same to who asks.
func (w *writer) openKernelFile(s *plan.Step, c linux.Openat2) error {
	if strings.HasPrefix(c.Path, "self/attr/") {
		return errors.New("a security label is for the next program that is executed, which would be the shell's next command; setpriv's would be the last shell")
	}
	v, ok := w.regs[plan.Reg(c.Dir)]
	if !ok || v.fs == nil || v.fs.kind != "proc" || !v.place.empty() || s.Result == "" {
		return errors.New("it opens something that is no kernel parameter")
	}
	w.regs[s.Result] = value{file: "/proc/" + c.Path}
	return nil
}

// write knows messages to the host and kernel parameters.
func (w *writer) write(s *plan.Step, c linux.Write) ([]command, error) {
	if c.FD == syncRegister {
		w.explain(s, "nobody waits for the word")
		return nil, nil
	}
	v, ok := w.regs[plan.Reg(c.FD)]
	if !ok || v.file == "" {
		return nil, errors.New("nobody knows what it writes to")
	}
	if v.file == clockOffsets {
		return nil, w.offsets(s, c.Data)
	}
	return run("%s", echo(c.Data, shellword.Quote(v.file))), nil
}

// echo writes data to a file, in one write(2).
func echo(data, file string) string {
	text := strings.TrimSuffix(data, "\n")
	if shellword.Plain(strings.ReplaceAll(text, " ", "_")) && (text[0] != '-' || strings.Trim(text, "-0123456789") == "") {
		return "echo " + shellword.Quote(text) + " > " + file
	}
	return "printf %s " + shellword.Quote(data) + " > " + file
}

// The types of mknod(2).
const (
	typeMask  = 0o170000
	typeFifo  = 0o010000
	typeChar  = 0o020000
	typeBlock = 0o060000
	typeFile  = 0o100000
)

func (w *writer) mknod(s *plan.Step, c linux.Mknodat) ([]command, error) {
	at, err := w.at(c.Dir, c.Path)
	if err != nil {
		return nil, err
	}
	mode := c.Mode &^ typeMask
	var text string
	switch c.Mode & typeMask {
	case typeFile, 0:
		text = fmt.Sprintf("install -m %04o -- /dev/null %s", mode, at)
	case typeFifo:
		text = fmt.Sprintf("mknod -m %04o -- %s p", mode, at)
	case typeChar:
		text = fmt.Sprintf("mknod -m %04o -- %s c %d %d", mode, at, c.Major, c.Minor)
	case typeBlock:
		text = fmt.Sprintf("mknod -m %04o -- %s b %d %d", mode, at, c.Major, c.Minor)
	default:
		return nil, fmt.Errorf("a file of type %o", c.Mode&typeMask)
	}
	if tolerates(s, plan.EEXIST) {
		return tolerant("[ -e %s ] || %s", at, text), nil
	}
	return run("%s", text), nil
}

// lookup interprets a way into the root and what hangs on it: a directory or file to
// be made when it is missing, or steps for the case that it is there.
func (w *writer) lookup(i, end int, c linux.Openat2) error {
	s := &w.steps[i]
	variable, err := variable(s.Result)
	if err != nil {
		return err
	}
	w.uses["inside"] = true
	w.regs[s.Result] = value{place: path{variable: variable}}
	how, word := "find", ""
	for k := i + 1; k < end; k++ {
		switch w.steps[k].Call.(type) {
		case linux.Mkdirat:
			how = "dir"
		case linux.Mknodat:
			how = "file"
		case linux.Renameat2:
			word = " apart"
		}
	}
	w.rememberAll(&w.inside, i, end)
	find := fmt.Sprintf("inside %s %s", how, shellword.Quote(strings.TrimPrefix(c.Path, "/")))
	if c.Resolve&linux.ResolveNoSymlinks != 0 {
		word = " nolinks"
	}
	find += word
	if how != "find" {
		w.inside.add(s, find, variable+"=$found")
		return nil
	}
	then, err := w.branch(i+1, end, plan.Then)
	if err != nil {
		return err
	}
	if !tolerates(s, plan.ENOENT) {
		w.inside.add(s, append([]string{find, variable + "=$found"}, then...)...)
		return nil
	}
	w.inside.add(s, conditional(find, append([]string{variable + "=$found"}, then...), nil)...)
	return nil
}
