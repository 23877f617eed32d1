package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// entry is one entry of an archive in a test.
type entry struct {
	tar.Header
	data string
}

var stamp = time.Unix(1700000000, 123456789)

func dir(name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func reg(name, data string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, data: data}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

func fifo(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o622}}
}

func device(kind byte, name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}}
}

func whiteout(name string) entry { return reg(name, "") }

// with changes the header of an entry.
func (e entry) with(change func(*tar.Header)) entry {
	e.PAXRecords = maps.Clone(e.PAXRecords)
	change(&e.Header)
	return e
}

func (e entry) xattr(name, value string) entry {
	return e.with(func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	})
}

// archive writes entries in PAX format.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = stamp
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("header of %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatalf("data of %q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layers makes what Unpack takes of archives, the base first.
func layers(archives ...[]byte) []Layer {
	var all []Layer
	for _, a := range archives {
		all = append(all, Layer{
			DiffID: digest.FromBytes(a),
			Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(a)), nil
			},
		})
	}
	return all
}

// open makes a store in a temporary directory.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.TempDir()+"/snapshots", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unpack unpacks archives into s.
func unpack(t testing.TB, s *Store, archives ...[]byte) ChainID {
	t.Helper()
	chain, err := s.Unpack(t.Context(), layers(archives...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func lines(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(k + ": " + m[k] + "\n")
	}
	return b.String()
}
