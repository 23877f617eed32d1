package runtime

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/seccomp"
)

// Nearly all containers of a machine have one of a few policies for system calls. To read
// one as JSON and to compile it was a twentieth of a run, so filters are kept in the state
// root, next to the containers' directories: in a few files, each with the text of a policy
// in a configuration and what came of it. A text that is the same byte by byte is not read
// again.
//
// What a file says is taken if the program that wrote it is the one that reads it, by its
// inode's time of change, and if nobody but root or this user can have written it. A
// damaged or missing file costs the time that it would have saved, and nothing else.
//
// The layout, in the machine's own order of bytes: magic, the program (stamp), the lengths
// of the three texts that follow and the filter's flags; policy, reason and filter.

// keptFilters is how many policies a state root has at most; the length of the text says
// which file it goes to. No container's id has an @, see ValidateID.
const (
	keptFilters = 8
	keptName    = "filter@"
	keptMagic   = "containr filter\n"
	keptHeader  = len(keptMagic) + 4*8 + 4*4
)

// keepable are the flags of filters that are kept. The others need a kernel that was asked,
// or an agent.
const keepable = linux.SeccompFlags(seccomp.FlagTSync | seccomp.FlagLog | seccomp.FlagSpecAllow)

var policyType = reflect.TypeFor[*specs.LinuxSeccomp]()

// filterStore is where a runtime looks for the filter of one configuration.
type filterStore struct {
	root string
	// policy is the text that was looked for, how often one was, and what was kept for it.
	policy string
	asked  int
	steps  []plan.Step
}

// stamp tells this program from all others and from what it was before.
func stamp() (b []byte, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: "/proc/self/exe", Err: err}
	}
	for _, n := range []uint64{uint64(st.Dev), st.Ino, uint64(st.Ctim.Nano()), uint64(st.Size)} {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return b, nil
}

func (f *filterStore) path() string {
	return filepath.Join(f.root, keptName+strconv.Itoa(len(f.policy)%keptFilters))
}

// decode reads a configuration, without its policy if that is known.
func (f *filterStore) decode(text string, spec *specs.Spec) error {
	if f.root == "" {
		return quickjson.Decode(text, spec)
	}
	err := quickjson.DecodeUnless(text, spec, policyType, f.known)
	if f.asked > 1 { // a member that is there twice: what the first says counts where the second says nothing
		*f, *spec = filterStore{}, specs.Spec{}
		return quickjson.Decode(text, spec)
	}
	return err
}

// known looks for the filter of a policy.
func (f *filterStore) known(policy string) bool {
	f.policy = policy
	f.asked++
	who, err := stamp()
	if err != nil {
		return false
	}
	kept, ok := readTrusted(f.path(), keptHeader+len(policy)+1<<16)
	if !ok || len(kept) < keptHeader || kept[:len(keptMagic)] != keptMagic || kept[len(keptMagic):][:len(who)] != string(who) {
		return false
	}
	numbers, rest := []byte(kept[len(keptMagic)+len(who):keptHeader]), kept[keptHeader:]
	var texts [3]string
	for i := range texts {
		n := binary.NativeEndian.Uint32(numbers[4*i:])
		if uint64(n) > uint64(len(rest)) {
			return false
		}
		texts[i], rest = rest[:n], rest[n:]
	}
	if texts[0] != policy || rest != "" {
		return false
	}
	f.steps = seccomp.PlanCompiled(texts[1], linux.Seccomp{Filter: texts[2], Flags: linux.SeccompFlags(binary.NativeEndian.Uint32(numbers[12:]))})
	return true
}

// keep keeps the filter of a plan, unless it came from here.
func (f *filterStore) keep(p *plan.Plan) error {
	if f.policy == "" || f.steps != nil {
		return nil
	}
	for i := range p.Steps {
		load, ok := p.Steps[i].Call.(linux.Seccomp)
		if !ok || load.Flags&^keepable != 0 {
			continue
		}
		who, err := stamp()
		if err != nil {
			return err
		}
		why := p.Steps[i].Why
		b := append(append(make([]byte, 0, keptHeader+len(f.policy)+len(why)+len(load.Filter)), keptMagic...), who...)
		for _, n := range []int{len(f.policy), len(why), len(load.Filter), int(load.Flags)} {
			b = binary.NativeEndian.AppendUint32(b, uint32(n))
		}
		b = append(append(append(b, f.policy...), why...), load.Filter...)
		return replace(f.path(), b)
	}
	return nil
}

// replace makes or replaces a file, so that who reads it sees the old or the new one. Whoever finds that another is at it
// leaves it to that one, and removes what one that was killed has left.
func replace(path string, data []byte) error {
	temporary := path + newSuffix
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if st, err := os.Lstat(temporary); err == nil && time.Since(st.ModTime()) > time.Minute {
			return os.Remove(temporary)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close(), os.Remove(temporary))
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

// readTrusted reads a file that nobody but root and this user can have written. What it cannot read is as good as not there.
func readTrusted(path string, limit int) (text string, ok bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Size > int64(limit) {
		return "", false
	}
	b := make([]byte, st.Size)
	n, err := unix.Read(fd, b)
	return string(b[:max(n, 0)]), err == nil
}
