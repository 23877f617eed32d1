package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// transcript is what a reader of archives says of one, entry by entry, to its end.
func transcript(next func() (*tar.Header, error), read func(io.Writer, *tar.Header) error) string {
	var b strings.Builder
	for n := 0; ; n++ {
		h, err := next()
		if err != nil {
			fmt.Fprintln(&b, "end:", plainError(err))
			return b.String()
		}
		fmt.Fprintf(&b, "%q %q %c %o %d:%d %d %v %v %v", h.Name, h.Linkname, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UnixNano(), h.AccessTime.UnixNano(), h.PAXRecords)
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			fmt.Fprintf(&b, " %d,%d", h.Devmajor, h.Devminor)
		}
		if n%3 != 2 { // what nobody reads is passed over
			sum := digest.Canonical.Digester()
			err := read(sum.Hash(), h)
			fmt.Fprint(&b, " ", sum.Digest(), " ", plainError(err))
			if err != nil {
				return b.String()
			}
		}
		fmt.Fprintln(&b)
	}
}

// plainError is the kind of an error: how the two readers describe it may differ.
func plainError(err error) error {
	for _, kind := range []error{io.ErrUnexpectedEOF, io.EOF, tar.ErrHeader} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

// theirs is what archive/tar says.
func theirs(data []byte) string {
	r := tar.NewReader(bytes.NewReader(data))
	return transcript(r.Next, func(w io.Writer, _ *tar.Header) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// ours is what entries says.
func ours(t testing.TB, data []byte) string {
	in := newStream(t.Context(), bytes.NewReader(data), digest.Canonical, 1<<40, nil)
	defer in.close()
	e := &entries{in: in}
	buf := make([]byte, 1000)
	return transcript(e.next, func(w io.Writer, h *tar.Header) error {
		if isHeaderOnly(h.Typeflag) {
			return nil
		}
		for left := h.Size; left > 0; {
			part, err := e.take(left, buf)
			w.Write(part)
			if err != nil {
				return unexpected(err)
			}
			left -= int64(len(part))
		}
		return nil
	})
}

func sameTranscript(t testing.TB, data []byte) {
	t.Helper()
	if have, want := ours(t, data), theirs(data); have != want {
		t.Errorf("an archive of %d bytes is read as\n%s\nand by archive/tar as\n%s\n%q", len(data), have, want, data[:min(len(data), 3000)])
	}
}

// variedArchives are archives of every format, with what is usual and what is not.
func variedArchives(t testing.TB) [][]byte {
	t.Helper()
	long := strings.Repeat("long/", 18)
	var all [][]byte
	for _, format := range []tar.Format{tar.FormatUnknown, tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i, h := range []tar.Header{
			{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o755},
			{Typeflag: tar.TypeReg, Name: "dir/file", Mode: 0o4644, Uid: 1000, Gid: 7, Size: 700},
			{Typeflag: tar.TypeReg, Name: "empty", Mode: 0o600},
			{Typeflag: tar.TypeReg, Name: "block", Size: 512},
			{Typeflag: tar.TypeXGlobalHeader, Name: "global", PAXRecords: map[string]string{"comment": "x"}},
			{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "dir/file", Mode: 0o777},
			{Typeflag: tar.TypeReg, Name: long + long + "name", Size: 3},
			{Typeflag: tar.TypeReg, Name: long + "name", Size: 1025},
			{Typeflag: tar.TypeLink, Name: "hard", Linkname: long + long},
			{Typeflag: tar.TypeReg, Name: "größe", Size: 10, ModTime: time.Unix(1700000000, 5000)},
			{Typeflag: tar.TypeReg, Name: "owner", Size: 10, Uid: 1 << 30},
			{Typeflag: tar.TypeReg, Name: "xattrs", Size: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}},
			{Typeflag: tar.TypeChar, Name: "device", Devmajor: 1, Devminor: 3},
			{Typeflag: tar.TypeFifo, Name: "fifo"},
			{Typeflag: tar.TypeReg, Name: "last", Size: 300 << 10, ModTime: time.Unix(1e9, 0)},
		} {
			if h.Format = format; h.ModTime.IsZero() {
				h.ModTime = time.Unix(int64(i)*1e7, 0)
			}
			if w.WriteHeader(&h) != nil { // this format cannot hold it
				continue
			}
			if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Bytes())
	}
	return all
}

// Every archive, whole or cut off anywhere, is read as archive/tar reads it.
func TestEntriesAreThoseOfArchiveTar(t *testing.T) {
	for _, data := range variedArchives(t) {
		sameTranscript(t, data)
		for _, n := range []int{0, 1, 511, 512, 513, 1024, 1700, 2048, 2500, 4096, 6000, len(data) - 1024, len(data) - 512, len(data) - 1} {
			sameTranscript(t, data[:min(n, len(data))])
		}
	}
}

// So is one in whose headers bytes were changed, also if the sum of the header agrees.
func TestChangedEntriesAreThoseOfArchiveTar(t *testing.T) {
	const seed, rounds = 20261129, 2000
	random := rand.New(rand.NewPCG(seed, seed))
	interesting := []byte{0, ' ', '0', '1', '5', '7', '8', '9', '-', '/', 0x80, 0xff, 'S', 'x', 'g', 'L'}
	fast := 0
	for round, archives := 0, variedArchives(t); round < rounds; round++ {
		data := bytes.Clone(archives[random.IntN(len(archives))][:8<<10])
		for range 1 + random.IntN(3) {
			block := data[random.IntN(len(data)/tarBlock)*tarBlock:][:tarBlock]
			block[random.IntN(tarBlock)] = interesting[random.IntN(len(interesting))]
			if random.IntN(8) > 0 {
				copy(block[148:156], fmt.Sprintf("%06o\x00 ", checksum(block)))
			}
			if parsePlain(block, new(tar.Header)) {
				fast++
			}
		}
		if sameTranscript(t, data); t.Failed() {
			t.Fatalf("in round %d of seed %d", round, seed)
		}
	}
	if fast < rounds/10 {
		t.Errorf("only %d of the changed headers were plain: the test sees little", fast)
	}
}

// FuzzEntries looks for archives that are read otherwise than archive/tar reads them.
func FuzzEntries(f *testing.F) {
	for _, data := range variedArchives(f) {
		f.Add(data[:4<<10])
	}
	f.Fuzz(func(t *testing.T, data []byte) { sameTranscript(t, data) })
}

// What is usual is read here.
func TestPlainEntriesAreReadHere(t *testing.T) {
	const usual = 8 // in each
	for i, data := range variedArchives(t) {
		in := newStream(t.Context(), bytes.NewReader(data), digest.Canonical, 1<<40, nil)
		e, plain := &entries{in: in}, 0
		for {
			_, err := e.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.slow == nil {
				plain++
			}
		}
		in.close()
		if plain != usual {
			t.Errorf("archive %d: %d plain entries, want %d", i, plain, usual)
		}
	}
}
