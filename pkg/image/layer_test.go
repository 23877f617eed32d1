package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/internal/untrusted"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func readLayer(blob []byte, diffID digest.Digest, limits Limits) ([]byte, error) {
	return readLayerFrom(bytes.NewReader(blob), diffID, limits)
}

func readLayerFrom(blob io.Reader, diffID digest.Digest, limits Limits) ([]byte, error) {
	r, err := NewLayerReader(io.NopCloser(blob), diffID, limits)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestLayerReaderVerifiesEveryCompression(t *testing.T) {
	tarball := testimage.Tar(testimage.File{Name: "f", Body: "some text, some text, some text"})
	for _, compression := range []string{"gzip", "zstd", "none"} {
		img := testimage.Build(testimage.Options{Layers: [][]byte{tarball}, Compress: compression})
		blob := img.Layers[0].Data
		if got, err := readLayer(blob, img.DiffIDs[0], Limits{}); err != nil || !bytes.Equal(got, tarball) {
			t.Errorf("%s: %d bytes, %v", compression, len(got), err)
		}
		_, err := readLayer(blob, digest.FromString("other"), Limits{})
		expectError(t, err, ErrCorrupt, "layer "+digest.FromString("other").String()+": uncompressed it has digest "+img.DiffIDs[0].String()+": corrupt content")
		_, err = readLayer(blob[:len(blob)-9], img.DiffIDs[0], Limits{})
		expectError(t, err, ErrCorrupt, "")
		_, err = readLayer(blob, img.DiffIDs[0], Limits{MaxBytes: 100})
		expectError(t, err, ErrLimit, "layer "+img.DiffIDs[0].String()+": uncompressed larger than 100 bytes: limit exceeded")
		broken := errors.New("cable cut")
		_, err = readLayerFrom(io.MultiReader(bytes.NewReader(blob[:40]), iotest.ErrReader(broken)), img.DiffIDs[0], Limits{})
		expectError(t, err, broken, "layer "+img.DiffIDs[0].String()+": cable cut")
	}
	_, err := readLayer(tarball, "md5:0", Limits{})
	expectError(t, err, ErrInvalid, "")
}

func TestBrokenCompressionIsCorrupt(t *testing.T) {
	for _, blob := range []string{"\x1f\x8b\x08junk", "\x1f\x8b\x08" + string(make([]byte, 50)), "\x28\xb5\x2f\xfdjunkjunkjunk"} {
		_, err := readLayer([]byte(blob), digest.FromString(""), Limits{})
		expectError(t, err, ErrCorrupt, "")
	}
}

func TestGzipMembersAreJoined(t *testing.T) {
	var blob bytes.Buffer
	for _, part := range []string{"first", "second"} {
		w := gzip.NewWriter(&blob)
		io.WriteString(w, part)
		w.Close()
	}
	if got, err := readLayer(blob.Bytes(), digest.FromString("firstsecond"), Limits{}); err != nil || string(got) != "firstsecond" {
		t.Errorf("got %q, %v", got, err)
	}
}

// zeros is a source of zeros without end.
var zeros = readerFunc(func(p []byte) (int, error) { clear(p); return len(p), nil })

func TestDecompressionBombsAreStopped(t *testing.T) {
	var gz, zs bytes.Buffer
	g, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(&zs, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := io.CopyN(w, zeros, size); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	for name, bomb := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		r, err := newDecompressor(bytes.NewReader(bomb), Limits{MaxRatio: 100, RatioFloor: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		r.Close()
		if !errors.Is(err, ErrLimit) || n > size/2 {
			t.Errorf("%s bomb of %d bytes: read %d, %v", name, len(bomb), n, err)
		}
	}
}

func TestZstdWindowIsBounded(t *testing.T) {
	// A frame header (RFC 8878 section 3.1.1.1) that asks for a window of 2 GiB.
	blob := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0}
	_, err := readLayer(blob, digest.FromString(""), Limits{})
	expectError(t, err, ErrLimit, "layer "+digest.FromString("").String()+": zstd window larger than 134217728 bytes: limit exceeded")
}

// What is let in here can be unpacked: a layer is not limited twice.
func TestLimitIsThatOfSnapshots(t *testing.T) {
	d, err := newDecompressor(bytes.NewReader([]byte("not compressed")), Limits{})
	if err != nil || d.limits.MaxBytes != untrusted.LayerBytes {
		t.Errorf("a layer may have %d bytes, want %d: %v", d.limits.MaxBytes, int64(untrusted.LayerBytes), err)
	}
}
