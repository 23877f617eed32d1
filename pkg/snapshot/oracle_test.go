package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// realistic makes layers as builders make them.
func realistic(t testing.TB, whiteouts bool) [][]byte {
	owned := func(e entry, uid, gid int, mode int64) entry {
		return e.with(func(h *tar.Header) { h.Uid, h.Gid, h.Mode = uid, gid, mode })
	}
	at := func(e entry, seconds int64) entry {
		return e.with(func(h *tar.Header) { h.ModTime = time.Unix(seconds, 42) })
	}
	base := []entry{
		dir(".", 0o755), dir("usr", 0o755), dir("usr/bin", 0o755), dir("usr/lib", 0o755), symlink("bin", "usr/bin"), symlink("lib", "usr/lib"),
		owned(reg("usr/bin/su", "su"), 0, 0, 0o4755), owned(reg("usr/bin/wall", "wall"), 0, 5, 0o2755), hardlink("usr/bin/wall2", "usr/bin/wall"),
		reg("usr/bin/ping", "ping").xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		owned(dir("tmp", 0), 0, 0, 0o1777), owned(dir("var/mail", 0), 0, 8, 0o2775), dir("var/lib", 0o755), at(dir("var/lib/old", 0o755), 1),
		reg("var/lib/old/a", "a"), reg("var/lib/old/b", "b"), dir("var/lib/old/sub", 0o700), reg("var/lib/old/sub/c", "c"),
		owned(dir("home/user", 0), 1000, 1000, 0o700), owned(reg("home/user/.profile", "x"), 1000, 1000, 0o600), owned(symlink("home/user/link", "/etc/passwd"), 1000, 1000, 0o777),
		dir("dev", 0o755), device(tar.TypeChar, "dev/null", 1, 3), device(tar.TypeBlock, "dev/loop0", 7, 0), fifo("dev/initctl"),
		reg(strings.Repeat("long-directory-name/", 15)+"file", "long"), reg("name with \xc3\xa9 and \xff", "x"),
		reg("noted", "x").xattr("user.comment", "hello\nworld"), at(reg("old", "x"), 0), at(reg("future", "x"), 1<<33),
	}
	next := []entry{
		reg("usr/bin/new", "new"), reg("lib/through-link", "x"), hardlink("usr/bin/su2", "usr/bin/su"),
		dir("var/lib/old", 0o711), reg("var/lib/old/a", "changed"), reg("home/user/.bashrc", "x"),
	}
	last := []entry{reg("usr/lib/big", strings.Repeat("0123456789abcdef", 1<<16))}
	if whiteouts {
		next = append(next, whiteout("var/lib/old/.wh.b"), whiteout("var/lib/old/sub/.wh..wh..opq"), reg("var/lib/old/sub/d", "d"), whiteout(".wh.noted"))
		last = append(last, whiteout("var/lib/.wh.old"), whiteout("dev/.wh.null"), dir("noted", 0o755), reg("noted/f", "x"))
	}
	return [][]byte{archive(t, base...), archive(t, next...), archive(t, last...)}
}

// The tree is the one that GNU tar makes, extracting layer after layer.
func TestEqualsTar(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("tar is not installed")
	}
	archives := realistic(t, false)
	want := t.TempDir()
	for _, name := range write(t, archives...) {
		out, err := exec.Command("tar", "-x", "-f", name, "-C", want, "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "--keep-directory-symlink").CombinedOutput()
		if err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
	}
	s := open(t, Options{})
	chain := unpack(t, s, archives...)
	// tar does not restore the times of directories that an archive only puts
	// files into, and gives those it must make the present time.
	compareBut(t, fingerprintOf(t, want), mounted(t, s, chain), impliedTimes)
}

// The tree is the one that umoci makes.
func TestEqualsUmoci(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("umoci is not installed")
	}
	archives := realistic(t, true)
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	out, err := exec.Command("umoci", "raw", "unpack", "--image", layout(t, archives)+":t", rootfs).CombinedOutput()
	if err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	s := open(t, Options{})
	chain := unpack(t, s, archives...)
	compareBut(t, fingerprintOf(t, rootfs), mounted(t, s, chain), impliedTimes)
}

// impliedTimes lets the times of directories differ that no entry describes,
// or not in the last layer that puts something into them.
func impliedTimes(name, line string) string {
	if strings.HasPrefix(line, "04") {
		fields := strings.SplitN(line, " ", 4)
		return strings.Join(append(fields[:2], fields[3:]...), " ")
	}
	return line
}

func compareBut(t *testing.T, want, got map[string]string, forgive func(name, line string) string) {
	t.Helper()
	for _, m := range []map[string]string{want, got} {
		for name, line := range m {
			m[name] = forgive(name, line)
		}
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

// layout writes an OCI image layout with one image, "t".
func layout(t testing.TB, archives [][]byte) string {
	t.Helper()
	base := t.TempDir()
	if err := os.MkdirAll(base+"/blobs/sha256", 0o755); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	put := func(mediaType string, data []byte) object {
		sum := fmt.Sprintf("%x", sha256.Sum256(data))
		if err := os.WriteFile(base+"/blobs/sha256/"+sum, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return object{"mediaType": "application/vnd.oci.image." + mediaType, "digest": "sha256:" + sum, "size": len(data)}
	}
	toJSON := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var blobs []object
	var diffIDs []digest.Digest
	for _, a := range archives {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		z.Write(a)
		z.Close()
		blobs = append(blobs, put("layer.v1.tar+gzip", buf.Bytes()))
		diffIDs = append(diffIDs, digest.FromBytes(a))
	}
	config := put("config.v1+json", toJSON(object{"architecture": "amd64", "os": "linux", "rootfs": object{"type": "layers", "diff_ids": diffIDs}}))
	manifest := put("manifest.v1+json", toJSON(object{"schemaVersion": 2, "config": config, "layers": blobs}))
	manifest["annotations"] = object{"org.opencontainers.image.ref.name": "t"}
	for name, v := range map[string]any{"index.json": object{"schemaVersion": 2, "manifests": []object{manifest}}, "oci-layout": object{"imageLayoutVersion": "1.0.0"}} {
		if err := os.WriteFile(base+"/"+name, toJSON(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

// What an archive says about files holds whatever the process and the
// directory of the store would add: umask, inherited groups and access lists.
func TestSurroundingsDoNotMatter(t *testing.T) {
	needRoot(t)
	entries := []entry{dir("d", 0o2777), dir("d/e", 0o777), dir("d/private", 0o700), dir("private", 0o700), reg("d/e/f", "x"), reg("g", "").with(func(h *tar.Header) { h.Mode = 0o6777 }), fifo("p").with(func(h *tar.Header) { h.Mode = 0o666 })}
	plain := open(t, Options{})
	want := mounted(t, plain, unpack(t, plain, archive(t, entries...)))
	base := t.TempDir() + "/store"
	if err := os.Mkdir(base, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(base, 0, 1234); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(base, 0o2777); err != nil {
		t.Fatal(err)
	}
	// A default access list: user::rwx, user 42 rwx, group::rwx, mask rwx,
	// other::rwx.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x2a\x00\x00\x00" +
		"\x04\x00\x07\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff"
	if err := unix.Setxattr(base, "system.posix_acl_default", []byte(acl), 0); err != nil {
		t.Logf("no access lists here: %v", err)
	}
	defer unix.Umask(unix.Umask(0o077))
	s, err := Open(base, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(want, mounted(t, s, unpack(t, s, archive(t, entries...)))); d != "" {
		t.Error(d)
	}
	if want["d/e/f"] == "" || !strings.HasPrefix(want["g"], "106777 ") || !strings.HasPrefix(want["p"], "010666 ") {
		t.Errorf("the plain tree is wrong:\n%s", lines(want))
	}
}

// Holes stay holes.
func TestSparse(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("tar is not installed")
	}
	base := t.TempDir()
	f, err := os.Create(base + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("begin"), 1<<20+17)
	f.WriteAt([]byte("end"), 30<<20)
	f.Truncate(100 << 20)
	f.Close()
	for _, format := range []string{"gnu", "posix"} {
		t.Run(format, func(t *testing.T) {
			a, err := exec.Command("tar", "-c", "--sparse", "--format="+format, "-C", base, "sparse").Output()
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, Options{Rootless: os.Geteuid() != 0})
			chain := unpack(t, s, a)
			info, err := s.chain(chain)
			if err != nil {
				t.Fatal(err)
			}
			name := s.fs(info[0]) + "/sparse"
			want, _ := os.ReadFile(base + "/sparse")
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("content differs, %v", err)
			}
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil || st.Blocks*512 > 1<<20 {
				t.Errorf("%d kB on disk, %v", st.Blocks/2, err)
			}
		})
	}
}
