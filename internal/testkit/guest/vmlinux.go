package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// errNoVmlinux means that a kernel image must be booted as it is.
var errNoVmlinux = errors.New("kernel image holds no directly bootable ELF file")

// vmlinux takes the ELF kernel out of an x86 bzImage. QEMU starts it at its PVH entry point, which saves the guest
// the decompression: one to two seconds under emulation. The layout of the image is in the kernel's
// Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, the magic at 0x202, payload_offset and payload_length at
// 0x248, relative to the protected-mode code that follows the setup sectors.
func vmlinux(image []byte) ([]byte, error) {
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" {
		return nil, fmt.Errorf("no bzImage: %w", errNoVmlinux)
	}
	sectors := uint64(image[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + uint64(binary.LittleEndian.Uint32(image[0x248:]))
	length := uint64(binary.LittleEndian.Uint32(image[0x24c:]))
	if length < 8 || start+length > uint64(len(image)) {
		return nil, fmt.Errorf("payload of %d bytes at %d in %d: %w", length, start, len(image), errNoVmlinux)
	}
	kernel, err := decompress(image[start : start+length])
	if err != nil {
		return nil, err
	}
	if err := checkPVH(kernel); err != nil {
		return nil, err
	}
	return kernel, nil
}

// decompress undoes the compressions that Debian has used for kernels. All but gzip have four bytes appended, the
// length of the result, which is no part of their format.
func decompress(payload []byte) ([]byte, error) {
	body := payload[:len(payload)-4]
	switch {
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		r.Multistream(false)
		return io.ReadAll(r)
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.DecodeAll(body, nil)
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}):
		return io.ReadAll(lz4.NewReader(bytes.NewReader(body)))
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		return unxz(body)
	}
	return nil, fmt.Errorf("payload begins with % x: %w", payload[:4], errNoVmlinux)
}

// unxz runs xz(1), there being no decompressor for it among the project's modules.
func unxz(b []byte) ([]byte, error) {
	cmd := exec.Command("xz", "--decompress", "--stdout", "--single-stream")
	cmd.Stdin = bytes.NewReader(b)
	out, err := output(cmd)
	return []byte(out), err
}

// checkPVH looks for the note that tells QEMU the entry point: name Xen, type 18 (XEN_ELFNOTE_PHYS32_ENTRY).
func checkPVH(kernel []byte) error {
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoVmlinux, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return err
		}
		for len(notes) >= 12 {
			name := int(f.ByteOrder.Uint32(notes))
			desc := int(f.ByteOrder.Uint32(notes[4:]))
			end := 12 + align4(name) + align4(desc)
			if name < 0 || desc < 0 || end > len(notes) {
				break
			}
			if f.ByteOrder.Uint32(notes[8:]) == 18 && bytes.HasPrefix(notes[12:], []byte("Xen\x00")) {
				return nil
			}
			notes = notes[end:]
		}
	}
	return fmt.Errorf("no PVH entry point: %w", errNoVmlinux)
}

func align4(n int) int { return (n + 3) &^ 3 }
