package snapshot

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"time"
)

// entries reads an archive, entry by entry. Nearly all entries of nearly all layers have one plain header (POSIX.1-1988,
// "ustar", or what GNU tar makes of it), which is read here at a fraction of the cost; whatever is unusual about a header
// leaves the entry to archive/tar. A test holds both against each other.
type entries struct {
	in   *stream
	slow *tar.Reader // it has read the entry at hand; nil: we have
	h    tar.Header  // of the entry at hand, if we have read it
	rest int64       // of its data
	pad  int64       // from the end of the data to that of its block
	bare bool        // slow does not leave more than the data and pad
}

// tarBlock is the unit of archives, in bytes.
const tarBlock = 512

// next goes on to the next entry. The header is valid until then. Errors are those of archive/tar, and io.EOF at the end.
func (e *entries) next() (*tar.Header, error) {
	if e.slow != nil && !e.bare {
		return e.nextSlowly()
	}
	if e.slow != nil {
		if _, err := io.Copy(io.Discard, e.slow); err != nil {
			return nil, err
		}
		e.slow = nil
	}
	if err := e.in.skip(e.rest); err != nil {
		return nil, unexpected(err)
	}
	if err := e.in.skip(e.pad); err != nil {
		return nil, err
	}
	e.rest, e.pad = 0, 0
	if block := e.in.peek(tarBlock); block == nil || !parsePlain(block, &e.h) {
		e.slow = tar.NewReader(e.in)
		return e.nextSlowly()
	}
	e.rest, e.pad = e.h.Size, -e.h.Size&(tarBlock-1)
	return &e.h, e.in.skip(tarBlock)
}

// nextSlowly has archive/tar read the next entry, and finds out whether what comes after its data is known.
func (e *entries) nextSlowly() (*tar.Header, error) {
	h, err := e.slow.Next()
	if h == nil {
		return nil, err
	}
	e.bare = h.Typeflag != tar.TypeXGlobalHeader && !isSparse(h)
	e.rest, e.pad = 0, 0
	if !isHeaderOnly(h.Typeflag) {
		e.pad = -h.Size & (tarBlock - 1)
	}
	return h, err
}

// isHeaderOnly reports whether an entry of a type has no data, whatever its size is said to be.
func isHeaderOnly(typeflag byte) bool {
	return typeflag >= tar.TypeLink && typeflag <= tar.TypeFifo
}

// take returns some of the data of the entry, at most n bytes, which are valid until the next call of e.
func (e *entries) take(n int64, buf []byte) ([]byte, error) {
	if e.slow != nil {
		m, err := io.ReadFull(e.slow, buf[:min(n, int64(len(buf)))])
		return buf[:m], err
	}
	data, err := e.in.take(min(n, e.rest))
	e.rest -= int64(len(data))
	return data, err
}

// Where a plain header has its fields.
var (
	nameField     = field{0, 100}
	modeField     = field{100, 8}
	uidField      = field{108, 8}
	gidField      = field{116, 8}
	sizeField     = field{124, 12}
	timeField     = field{136, 12}
	sumField      = field{148, 8}
	linkField     = field{157, 100}
	magicField    = field{257, 8} // and version
	majorField    = field{329, 8}
	minorField    = field{337, 8}
	prefixField   = field{345, 155}
	trailingField = field{500, 12}
)

const typeOffset = 156

// field is a part of a header.
type field struct{ offset, size int }

func (f field) of(block []byte) []byte { return block[f.offset : f.offset+f.size] }

// text returns what precedes the first zero.
func (f field) text(block []byte) []byte {
	b := f.of(block)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// octal parses digits with nothing but spaces and zeros after them.
func (f field) octal(block []byte) (v int64, ok bool) {
	b := f.of(block)
	i := 0
	for ; i < len(b) && b[i]-'0' < 8; i++ {
		v = v<<3 | int64(b[i]-'0')
	}
	for ; i < len(b); i++ {
		if b[i] != ' ' && b[i] != 0 {
			return 0, false
		}
	}
	return v, true
}

// empty reports whether a field is all zeros.
func (f field) empty(block []byte) bool {
	for _, c := range f.of(block) {
		if c != 0 {
			return false
		}
	}
	return true
}

// parsePlain parses the header of a regular file, directory or link that is complete in itself. It reports whether it is
// one; if not, h is of no use.
func parsePlain(block []byte, h *tar.Header) bool {
	if sum, ok := sumField.octal(block); !ok || sum != checksum(block) {
		return false
	}
	*h = tar.Header{Typeflag: block[typeOffset]}
	switch magic := magicField.of(block); {
	case string(magic) == "ustar\x0000" && trailingField.empty(block):
	case string(magic) == "ustar  \x00" && prefixField.empty(block) && trailingField.empty(block): // GNU tar's has no prefix
	default:
		return false
	}
	var ok [7]bool
	var mode, uid, gid, mtime int64
	mode, ok[0] = modeField.octal(block)
	uid, ok[1] = uidField.octal(block)
	gid, ok[2] = gidField.octal(block)
	h.Size, ok[3] = sizeField.octal(block)
	mtime, ok[4] = timeField.octal(block)
	_, ok[5] = majorField.octal(block)
	_, ok[6] = minorField.octal(block)
	if ok != [7]bool{true, true, true, true, true, true, true} {
		return false
	}
	h.Mode, h.Uid, h.Gid, h.ModTime = mode, int(uid), int(gid), time.Unix(mtime, 0)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir, tar.TypeLink, tar.TypeSymlink:
		if h.Size != 0 {
			return false
		}
	default:
		return false
	}
	h.Name, h.Linkname = string(nameField.text(block)), string(linkField.text(block))
	if prefix := prefixField.text(block); len(prefix) > 0 {
		h.Name = string(prefix) + "/" + h.Name
	}
	return true
}

// checksum is the sum of a header's bytes, those of the sum itself taken for spaces. It adds eight bytes at a time, in
// four lanes of 16 bits, which hold the sum of 128 bytes each.
func checksum(block []byte) int64 {
	const lanes = 0x00ff00ff00ff00ff
	var sum uint64
	for i := 0; i < tarBlock; i += 8 {
		x := binary.LittleEndian.Uint64(block[i : i+8])
		sum += x&lanes + x>>8&lanes
	}
	all := int64(sum&0xffff + sum>>16&0xffff + sum>>32&0xffff + sum>>48)
	for _, c := range sumField.of(block) {
		all += ' ' - int64(c)
	}
	return all
}
