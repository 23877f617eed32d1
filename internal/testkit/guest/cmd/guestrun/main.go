// Command guestrun runs a program as root on another kernel, in a virtual machine; see package guest.
//
//	CGO_ENABLED=0 go test -exec 'guestrun -kernel debian-6.1 --' ./pkg/...
//	guestrun -kernel debian-5.10 -file /srv/rootfs=./rootfs -env DEBUG=1 -- ./program -v
//
// The program's standard output and error are kept apart; its exit code is that of guestrun. When the guest itself
// fails, the code is 125 and the reason is on standard error. With -optional, a guest that cannot be had (no QEMU, no
// package mirror) is code 0 and its reason is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guestrun:", err)
	}
	os.Exit(code)
}

// run turns flags into options and the result into an exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	o := guest.Options{Kernel: "debian-6.12", Files: map[string]string{}, Out: map[string]string{}, Stdout: stdout, Stderr: stderr, Log: stderr}
	fs := flag.NewFlagSet("guestrun", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.Kernel, "kernel", o.Kernel, "`name` of the kernel; -list prints them")
	fs.StringVar((*string)(&o.Userland), "userland", "", "`name` of what there is besides the kernel: nothing for busybox; systemd; selinux")
	fs.IntVar(&o.Memory, "memory", 0, "memory in `MiB` (default 3072)")
	fs.IntVar(&o.CPUs, "cpus", 0, "`number` of cpus (default 2)")
	fs.DurationVar(&o.Timeout, "timeout", 0, "limit of the run (default 2m)")
	fs.Func("file", "put the host's file or directory there: `guest=host`", pair(o.Files))
	fs.Func("out", "bring the guest's file or directory back: `guest=host`", pair(o.Out))
	fs.Func("env", "set a variable: `name=value`", func(s string) error { o.Env = append(o.Env, s); return nil })
	fs.Func("package", "put the Debian package `name` into the guest", func(s string) error { o.Packages = append(o.Packages, s); return nil })
	list := fs.Bool("list", false, "print the kernels and end")
	prepare := fs.Bool("prepare", false, "fetch the kernel into the cache and end")
	optional := fs.Bool("optional", false, "succeed if the guest cannot be had")
	if err := fs.Parse(args); err != nil {
		return 125, nil // the flag package has printed it
	}
	if *list {
		for _, k := range guest.Kernels {
			fmt.Fprintf(stdout, "%s\t%s\t%s\n", k.Name, k.Arch, k.Suite)
		}
		return 0, nil
	}
	var err error
	code := 0
	if *prepare {
		err = prepareKernel(o.Kernel)
	} else {
		code, err = execute(ctx, o, fs.Args())
	}
	if *optional && errors.Is(err, guest.ErrUnavailable) {
		fmt.Fprintln(stderr, "guestrun: skipped:", err)
		return 0, nil
	}
	if err != nil {
		return 125, err
	}
	return code, nil
}

// pair reads "key=value" into a map.
func pair(m map[string]string) func(string) error {
	return func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(k, "/") {
			return fmt.Errorf("want /guest/path=host/path")
		}
		m[k] = v
		return nil
	}
}

func prepareKernel(name string) error {
	k, err := guest.Find(name)
	if err != nil {
		return err
	}
	return k.Prepare()
}

func execute(ctx context.Context, o guest.Options, args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("no program given")
	}
	o.Binary, o.Args = args[0], args[1:]
	if strings.HasSuffix(o.Binary, ".test") {
		var err error
		if o, err = guest.ForTest(o); err != nil {
			return 0, err
		}
	}
	result, err := guest.Exec(ctx, o)
	return result.Code, err
}
