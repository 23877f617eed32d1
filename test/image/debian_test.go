package image_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/testkit"
)

// Names of images in the layout of debianLayout.
const (
	debianIndex = "test"  // for two architectures
	debianImage = "amd64" // Debian alone
)

// suite is the Debian release that the image is made of.
const suite = "bookworm"

// recipe names the way in which the image is made; change it with the way, as images are kept.
const recipe = "debian-" + suite + "-1"

// debianLayout returns the directory of an OCI image layout with the Debian image. It is made once, in a minute, and
// kept in the cache of the tests. A test is skipped where the tools are missing or the packages cannot be had.
func debianLayout(t *testing.T) string {
	t.Helper()
	cache, err := testkit.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(cache, recipe)
	lock, err := testkit.Lock(layout + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(layout, "complete")); err == nil {
		return layout
	}
	for _, tool := range []string{"mmdebstrap", "umoci"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: no Debian image can be made: %v", err)
		}
	}
	if err := os.RemoveAll(layout); err != nil {
		t.Fatal(err)
	}
	b := builder{t: t, layout: layout, bundle: filepath.Join(t.TempDir(), "bundle")}
	b.build()
	testkit.WriteFile(t, filepath.Join(layout, "complete"), "", 0o644)
	return layout
}

// builder makes the Debian image with tools that know nothing of containr.
type builder struct {
	t              *testing.T
	layout, bundle string
}

// errNoPackages means that the packages cannot be fetched.
var errNoPackages = errors.New("packages cannot be fetched")

// build makes the layers: what debootstrap makes; packages installed on top of that by apt-get; files of our own;
// and layers that take away what is below them.
func (b *builder) build() {
	b.t.Helper()
	b.run("umoci", "init", "--layout", b.layout)
	b.run("umoci", "new", "--image", b.image())
	b.run("umoci", "unpack", "--image", b.image(), b.bundle)
	rootfs := filepath.Join(b.bundle, "rootfs")
	// What it mounts on the way is no business of tests that look for mounts at the same time.
	if err := b.try("unshare", "--mount", "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", suite, rootfs); err != nil {
		b.t.Skipf("skipped: %v: %v", errNoPackages, err)
	}
	b.repack("debootstrap")
	install := "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends python3-minimal && " +
		"apt-get clean && find /var/lib/apt/lists -type f -delete"
	if err := b.try("chroot", rootfs, "sh", "-ec", install); err != nil {
		b.t.Skipf("skipped: %v: %v", errNoPackages, err)
	}
	b.repack("apt-get install python3-minimal")
	b.run("umoci", "insert", "--image", b.image(), b.appFiles(), "/srv/app")
	b.run("umoci", "insert", "--image", b.image(), b.changedFiles(), "/srv/app")
	b.run("umoci", "insert", "--image", b.image(), "--whiteout", "/usr/share/base-files/motd")
	b.run("umoci", "insert", "--image", b.image(), "--opaque", b.onlyFile(), "/etc/alternatives")
	b.run("umoci", "config", "--image", b.image(), "--config.cmd", "/srv/app/hello.sh", "--config.env", "GREETING=hello", "--config.workingdir", "/srv/app")
	b.addIndex()
}

func (b *builder) image() string { return b.layout + ":" + debianImage }

// repack makes a layer of what has changed in the root file system.
func (b *builder) repack(by string) {
	b.t.Helper()
	b.run("umoci", "repack", "--refresh-bundle", "--history.created_by", by, "--image", b.image(), b.bundle)
}

func (b *builder) run(name string, args ...string) {
	b.t.Helper()
	if err := b.try(name, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) try(name string, args ...string) error {
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// appFiles are programs to run, and a file of every kind that is hard to unpack.
func (b *builder) appFiles() string {
	b.t.Helper()
	dir := b.t.TempDir()
	for name, text := range programs {
		testkit.WriteFile(b.t, filepath.Join(dir, name), text, 0o755)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	testkit.WriteFile(b.t, path("setuid"), "runs as its owner\n", 0o644)
	testkit.WriteFile(b.t, path("capable"), "has a capability\n", 0o755)
	testkit.WriteFile(b.t, path("becomes-dir"), "a file\n", 0o600)
	testkit.WriteFile(b.t, path("becomes-file/inside"), "gone with its directory\n", 0o644)
	netBindService := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // VFS_CAP_REVISION_2, capabilities(7)
	long := strings.Repeat("long-name-", 20)
	b.check(
		os.Link(path("setuid"), path("hard-link")),
		os.Symlink("/etc/passwd", path("absolute")),
		os.Symlink("../../../../etc/passwd", path("climbing")),
		os.Symlink(long+long, path("dangling")),
		unix.Mkfifo(path("fifo"), 0o640),
		unix.Mknod(path("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		os.Mkdir(path("sticky"), 0o777),
		os.Chmod(path("sticky"), 0o777|os.ModeSticky),
		os.WriteFile(path(long), []byte("a name that no old tar header can hold\n"), 0o644),
		os.WriteFile(path("ümläut \t"), []byte("a name that is not ASCII\n"), 0o644),
		os.Lchown(path("setuid"), 1000, 2000),
		os.Chmod(path("setuid"), 0o755|os.ModeSetuid|os.ModeSetgid), // after chown, which clears the bits
		unix.Setxattr(path("capable"), "security.capability", netBindService, 0),
		os.Chtimes(path("fifo"), time.Time{}, time.Unix(1, 0)),
	)
	return dir
}

// programs are what the tests run.
var programs = map[string]string{
	"hello.sh": "#!/bin/sh\nset -eu\n. /etc/os-release\necho \"$GREETING from $NAME, $(whoami) in $PWD\"\n",
	"count.py": "#!/usr/bin/python3\nimport os, re, sys\n" +
		"print(len(re.findall('^Status: .* installed$', open('/var/lib/dpkg/status').read(), re.M)) > 50, os.getuid(), sys.version_info[0])\n",
	"sum.pl": "#!/usr/bin/perl\nuse strict; my $sum = 0; $sum += $_ for 1 .. 100; print \"$sum $>\\n\";\n",
	// Takes as many MiB as its argument says, and uses them.
	"hog.pl": "#!/usr/bin/perl\nmy $x = 'x' x ($ARGV[0] << 20); print length($x) >> 20, \"\\n\";\n",
	// Uses as many seconds of CPU time as its argument says, and says how long that took.
	"spin.pl": "#!/usr/bin/perl\nuse Time::HiRes 'time'; my $begun = time; 1 while (times)[0] + (times)[1] < $ARGV[0]; printf \"%.1f\\n\", time - $begun;\n",
	// Starts as many processes as its argument says, and says how many there were.
	"fork.pl": "#!/usr/bin/perl\nmy @pids; for (1 .. $ARGV[0]) { my $p = fork; if (!defined $p) { print \"$!\\n\"; last }\n" +
		"if (!$p) { sleep 1000; exit } push @pids, $p } print scalar(@pids), \"\\n\"; kill 9, @pids; wait for @pids;\n",
}

// changedFiles are a directory in the place of a file, and the reverse.
func (b *builder) changedFiles() string {
	b.t.Helper()
	dir := b.t.TempDir()
	testkit.WriteFile(b.t, filepath.Join(dir, "becomes-dir", "inside"), "in a directory\n", 0o644)
	testkit.WriteFile(b.t, filepath.Join(dir, "becomes-file"), "a file\n", 0o644)
	return dir
}

// onlyFile is a directory whose one file is to be the only one.
func (b *builder) onlyFile() string {
	b.t.Helper()
	dir := b.t.TempDir()
	testkit.WriteFile(b.t, filepath.Join(dir, "only"), "alone\n", 0o644)
	return dir
}

func (b *builder) check(errs ...error) {
	b.t.Helper()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
}

// addIndex gives the image a companion for arm64, of the built-in image, and both an index.
func (b *builder) addIndex() {
	b.t.Helper()
	var layout v1.Index
	b.readJSON(filepath.Join(b.layout, v1.ImageIndexFile), &layout)
	debian := layout.Manifests[0]
	debian.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	debian.Annotations = nil
	other := b.arm64()
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{debian, other}}
	data, err := json.Marshal(index)
	b.check(err)
	named := v1.Descriptor{
		MediaType: v1.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data)),
		Annotations: map[string]string{v1.AnnotationRefName: debianIndex},
	}
	b.check(os.WriteFile(b.blob(named.Digest), data, 0o644))
	layout.Manifests = append(layout.Manifests, named)
	data, err = json.Marshal(layout)
	b.check(err, os.WriteFile(filepath.Join(b.layout, v1.ImageIndexFile), data, 0o644))
}

// arm64 puts the built-in image's content into the layout and returns its manifest for arm64.
func (b *builder) arm64() v1.Descriptor {
	b.t.Helper()
	archive, err := baseimage.Archive()
	b.check(err)
	dir := b.t.TempDir()
	tar := filepath.Join(dir, "base.tar")
	b.check(os.WriteFile(tar, archive, 0o644))
	b.run("tar", "-C", dir, "-xf", tar)
	b.run("cp", "-r", filepath.Join(dir, "blobs"), b.layout)
	var top, index v1.Index
	b.readJSON(filepath.Join(dir, v1.ImageIndexFile), &top)
	b.readJSON(b.blob(top.Manifests[0].Digest), &index)
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.Architecture == "arm64" {
			return m
		}
	}
	b.t.Fatal("the built-in image is not for arm64")
	return v1.Descriptor{}
}

func (b *builder) blob(d digest.Digest) string {
	return filepath.Join(b.layout, "blobs", d.Algorithm().String(), d.Encoded())
}

func (b *builder) readJSON(path string, document any) {
	b.t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, document)
	}
	b.check(err)
}
