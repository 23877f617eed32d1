package logs

import (
	"encoding/binary"
	"hash/crc32"
	"os"
)

// position is how far a log has come.
type position struct {
	// size and inode are those of the file that grows: what counts of it.
	size  int64
	inode uint64
	// tray is the stream whose tray is in the log and has to be emptied; 0 for none.
	tray Stream
	// tails are the beginnings of lines that are not complete, by stream.
	tails [2][]byte
}

// positionFile has room for two positions, of which the newer one that is whole counts;
// they are written in turns. Behind them is the number of the last position whose tray
// has been emptied.
//
//	 0  checksum of what follows   4 bytes
//	 4  number                     8
//	12  size                       8
//	20  inode                      8
//	28  tray                       4
//	32  lengths of the tails       4 + 4
//	40  the tails
type positionFile struct {
	file   *os.File
	number uint64
}

const (
	slotHeader = 40
	slotSize   = 36 << 10
	emptiedAt  = 2 * slotSize
)

func openPosition(path string) (*positionFile, position, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, position{}, err
	}
	p := &positionFile{file: f}
	var at position
	b := make([]byte, slotSize)
	for slot := range int64(2) {
		n, _ := f.ReadAt(b, slot*slotSize) // short at the end of the file
		if number, found, ok := readSlot(b[:n]); ok && number > p.number {
			p.number, at = number, found
		}
	}
	var emptied [8]byte
	if _, err := f.ReadAt(emptied[:], emptiedAt); err == nil && binary.LittleEndian.Uint64(emptied[:]) >= p.number {
		at.tray = 0
	}
	return p, at, nil
}

func readSlot(b []byte) (number uint64, at position, ok bool) {
	if len(b) < slotHeader {
		return 0, at, false
	}
	first := int(binary.LittleEndian.Uint32(b[32:]))
	second := int(binary.LittleEndian.Uint32(b[36:]))
	if first > MaxLine || second > MaxLine || len(b) < slotHeader+first+second {
		return 0, at, false
	}
	b = b[:slotHeader+first+second]
	if crc32.ChecksumIEEE(b[4:]) != binary.LittleEndian.Uint32(b) {
		return 0, at, false
	}
	at.size = int64(binary.LittleEndian.Uint64(b[12:]))
	at.inode = binary.LittleEndian.Uint64(b[20:])
	at.tray = Stream(b[28])
	at.tails[0] = append([]byte(nil), b[slotHeader:slotHeader+first]...)
	at.tails[1] = append([]byte(nil), b[slotHeader+first:]...)
	return binary.LittleEndian.Uint64(b[4:]), at, true
}

// write makes at the position that counts.
func (p *positionFile) write(at *position) error {
	b := make([]byte, slotHeader, slotHeader+len(at.tails[0])+len(at.tails[1]))
	p.number++
	binary.LittleEndian.PutUint64(b[4:], p.number)
	binary.LittleEndian.PutUint64(b[12:], uint64(at.size))
	binary.LittleEndian.PutUint64(b[20:], at.inode)
	b[28] = byte(at.tray)
	binary.LittleEndian.PutUint32(b[32:], uint32(len(at.tails[0])))
	binary.LittleEndian.PutUint32(b[36:], uint32(len(at.tails[1])))
	b = append(append(b, at.tails[0]...), at.tails[1]...)
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	_, err := p.file.WriteAt(b, int64(p.number%2)*slotSize)
	return err
}

// emptied takes note that the tray of the position is empty.
func (p *positionFile) emptied() error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], p.number)
	_, err := p.file.WriteAt(b[:], emptiedAt)
	return err
}
