package guest

import (
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest/wire"
)

const (
	// programPath is where the program is in the guest.
	programPath = "/usr/lib/containr-test/program"
	// probePath is where the probe of testkit is in the guest.
	probePath = "/usr/lib/containr-test/probe"
	// userland is the suite that packages come from, whatever the kernel.
	userland = "bookworm"
)

// baseEnv is the environment of a program in a guest. Busybox comes last: a real tool from a package wins.
var baseEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/busybox", "HOME=/root", "TMPDIR=/tmp", "USER=root",
}

// coverPath is where programs leave coverage data in the guest.
const coverPath = "/out/cover"

// compile builds what the options name by import path.
func compile(o *Options, k Kernel) error {
	var flags []string
	if o.CoverDir != "" {
		flags = []string{"-cover", "-coverpkg=github.com/containr/containr/..."}
		o.Env = append(slices.Clone(o.Env), "GOCOVERDIR="+coverPath)
		o.Out = with(o.Out, coverPath, o.CoverDir)
		o.dirs = append(o.dirs, coverPath)
	}
	for name, pkg := range o.Programs {
		program, err := testkit.Build(pkg, k.Arch, flags...)
		if err != nil {
			return err
		}
		o.Files = with(o.Files, name, program)
	}
	if o.Package == "" {
		return nil
	}
	var err error
	o.Binary, err = testkit.BuildTest(o.Package, k.Arch, flags...)
	if o.CoverDir != "" {
		o.Args = append(slices.Clone(o.Args), "-test.gocoverdir="+o.CoverDir)
	}
	return err
}

// with returns a copy of m, which may be nil, with one more entry.
func with(m map[string]string, key, value string) map[string]string {
	out := map[string]string{key: value}
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

// job is what is sent to a machine that is up.
type job struct {
	wire.Job
	files *os.File // a cpio archive
}

// newJob packs the program and all that comes with it.
func newJob(o Options, k Kernel) (job, error) {
	if err := checkBinary(o.Binary, k); err != nil {
		return job{}, err
	}
	var packages []string
	if !o.Userland.disk() {
		var err error
		if packages, err = packageTrees(o.Packages, k.Arch); err != nil {
			return job{}, err
		}
	}
	seed := make([]byte, 64)
	rand.Read(seed) // never fails
	j := job{Job: wire.Job{
		Argv: append([]string{programPath}, o.Args...), Env: environment(baseEnv, []string{Var + "=" + k.Name}, o.Env),
		Dir: o.Dir, Seed: seed, Out: slices.Sorted(maps.Keys(o.Out)),
	}}
	var err error
	if j.files, err = memfd("files"); err != nil {
		return job{}, err
	}
	c := newCpio(j.files)
	for _, p := range packages {
		c.tree("/", p)
	}
	for _, d := range append(o.dirs, o.Dir) {
		c.dir(d, 0o755)
	}
	// What the caller names comes last, and stays.
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		c.tree(name, o.Files[name])
	}
	c.tree(programPath, o.Binary)
	if err := c.close(); err != nil {
		j.files.Close()
		return job{}, fmt.Errorf("files of the guest: %w", err)
	}
	return j, nil
}

// send sends the job to the guest. Its time is that of now.
func (j job) send(w io.Writer) error {
	files := io.NewSectionReader(j.files, 0, 1<<62)
	buf := make([]byte, 256<<10)
	for {
		n, err := files.Read(buf)
		if n > 0 {
			if err := wire.Write(w, wire.Files, buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := wire.Write(w, wire.Files, nil); err != nil {
		return err
	}
	j.Now = time.Now()
	b, err := j.Encode()
	if err != nil {
		return err
	}
	return wire.Write(w, wire.Run, b)
}

// environment joins lists of variables; of those with the same name the last one stays. A program that finds two may
// take either.
func environment(lists ...[]string) []string {
	var out []string
	for _, v := range slices.Concat(lists...) {
		name, _, _ := strings.Cut(v, "=")
		out = slices.DeleteFunc(out, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		out = append(out, v)
	}
	return out
}

// checkBinary refuses a program that could not start in the guest, where there is no dynamic linker.
func checkBinary(binary string, k Kernel) error {
	if binary == "" {
		return errors.New("guest: neither Binary nor Package is given")
	}
	f, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("guest: program %s is no readable ELF file: %w", binary, err)
	}
	defer f.Close()
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[k.Arch]
	if f.Machine != want {
		return fmt.Errorf("guest: program %s is for %v, kernel %s is for %v", binary, f.Machine, k.Name, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("guest: program %s is dynamically linked: build it with CGO_ENABLED=0", binary)
		}
	}
	return nil
}

// ForTest gives a test binary what it expects: the probe of package testkit, and the testdata directory below its
// working directory. Exec alone does not, for other programs.
func ForTest(o Options) (Options, error) {
	k, err := Find(o.Kernel)
	if err != nil {
		return o, err
	}
	probe, err := testkit.Build("github.com/containr/containr/internal/testkit/cmd/probe", k.Arch)
	if err != nil {
		return o, err
	}
	o.Files = with(o.Files, probePath, probe)
	o.Env = append([]string{testkit.ProbeVar + "=" + probePath}, o.Env...)
	source := "."
	if o.Package != "" {
		if source, err = testkit.PackageDir(o.Package); err != nil {
			return o, err
		}
	}
	o.Dir = path.Join("/src", path.Base(o.Package))
	if data := filepath.Join(source, "testdata"); isDir(data) {
		o.Files[path.Join(o.Dir, "testdata")] = data
	}
	return o, nil
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// outputFlags are the flags of a test binary that name a file or directory to write; see "go help testflag".
var outputFlags = []string{"coverprofile", "gocoverdir", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace", "outputdir"}

// redirect makes the program's file-writing flags point into the guest, and asks for the files. It drops
// -test.testlogfile, by which the go command learns what files a test depends on: those of a guest mean nothing to it,
// and without the log it does not take the result for one that may be cached.
func redirect(o *Options) {
	out := map[string]string{}
	maps.Copy(out, o.Out)
	var args []string
	if o.Run != "" {
		args = append(args, "-test.run="+o.Run)
	}
	for i, arg := range o.Args {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		name, test := strings.CutPrefix(name, "test.")
		switch {
		case test && name == "testlogfile":
			continue
		case test && ok && slices.Contains(outputFlags, name):
			inside := fmt.Sprintf("/out/%d/%s", i, name)
			out[inside] = value
			o.dirs = append(o.dirs, path.Dir(inside))
			if name == "gocoverdir" || name == "outputdir" {
				o.dirs = append(o.dirs, inside)
			}
			arg = "-test." + name + "=" + inside
		}
		args = append(args, arg)
	}
	o.Args, o.Out = args, out
}
