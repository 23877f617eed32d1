package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// rawArchive is archive for a process that is no test.
func rawArchive(entries ...entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Format, e.ModTime = tar.FormatPAX, stamp
		if w.WriteHeader(&e.Header) != nil {
			panic(e.Name)
		}
		io.WriteString(w, e.data)
	}
	w.Close()
	return buf.Bytes()
}

// rootlessRole is root of a user namespace that knows no other user.
func rootlessRole(args []string) error {
	owner := func(e entry, id int) entry { return e.with(func(h *tar.Header) { h.Uid, h.Gid = id, id }) }
	below := rawArchive(dir("etc", 0o755), reg("etc/gone", "x"), reg("etc/kept", "x"), dir("opaque", 0o755), reg("opaque/gone", "x"), reg("null", "x"))
	above := rawArchive(
		owner(reg("etc/passwd", "data"), 1000), owner(dir("home", 0o700), 1000), owner(symlink("home/link", "x"), 1000),
		whiteout("etc/.wh.gone"), whiteout("opaque/.wh..wh..opq"), device(tar.TypeChar, "null", 1, 3), fifo("fifo"),
		dir("locked", 0), reg("locked/f", "x"), hardlink("etc/second", "etc/kept"),
		reg("setuid", "x").with(func(h *tar.Header) { h.Mode = 0o4755 }))
	s, err := Open(args[0]+"/snapshots", Options{Rootless: true})
	if err != nil {
		return err
	}
	staged, err := s.Extract(context.Background(), digest.FromBytes(above), bytes.NewReader(above), ExtractOptions{})
	if err != nil {
		return err
	}
	if staged.Skipped != 1 {
		return fmt.Errorf("%d devices were skipped, want 1", staged.Skipped)
	}
	if err := staged.Discard(); err != nil {
		return err
	}
	chain, err := s.Unpack(context.Background(), layers(below, above), nil)
	if err != nil {
		return err
	}
	mounts, err := s.Prepare(context.Background(), chain, args[0]+"/upper", args[0]+"/work")
	if err != nil {
		return err
	}
	target := args[0] + "/target"
	if err := errors.Join(os.Mkdir(target, 0o755), mounts[0].mount(target)); err != nil {
		return err
	}
	tree, err := fingerprint(target)
	if err := errors.Join(err, unix.Unmount(target, 0), checkRootless(tree)); err != nil {
		return err
	}
	_, err = s.GC(context.Background(), func(ChainID) bool { return false })
	return err
}

// checkRootless checks what the documentation says about stores without root.
func checkRootless(tree map[string]string) error {
	for name, want := range map[string]string{
		"etc/passwd": `user.containers.override_stat="1000:1000:0644"`,
		"home":       `user.containers.override_stat="1000:1000:0700"`,
		"home/link":  "120777 0:0",
		"fifo":       "010622 0:0",
		"locked":     "040000 0:0",
		"locked/f":   "100644 0:0",
		"setuid":     "104755 0:0",
		"etc/second": "= etc/kept",
	} {
		if !strings.Contains(tree[name], want) {
			return fmt.Errorf("%s: %q, want %q in it", name, tree[name], want)
		}
	}
	for _, name := range []string{"etc/gone", "opaque/gone", "null"} {
		if tree[name] != "" {
			return fmt.Errorf("%s is there", name)
		}
	}
	return nil
}
