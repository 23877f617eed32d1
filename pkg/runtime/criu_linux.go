package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/criu"
	"github.com/containr/containr/pkg/host"
)

// What criu reads decides what a process may do, with which privileges and on which
// files; and criu writes, as root, to files whose names everybody knows. So the
// directories that it gets must be such that nobody else can put anything there, and
// hold nothing but plain files: a link among them would be read or written through.

// complete makes directories absolute, and finds the file with further options.
func complete(o *criu.Options, spec *specs.Spec) error {
	var ok bool
	if o.Config, ok = spec.Annotations[criuConfig]; !ok && host.Kind(defaultConfig) == host.File {
		o.Config = defaultConfig
	}
	o.EmptyNetwork = criu.InUserNamespace(spec)
	if o.WorkDir == "" {
		o.WorkDir = o.ImageDir
	}
	var err error
	if o.ImageDir, err = filepath.Abs(o.ImageDir); err == nil {
		o.WorkDir, err = filepath.Abs(o.WorkDir)
	}
	return err
}

// prepareDirs makes the directories that are not there, checks them, and removes what
// an earlier criu has left. group: see checkImages.
func prepareDirs(o *criu.Options, group int) error {
	for _, dir := range []string{o.ImageDir, o.WorkDir} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := checkImageDir(o.ImageDir, group); err != nil {
		return err
	}
	if err := checkDir(o.WorkDir); err != nil {
		return err
	}
	for _, name := range criu.WorkFiles {
		if err := os.Remove(filepath.Join(o.WorkDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkDir refuses a directory that somebody else can put something into.
func checkDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s: not a directory", dir)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: %w: it belongs to another user (uid %d)", dir, errUntrusted, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s: %w: other users may write to it (mode %#o)", dir, errUntrusted, st.Mode&0o7777)
	}
	return nil
}

// parentLink is the link that criu makes to the checkpoint that one adds to.
const parentLink = "parent"

// maxParents is how many checkpoints may add to each other.
const maxParents = 1000

// checkImageDir checks the directory of a checkpoint, and those that it adds to, which
// lie beside it.
func checkImageDir(dir string, group int) error {
	beside := filepath.Dir(dir)
	for range maxParents {
		parent, err := checkImages(dir, group)
		if err != nil || parent == "" {
			return err
		}
		if dir = filepath.Join(dir, parent); filepath.IsAbs(parent) || filepath.Dir(dir) != beside {
			return fmt.Errorf("%s: the checkpoint that it adds to, %s, is not beside it", dir, parent)
		}
	}
	return fmt.Errorf("%s: more than %d checkpoints that add to each other", dir, maxParents)
}

// checkImages refuses a directory with anything but plain files. It returns where the
// link to the parent leads, if there is one. A group, unless it is the host's root, is let
// read them: criu does so from within a user namespace, whose root is in that group.
func checkImages(dir string, group int) (parent string, err error) {
	if err := checkDir(dir); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == parentLink && e.Type() == fs.ModeSymlink:
			if parent, err = os.Readlink(path); err != nil {
				return "", err
			}
		case e.Type() == fs.ModeSymlink, e.Type()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0:
			return "", fmt.Errorf("%s: not a plain file: CRIU would read or write what it leads to", path)
		case group > 0 && e.Type().IsRegular():
			if err := share(path, 0o640, group); err != nil {
				return "", err
			}
		}
	}
	if group > 0 {
		err = share(dir, 0o750, group)
	}
	return parent, err
}

func share(path string, mode fs.FileMode, group int) error {
	if err := unix.Lchown(path, -1, group); err != nil {
		return &os.PathError{Op: "lchown", Path: path, Err: err}
	}
	return os.Chmod(path, mode)
}

// userNamespaceBack checks that criu has made the user namespace of the configuration, not
// another one that the checkpoint tells of, and brings its loopback interface up.
func userNamespaceBack(l *specs.Linux, pid int) error {
	proc := "/proc/" + strconv.Itoa(pid)
	if err := checkMap(proc+"/uid_map", l.UIDMappings); err != nil {
		return err
	}
	if err := checkMap(proc+"/gid_map", l.GIDMappings); err != nil {
		return err
	}
	r, err := sys.OpenRouteOf(pid)
	if err != nil {
		return err
	}
	const loopback = 1 // in every network namespace
	err = r.Up(loopback)
	r.Close()
	return err
}

// checkMap checks that a file of user_namespaces(7) has the lines of want, and no others.
func checkMap(path string, want []specs.LinuxIDMapping) error {
	text, err := sys.ReadFile(path, maxConfig)
	if err != nil {
		return err
	}
	want = slices.Clone(want)
	for i := range want { // the kernel sorts more than five: UID_GID_MAP_MAX_BASE_EXTENTS of linux/user_namespace.h
		for k := i; len(want) > 5 && k > 0 && want[k].ContainerID < want[k-1].ContainerID; k-- {
			want[k], want[k-1] = want[k-1], want[k]
		}
	}
	lines := ""
	for _, m := range want {
		lines += fmt.Sprintf("%10d %10d %10d\n", m.ContainerID, m.HostID, m.Size) // as the kernel writes it
	}
	if string(text) != lines {
		return fmt.Errorf("%w: a container with other ids, %q", errNoCheckpoint, text)
	}
	return nil
}

// waitCRIU waits for criu's end, for the time of limit if it is not zero, and kills it
// then. output is the file with what it said before it had its log.
func waitCRIU(pid int, action, log, output string, limit time.Duration) error {
	late, err := killLate(pid, limit)
	if err != nil {
		return err
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for criu: %w", err)
		}
	}
	if ws.Exited() && ws.ExitStatus() == 0 {
		return nil
	}
	e := &CRIUError{Action: action, Reason: "exit status " + strconv.Itoa(ws.ExitStatus()), Late: late}
	switch {
	case late:
		e.Reason = "it had not come to its end after " + limit.String() + ", and was killed"
	case ws.Signaled():
		e.Reason = "killed by signal " + strconv.Itoa(int(ws.Signal()))
	}
	if e.Said = criuErrors(log); len(e.Said) > 0 {
		e.Log = log
	}
	e.Said = append(criuErrors(output), e.Said...)
	return e
}

// killLate kills a child, by a pidfd, if it has not ended within the time. A limit of zero
// is none.
func killLate(pid int, limit time.Duration) (late bool, err error) {
	if limit == 0 {
		return false, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	ended, err := pollEnd(fd, pid, time.Now().Add(limit))
	if ended || err != nil {
		return false, err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return false, fmt.Errorf("kill criu, process %d: %w", pid, err)
	}
	return true, awaitEnd(fd, pid)
}

// maxLog bounds the part of a log that is read, in bytes, and maxSaid the errors that
// are quoted from it.
const (
	maxLog  = 64 << 20
	maxSaid = 6
)

// criuErrors returns the last errors of a log, without times and places, and what other
// programs have said that criu ran, such as tar.
func criuErrors(path string) []string {
	text, err := sys.ReadFile(path, maxLog)
	if err != nil {
		return nil // it said nothing
	}
	var said []string
	quoting := false // a file that criu has read, and that goes on
	for line := range strings.Lines(string(text)) {
		_, words, failed := strings.Cut(line, "Error (")
		if !failed && (strings.HasPrefix(line, "(") || strings.HasPrefix(line, "pie:")) {
			quoting = strings.Contains(line, "cg: Dumping value ")
			continue // criu's own, with the time or the place before it
		}
		if quoting = quoting && !failed; quoting {
			continue
		}
		if failed {
			if _, rest, ok := strings.Cut(words, "): "); ok {
				words = rest
			}
		} else {
			words = line
		}
		if words = quotable(words); words != "" {
			said = append(said, words)
		}
	}
	return slices.Compact(said[max(0, len(said)-maxSaid):])
}

// quotable takes out what would command a terminal: names of the container's files are
// in there.
func quotable(words string) string {
	return strings.Map(printable, strings.Join(strings.Fields(strings.ToValidUTF8(words, "?")), " "))
}
