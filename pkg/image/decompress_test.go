package image

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"io"
	"testing"
)

// The same archive of one file, by `xz -0` and `bzip2 -1`.
const (
	xzArchive = "/Td6WFoAAATm1rRGAgAhAQwAAACPmEGc4Cf/AGhdADMaSda2OCGvAe5uAhSJBjaujOqHzH8nVuT6GfJ39YRiy5Tm1t486IaF/0Tlh07jZV1vhdj0RNIDmskE" +
		"+53+FW0eloaYvvun3Yr2cHxGluMj7zqppmyLAojDoJ/CaMKkMP6a69kc2aIAADeYgz4qW2nrAAGEAYBQAAAoM/H6scRn+wIAAAAABFla"
	bzip2Archive = "QlpoMTFBWSZTWUs4S3IAAHj7kMmAAEJAAHcAAARjZJ4ABAAACCAAVCUUGgA8oMT1BJKZA0aeo0DQVPqStghB3ckJE46MPXPG9AhhMD2IRSDqJaNjm7LK9RqT" +
		"7ilZyOj0q7xcRHKIgfi7kinChIJZwluQ"
)

// What xz and bzip2 have compressed is read; whatever is changed or missing in it is an error, or changes nothing; and what expands
// too much ends at the bounds.
func TestArchivesOfXZAndBzip2(t *testing.T) {
	for name, text := range map[string]string{"xz": xzArchive, "bzip2": bzip2Archive} {
		whole, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		read := func(data []byte, limits Limits) ([]byte, error) {
			d, err := newArchiveReader(bytes.NewReader(data), limits)
			if err != nil {
				return nil, err
			}
			defer d.Close()
			return io.ReadAll(d)
		}
		want, err := read(whole, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h, err := tar.NewReader(bytes.NewReader(want)).Next(); err != nil || h.Name != "file" || h.Size != 5 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		for i := range whole {
			changed := bytes.Clone(whole)
			changed[i] ^= 0x55
			if got, err := read(changed, Limits{}); err == nil && i >= len(xzMagic) && !bytes.Equal(got, want) {
				t.Errorf("%s: byte %d is another, and nobody noticed", name, i)
			}
			if got, err := read(whole[:i], Limits{}); err == nil && i >= len(xzMagic) {
				t.Errorf("%s: cut off at %d: %d bytes", name, i, len(got))
			}
		}
		_, err = read(whole, Limits{MaxBytes: 1000})
		expectError(t, err, ErrLimit, "")
		_, err = read(whole, Limits{MaxRatio: 2, RatioFloor: 1})
		expectError(t, err, ErrLimit, "")
	}
}
