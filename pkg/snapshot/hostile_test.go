package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/untrusted"
)

// hostile is an archive that tries to reach canary, a directory of the host.
type hostile struct {
	name    string
	entries []entry
	// below, if any, is a layer under the archive.
	below []entry
	// refused is what the error must wrap; nil: the archive is accepted.
	refused error
	// has lists names that the tree must then have, lacks those that it must
	// not.
	has, lacks []string
}

func hostileCases(canary string) []hostile {
	up := strings.Repeat("../", 30)
	inside := strings.TrimPrefix(canary, "/")
	withName := func(e entry, name string) entry { return e.with(func(h *tar.Header) { h.Name = name }) }
	return []hostile{
		{name: "climbing name is re-rooted", entries: []entry{reg(up+inside+"/secret", "pwned")}, has: []string{inside + "/secret"}},
		{name: "climbing inside a name", entries: []entry{dir("a", 0o755), reg("a/../../b", "x")}, has: []string{"a", "b"}},
		{name: "absolute name is re-rooted", entries: []entry{reg(canary+"/secret", "pwned")}, has: []string{inside + "/secret"}},
		{name: "absolute directory is re-rooted", entries: []entry{dir(canary, 0o777)}, has: []string{inside}},
		{name: "write through an absolute symlink", entries: []entry{symlink("x", canary), reg("x/secret", "pwned")}, has: []string{"x", inside + "/secret"}},
		{name: "write through a climbing symlink", entries: []entry{symlink("x", up+inside), reg("x/secret", "pwned")}, has: []string{"x", inside + "/secret"}},
		{name: "write through a chain of symlinks", entries: []entry{symlink("x", "/y"), symlink("y", "z/.."), symlink("z", up+inside+"/sub"), reg("x/secret", "pwned")}, has: []string{inside + "/secret"}},
		{name: "write through a symlink of a lower layer", below: []entry{symlink("x", canary)}, entries: []entry{reg("x/secret", "pwned")}, has: []string{"x", inside + "/secret"}},
		{name: "symlink loop", entries: []entry{symlink("a", "b"), symlink("b", "a"), reg("a/f", "x")}, refused: unix.ELOOP},
		{name: "symlink loop across layers", below: []entry{symlink("a", "b"), symlink("b", "a")}, entries: []entry{reg("a/f", "x")}, refused: unix.ELOOP},
		{name: "file over a symlink", entries: []entry{symlink("x", canary+"/secret"), reg("x", "mine")}, has: []string{"x"}},
		{name: "directory over a symlink", entries: []entry{symlink("x", canary), dir("x", 0o777), reg("x/secret", "mine")}, has: []string{"x/secret"}, lacks: []string{inside}},
		{name: "directory over a symlink of a lower layer", below: []entry{symlink("x", canary)}, entries: []entry{dir("x", 0o777), reg("x/secret", "mine")}, has: []string{"x/secret"}, lacks: []string{inside}},
		{name: "symlink over a directory", entries: []entry{dir("x", 0o755), reg("x/f", "x"), symlink("x", canary), reg("x/secret", "pwned")}, has: []string{"x", inside + "/secret"}, lacks: []string{"x/f"}},
		{name: "chmod and chown and times through a symlink", entries: []entry{symlink("x", canary+"/secret").with(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o7777, 12, 13 })}, has: []string{"x"}},
		{name: "attributes through a symlink", entries: []entry{symlink("x", canary).xattr("user.evil", "x"), symlink("y", canary).xattr("trusted.evil", "x")}, has: []string{"x", "y"}},
		{name: "hard link to an absolute name", entries: []entry{hardlink("x", canary+"/secret")}, refused: ErrMalformed},
		{name: "hard link to a climbing name", entries: []entry{hardlink("x", up+inside+"/secret")}, refused: ErrMalformed},
		{name: "hard link through a symlink", entries: []entry{symlink("d", canary), hardlink("x", "d/secret")}, refused: ErrMalformed},
		{name: "hard link to a symlink then write", entries: []entry{symlink("l", canary+"/secret"), hardlink("x", "l"), reg("x", "mine")}, has: []string{"x", "l"}},
		{name: "hard link to a directory", entries: []entry{dir("d", 0o755), hardlink("x", "d")}, refused: ErrMalformed},
		{name: "hard link to itself", entries: []entry{reg("x", "x"), hardlink("x", "x")}, refused: ErrMalformed},
		{name: "hard link to the root", entries: []entry{hardlink("x", "/")}, refused: ErrMalformed},
		{name: "hard link to what a lower layer links to", below: []entry{symlink("d", canary)}, entries: []entry{hardlink("x", "d/secret")}, refused: ErrMalformed},
		{name: "whiteout of the directory above", entries: []entry{dir("a", 0o755), whiteout("a/.wh...")}, refused: ErrMalformed},
		{name: "whiteout of its own directory", entries: []entry{dir("a", 0o755), whiteout("a/.wh..")}, refused: ErrMalformed},
		{name: "whiteout of no name", entries: []entry{whiteout("a/.wh.")}, refused: ErrMalformed},
		{name: "whiteout used as a directory", entries: []entry{reg(".wh.a/f", "x")}, refused: ErrMalformed},
		{name: "whiteout through a symlink", entries: []entry{symlink("x", canary), whiteout("x/.wh.secret")}, has: []string{"x"}},
		{name: "opaque directory through a symlink", entries: []entry{symlink("x", canary), whiteout("x/.wh..wh..opq")}, has: []string{"x"}},
		{name: "whiteout through a symlink of a lower layer", below: []entry{symlink("x", canary)}, entries: []entry{whiteout("x/.wh.secret"), whiteout("x/.wh..wh..opq")}, has: []string{"x"}},
		{name: "aufs metadata is passed over", entries: []entry{reg(".wh..wh.aufs", "x"), dir(".wh..wh.plnk", 0o700), reg(".wh..wh.plnk/17.42", "x"), reg("f", "x")}, has: []string{"f"}, lacks: []string{".wh..wh.aufs", ".wh..wh.plnk"}},
		{name: "overlay attributes", entries: []entry{
			dir("d", 0o755).xattr("trusted.overlay.opaque", "y").xattr("trusted.overlay.redirect", "/"+inside).xattr("user.overlay.opaque", "y"),
			reg("f", "x").xattr("trusted.overlay.metacopy", "")},
			below: []entry{dir("d", 0o755), reg("d/kept", "x")}, has: []string{"d/kept", "f"}},
		{name: "whiteout smuggled as a device", below: []entry{reg("f", "x")}, entries: []entry{device(tar.TypeChar, "f", 0, 0)}, lacks: []string{"f"}},
		{name: "devices and fifos are data", entries: []entry{
			device(tar.TypeBlock, "etc/passwd", 8, 0), device(tar.TypeChar, "dev/mem", 1, 1), fifo("etc/group"),
			device(tar.TypeChar, "usr", 1, 3), reg("usr", "replaced"), fifo("p"), reg("p", "replaced"), hardlink("q", "etc/group")},
			has: []string{"etc/passwd", "dev/mem", "etc/group", "usr", "p", "q"}},
		{name: "fifo used as a directory", entries: []entry{fifo("p"), reg("p/f", "x")}, refused: ErrMalformed},
		{name: "device number out of range", entries: []entry{device(tar.TypeChar, "d", 1<<12, 1)}, refused: ErrMalformed},
		{name: "minor out of range", entries: []entry{device(tar.TypeBlock, "d", 1, 1<<20)}, refused: ErrMalformed},
		{name: "owner out of range", entries: []entry{reg("f", "").with(func(h *tar.Header) { h.Uid = 1 << 32 })}, refused: ErrMalformed},
		{name: "owner that chown takes for none", entries: []entry{reg("f", "").with(func(h *tar.Header) { h.Gid = 1<<32 - 1 })}, refused: ErrMalformed},
		{name: "root that is a file", entries: []entry{withName(reg("", "x"), ".")}, refused: ErrMalformed},
		{name: "root that is a symlink", entries: []entry{symlink("..", canary)}, refused: ErrMalformed},
		{name: "whiteout of the root", entries: []entry{whiteout(".wh..wh..opq"), reg("f", "x")}, below: []entry{reg("g", "x")}, has: []string{"f"}, lacks: []string{"g"}},
		{name: "symlink to nothing", entries: []entry{symlink("x", "")}, refused: unix.ENOENT},
		{name: "symlink target over 4 kB", entries: []entry{symlink("x", strings.Repeat("a", 5000))}, refused: unix.ENAMETOOLONG},
		{name: "name over 4 kB", entries: []entry{reg(strings.Repeat("abcdefg/", 600)+"f", "x")}, refused: &LimitError{"Name", 4095}},
		{name: "component over 255 bytes", entries: []entry{reg(strings.Repeat("a", 256), "x")}, refused: unix.ENAMETOOLONG},
		{name: "too deep", entries: []entry{reg(strings.Repeat("a/", 600)+"f", "x")}, refused: &LimitError{"Depth", 512}},
		{name: "hard link target over 4 kB", entries: []entry{hardlink("x", strings.Repeat("a/", 3000))}, refused: ErrMalformed},
		{name: "last entry wins", entries: []entry{reg("f", "1"), dir("f", 0o755), reg("f/g", "x"), symlink("f", "1"), reg("f", "2"), dir("d", 0o755), dir("d", 0o700), reg("d", "x")}, has: []string{"f", "d"}, lacks: []string{"f/g"}},
		{name: "archive in an archive", entries: []entry{reg("x.tar", "\x00")}, has: []string{"x.tar"}},
		{name: "huge file of nothing", entries: []entry{sparseHuge()}, refused: &LimitError{"Bytes", untrusted.LayerBytes}},
	}
}

// sparseHuge is a file of 1 TiB, in an archive of some kB.
func sparseHuge() entry {
	e := reg("huge", "0\n")
	return e.with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"XNU.sparse.name": "huge", "XNU.sparse.size": "1099511627776", "XNU.sparse.numblocks": "1", "XNU.sparse.map": "0,2",
		}
	})
}

// makeCanary makes a directory of the host, for attacks to aim at.
func makeCanary(t testing.TB) string {
	t.Helper()
	canary := filepath.Join(t.TempDir(), "canary")
	for _, d := range []string{canary, canary + "/sub"} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(canary+"/secret", []byte("secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	return canary
}

// Whatever an archive says, nothing outside the store changes; and what is
// refused leaves nothing in it.
func TestHostileArchives(t *testing.T) {
	needRoot(t)
	canary := makeCanary(t)
	before := fingerprintOf(t, canary)
	for i, c := range slices.Repeat(hostileCases(canary), 2) {
		driver := Overlay
		if i >= len(hostileCases(canary)) {
			driver = Erofs
		}
		t.Run(string(driver)+"/"+c.name, func(t *testing.T) {
			s := open(t, Options{Driver: driver})
			var archives [][]byte
			if c.below != nil {
				archives = append(archives, archive(t, c.below...))
				unpack(t, s, archives...)
			}
			empty := namesIn(t, s)
			chain, err := s.Unpack(t.Context(), layers(append(archives, rawSparse(archive(t, c.entries...)))...), nil)
			if d := diff(before, fingerprintOf(t, canary)); d != "" {
				t.Fatalf("outside the store:\n%s", d)
			}
			if c.refused != nil {
				checkRefused(t, err, c.refused)
				if now := namesIn(t, s); now != empty {
					t.Errorf("left behind:\n%s", now)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, mounted(t, s, chain), c)
		})
	}
}

// rawSparse restores the records that describe a sparse file, which the tar
// writer refuses to write, from the names that they have in tests.
func rawSparse(a []byte) []byte {
	return bytes.ReplaceAll(a, []byte("XNU.sparse."), []byte("GNU.sparse."))
}

func checkRefused(t *testing.T, err, want error) {
	t.Helper()
	var limit, wanted *LimitError
	if errors.As(want, &wanted) {
		if !errors.As(err, &limit) || *limit != *wanted || !strings.Contains(err.Error(), limit.Limit) {
			t.Errorf("error %v, want the limit %v", err, want)
		}
	} else if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func checkTree(t *testing.T, tree map[string]string, c hostile) {
	t.Helper()
	for _, name := range c.has {
		if tree[name] == "" {
			t.Errorf("%s is missing from\n%s", name, lines(tree))
		}
	}
	for _, name := range c.lacks {
		if tree[name] != "" {
			t.Errorf("%s is there: %s", name, tree[name])
		}
	}
}

// namesIn lists everything in the store.
func namesIn(t testing.TB, s *Store) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if !strings.HasSuffix(path, ".lock") && filepath.Base(path) != "lock" {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// Archives that are broken as such.
func TestBrokenArchives(t *testing.T) {
	good := archive(t, ownDir("d"), own(reg("d/f", strings.Repeat("data", 1000))), own(reg("g", "x")))
	flip := func(at int) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= 0x55
		return bad
	}
	var gnu bytes.Buffer
	w := tar.NewWriter(&gnu)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "n", Uid: -1, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for name, c := range map[string]struct {
		data    []byte
		diffID  digest.Digest
		refused error
	}{
		"empty":                       {data: nil},
		"only zeros":                  {data: make([]byte, 10240)},
		"no end mark":                 {data: good[:len(good)-1024]},
		"trailing zeros":              {data: append(bytes.Clone(good), make([]byte, 100000)...)},
		"trailing data":               {data: append(bytes.Clone(good), "and more"...)},
		"another archive behind":      {data: append(bytes.Clone(good), good...)},
		"truncated in data":           {data: good[:5000], refused: ErrMalformed},
		"truncated in a header":       {data: good[:1700], refused: ErrMalformed},
		"truncated before a header":   {data: good[:1024], diffID: digest.FromBytes(good), refused: ErrDigest},
		"truncated, by its digest":    {data: good[:len(good)-1024], diffID: digest.FromBytes(good), refused: ErrDigest},
		"other content":               {data: good, diffID: digest.FromString("other"), refused: ErrDigest},
		"trailing data, by digest":    {data: append(bytes.Clone(good), 0), diffID: digest.FromBytes(good), refused: ErrDigest},
		"bad checksum":                {data: flip(3), refused: ErrMalformed},
		"no archive":                  {data: bytes.Repeat([]byte("not a tar archive. "), 100), refused: ErrMalformed},
		"negative owner":              {data: gnu.Bytes(), refused: ErrMalformed},
		"no digest":                   {data: good, diffID: "sha256:../../etc", refused: digest.ErrDigestInvalidLength},
		"digest of unknown algorithm": {data: good, diffID: "md5:d41d8cd98f00b204e9800998ecf8427e", refused: digest.ErrDigestUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Rootless: os.Geteuid() != 0})
			empty := namesIn(t, s)
			staged, err := s.Extract(t.Context(), c.diffID, bytes.NewReader(c.data), ExtractOptions{})
			if c.refused != nil {
				checkRefused(t, err, c.refused)
			} else if err != nil {
				t.Fatal(err)
			} else {
				if staged.DiffID != digest.FromBytes(c.data) {
					t.Errorf("diff id %s does not cover all data", staged.DiffID)
				}
				if err := staged.Discard(); err != nil {
					t.Error(err)
				}
			}
			if now := namesIn(t, s); now != empty {
				t.Errorf("left behind:\n%s", now)
			}
		})
	}
}

// own makes an entry belong to this user, so that tests need no privilege.
func own(e entry) entry {
	return e.with(func(h *tar.Header) { h.Uid, h.Gid = os.Geteuid(), os.Getegid() })
}

func ownDir(name string) entry { return own(dir(name, 0o755)) }

// endless is a bomb: head, and then tail again and again.
type endless struct {
	head, tail []byte
	at         int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.head)
	e.head = e.head[n:]
	for n < len(p) {
		m := copy(p[n:], e.tail[e.at:])
		n, e.at = n+m, (e.at+m)%len(e.tail)
	}
	return n, nil
}

// Bombs end at a limit, which the error names.
func TestLimits(t *testing.T) {
	one := archive(t, own(reg("f", "x")))
	header := one[:4*512]
	for name, c := range map[string]struct {
		limits  Limits
		r       io.Reader
		refused *LimitError
	}{
		"endless zeros behind the archive": {Limits{Bytes: 1 << 20}, &endless{head: one, tail: make([]byte, 512)}, &LimitError{"Bytes", 1 << 20}},
		"endless entries":                  {Limits{Entries: 100}, &endless{tail: header}, &LimitError{"Entries", 100}},
		"endless entries, by length":       {Limits{Bytes: 1 << 20}, &endless{tail: header}, &LimitError{"Bytes", 1 << 20}},
		"large file":                       {Limits{Bytes: 99}, bytes.NewReader(archive(t, own(reg("f", strings.Repeat("x", 100))))), &LimitError{"Bytes", 99}},
		"many small files":                 {Limits{Bytes: 8000}, bytes.NewReader(archive(t, own(reg("f", strings.Repeat("x", 5000))), own(reg("g", strings.Repeat("x", 5000))))), &LimitError{"Bytes", 8000}},
		"deep":                             {Limits{Depth: 3}, bytes.NewReader(archive(t, own(reg("a/b/c/d", "")))), &LimitError{"Depth", 3}},
		"long name":                        {Limits{Name: 10}, bytes.NewReader(archive(t, own(reg("abcdefghijk", "")))), &LimitError{"Name", 10}},
		"much to remember":                 {Limits{Notes: 1000}, bytes.NewReader(archive(t, ownDir("a"), ownDir("b"), ownDir("c"), ownDir("d"))), &LimitError{"Notes", 1000}},
		"much to remember, implied":        {Limits{Notes: 1000}, bytes.NewReader(archive(t, own(reg("a/b/c/d/e", "")))), &LimitError{"Notes", 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Rootless: os.Geteuid() != 0, Limits: c.limits})
			empty := namesIn(t, s)
			_, err := s.Extract(t.Context(), "", c.r, ExtractOptions{})
			checkRefused(t, err, c.refused)
			if now := namesIn(t, s); now != empty {
				t.Errorf("left behind:\n%s", now)
			}
		})
	}
}

// A source that fails, or a caller who gives up, leaves nothing behind.
// What the store of images lets in can be unpacked: a layer is not limited twice.
func TestLimitIsThatOfImages(t *testing.T) {
	if got := (Limits{}).defaults().Bytes; got != untrusted.LayerBytes {
		t.Errorf("a layer may have %d bytes, want %d", got, int64(untrusted.LayerBytes))
	}
}

func TestExtractionBrokenOff(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	empty := namesIn(t, s)
	broken := errors.New("connection lost")
	a := archive(t, own(reg("f", strings.Repeat("x", 1<<20))))
	_, err := s.Extract(t.Context(), "", io.MultiReader(bytes.NewReader(a[:5000]), errReader{broken}), ExtractOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Extract(ctx, "", &endless{head: a, tail: a}, ExtractOptions{Progress: func(n int64) {
		if n > 10<<20 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if now := namesIn(t, s); now != empty {
		t.Errorf("left behind:\n%s", now)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
