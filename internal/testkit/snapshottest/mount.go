package snapshottest

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/snapshot"
)

// within makes mounts on an empty directory, in a mount namespace of a thread that ends with f, and has f look at it.
func within(t testing.TB, mounts []snapshot.Mount, f func(dir string) error) {
	t.Helper()
	if err := tryWithin(mounts, t.TempDir(), f); err != nil {
		t.Fatal(err)
	}
}

// tryWithin does so, and returns the error of the kernel or of f.
func tryWithin(mounts []snapshot.Mount, target string, f func(dir string) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nobody else gets its namespace
		done <- alone(mounts, target, f)
	}()
	return <-done
}

func alone(mounts []snapshot.Mount, target string, f func(dir string) error) (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := mount(m, target); err != nil {
			return fmt.Errorf("mount %+v: %w", m, err)
		}
		if m.Type == snapshot.FuseType { // who serves it is in this namespace, too, and ends with the mount
			defer func() { err = errors.Join(err, unix.Unmount(target, unix.MNT_DETACH)) }()
		}
	}
	return f(target)
}

// mount does what a Mount says.
func mount(m snapshot.Mount, target string) error {
	if m.UIDMap != nil || m.GIDMap != nil {
		return mountMapped(m, target)
	}
	if m.Type == snapshot.FuseType {
		said, err := exec.Command("fuse-overlayfs", "-o", strings.Join(m.Options, ","), target).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	}
	for _, i := range m.Images {
		if err := unix.Mount(i.File, i.Dir, snapshot.ErofsType, unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount image %s: %w", i.File, err)
		}
	}
	var flags uintptr
	var data []string
	for _, o := range m.Options {
		switch o {
		case "bind":
			flags |= unix.MS_BIND
		case "ro":
			flags |= unix.MS_RDONLY
		case "rw":
		default:
			data = append(data, o)
		}
	}
	if m.Dir != "" {
		if err := unix.Chdir(m.Dir); err != nil {
			return err
		}
	}
	if err := unix.Mount(m.Source, target, m.Type, flags, strings.Join(data, ",")); err != nil {
		return err
	}
	if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 {
		return unix.Mount("", target, "", flags|unix.MS_REMOUNT, "")
	}
	return nil
}
