package guest

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest/wire"
)

// A Kernel is a Debian kernel that guests can run.
type Kernel struct {
	Name  string // "debian-6.1", what Options.Kernel says
	Suite string // the Debian suite that has it
	Arch  string // Go's name: amd64, arm64
	// Image is the package that depends on the current kernel of the suite, so that its ever-changing name need not
	// be known; or, with Match, empty.
	Image string
	// Match picks the kernel among the package names of the suite: the last one in version order.
	Match string
}

// Kernels are the kernels that containr is tested on: one for each long-term version that a distribution ships, and
// the newest.
var Kernels = []Kernel{
	{Name: "debian-5.10", Suite: "bullseye", Arch: "amd64", Image: "linux-image-cloud-amd64"},
	{Name: "debian-6.1", Suite: "bookworm", Arch: "amd64", Image: "linux-image-cloud-amd64"},
	{Name: "debian-6.12", Suite: "trixie", Arch: "amd64", Image: "linux-image-cloud-amd64"},
	{Name: "debian-6.18", Suite: "trixie-backports", Arch: "amd64", Match: `linux-image-6\.18\.[0-9]+\+deb13-cloud-amd64`},
	{Name: "debian-newest", Suite: "trixie-backports", Arch: "amd64", Image: "linux-image-cloud-amd64"},
	{Name: "debian-6.1-arm64", Suite: "bookworm", Arch: "arm64", Image: "linux-image-cloud-arm64"},
	{Name: "debian-6.12-arm64", Suite: "trixie", Arch: "arm64", Image: "linux-image-cloud-arm64"},
}

// Find returns the kernel of this name.
func Find(name string) (Kernel, error) {
	var names []string
	for _, k := range Kernels {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kernel{}, fmt.Errorf("no kernel %q: the kernels are %s", name, strings.Join(names, " "))
}

// ErrUnavailable means that this machine cannot have the guest: no QEMU, no package mirror. Tests skip for it.
var ErrUnavailable = errors.New("guest unavailable")

// files are a kernel's files on the host, made once and kept in the cache.
type files struct {
	dir     string // holds kernel, modules/NAME.ko, index.json
	modules wire.Modules
}

func (f files) kernel() string { return filepath.Join(f.dir, "kernel") }

// cacheDir holds kernels and packages: $CONTAINR_GUEST_CACHE, or guests/ in the cache of testkit. To have newer
// kernels, remove it.
func cacheDir() (string, error) {
	if dir := os.Getenv("CONTAINR_GUEST_CACHE"); dir != "" {
		return dir, os.MkdirAll(dir, 0o755)
	}
	dir, err := testkit.CacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "guests")
	return dir, os.MkdirAll(dir, 0o755)
}

// kernelFormat is the directory of the kernels in the cache; its number goes up when other modules are carried.
const kernelFormat = "kernels-3"

// Prepare fetches the kernel into the cache, if it is not there. The error is an ErrUnavailable when it cannot be had.
func (k Kernel) Prepare() error {
	_, err := k.files()
	return err
}

// files returns the kernel's files, fetching them first if need be. They appear by a rename: a directory in the cache
// is whole.
func (k Kernel) files() (files, error) {
	cache, err := cacheDir()
	if err != nil {
		return files{}, err
	}
	lock, err := testkit.Lock(filepath.Join(cache, "lock"))
	if err != nil {
		return files{}, err
	}
	defer lock.Close()
	dir := filepath.Join(cache, kernelFormat, k.Name)
	if _, err := os.Stat(dir); err == nil {
		return readFiles(dir)
	}
	tmp, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		return files{}, err
	}
	defer os.RemoveAll(tmp)
	if err := k.fetch(cache, tmp); err != nil {
		return files{}, fmt.Errorf("%w: kernel %s: %w", ErrUnavailable, k.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return files{}, err
	}
	if err := os.Rename(filepath.Join(tmp, "out"), dir); err != nil {
		return files{}, err
	}
	return readFiles(dir)
}

func readFiles(dir string) (files, error) {
	f := files{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(b, &f.modules)
}

// fetch downloads and unpacks the kernel's packages into tmp and makes tmp/out of them.
func (k Kernel) fetch(cache, tmp string) error {
	a, err := openArchive(cache, k.Suite, k.Arch)
	if err != nil {
		return err
	}
	names, err := k.packages(a)
	if err != nil {
		return err
	}
	debs, err := a.download(names...)
	if err != nil {
		return err
	}
	root, out := filepath.Join(tmp, "root"), filepath.Join(tmp, "out")
	for _, deb := range debs {
		err := unpack(deb, root, func(name string) bool {
			return strings.HasPrefix(name, "boot/vmlinuz") || strings.Contains(name, "lib/modules/")
		})
		if err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "modules"), 0o755); err != nil {
		return err
	}
	if err := k.writeKernel(root, filepath.Join(out, "kernel")); err != nil {
		return err
	}
	index, err := packModules(root, filepath.Join(out, "modules"))
	if err != nil {
		return err
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "index.json"), b, 0o644)
}

// packages names the packages that hold the kernel and its modules: one, or since Linux 6.19 several that the one
// depends on.
func (k Kernel) packages(a *archive) ([]string, error) {
	image, err := k.imagePackage(a)
	if err != nil {
		return nil, err
	}
	deps, err := a.depends(image)
	if err != nil {
		return nil, err
	}
	names := []string{image}
	for _, dep := range deps {
		if strings.HasPrefix(dep, "linux-binary-") || strings.HasPrefix(dep, "linux-modules-") {
			names = append(names, dep)
		}
	}
	return names, nil
}

func (k Kernel) imagePackage(a *archive) (string, error) {
	if k.Match == "" {
		deps, err := a.depends(k.Image)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(deps, func(s string) bool { return strings.HasPrefix(s, "linux-image-") })
		if i < 0 {
			return "", fmt.Errorf("package %s depends on no kernel: %v", k.Image, deps)
		}
		return deps[i], nil
	}
	out, err := a.run("apt-cache", "pkgnames", "linux-image-")
	if err != nil {
		return "", err
	}
	match, err := regexp.Compile("^(" + k.Match + ")$")
	if err != nil {
		return "", err
	}
	var names []string
	for name := range strings.FieldsSeq(out) {
		if match.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("suite %s has no package %s", k.Suite, k.Match)
	}
	return slices.MaxFunc(names, compareVersions), nil
}

// compareVersions orders names by the numbers in them: 6.18.5 before 6.18.12.
func compareVersions(a, b string) int {
	numbers := regexp.MustCompile(`[0-9]+`)
	var x, y [8]int
	for i, s := range numbers.FindAllString(a, len(x)) {
		fmt.Sscan(s, &x[i])
	}
	for i, s := range numbers.FindAllString(b, len(y)) {
		fmt.Sscan(s, &y[i])
	}
	return slices.Compare(x[:], y[:])
}

// writeKernel finds the image among the unpacked files and writes it in the form that boots fastest.
func (k Kernel) writeKernel(root, out string) error {
	var images []string
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		images = append(images, found...)
	}
	if len(images) != 1 {
		return fmt.Errorf("%d kernel images in the package", len(images))
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	if k.Arch == "amd64" {
		elf, err := vmlinux(image)
		if err != nil && !errors.Is(err, errNoVmlinux) {
			return err
		}
		if err == nil {
			image = elf
		}
	}
	return os.WriteFile(out, image, 0o644)
}

// unpack writes the files of a .deb that keep wants, by name without leading "./", below root. dpkg-deb comes with
// apt; it does not touch the machine's packages here.
func unpack(deb, root string, keep func(name string) bool) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = untar(pipe, root, keep)
	io.Copy(io.Discard, pipe) // padding after the archive's end, or dpkg-deb would die of SIGPIPE
	return errors.Join(err, cmd.Wait())
}

// untar writes regular files, directories and symbolic links. The root confines it: a name cannot leave it.
func untar(r io.Reader, dir string, keep func(string) bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(r); ; {
		head, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(strings.TrimPrefix(head.Name, "/"))
		if name == "." || !keep(name) {
			continue
		}
		if err := untarOne(root, name, head, archive); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

func untarOne(root *os.Root, name string, head *tar.Header, content io.Reader) error {
	mode := os.FileMode(head.Mode).Perm()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	switch head.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		return root.Symlink(head.Linkname, name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(head.Linkname), name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return nil
}
