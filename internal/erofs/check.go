package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Sum is what is noted of a finished image, for [Check].
type Sum struct {
	// From is where directories and metadata begin, in bytes. They go on to the end of the image.
	From int64 `json:"from"`
	// CRC is their CRC-32C.
	CRC uint32 `json:"crc"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Check compares an image with its superblock and with what was noted of it. Data of files in blocks of their own are not
// looked at: nothing is known of them. An error says what is wrong, or what cannot be read.
func Check(image string, noted Sum) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, Block)
	if _, err := io.ReadFull(f, b); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	s, le := b[superAt:], binary.LittleEndian
	sum := le.Uint32(s[4:])
	le.PutUint32(s[4:], 0)
	if le.Uint32(s) != magic || ^crc32.Checksum(s, castagnoli) != sum {
		return errors.New("its superblock is not what was written")
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if size := int64(le.Uint32(s[36:])) << blockBits; st.Size() != size {
		return fmt.Errorf("it has %d bytes, not %d", st.Size(), size)
	}
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(crc, io.NewSectionReader(f, noted.From, st.Size()-noted.From)); err != nil {
		return err
	}
	if crc.Sum32() != noted.CRC {
		return errors.New("its directories and metadata are not what was written")
	}
	return nil
}
