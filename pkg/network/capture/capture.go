// Package capture writes the packets of a network down.
//
// # Theory of operation
//
// A packet socket, packet(7), that is opened in a network namespace gets a copy of every packet that a device there sends
// or receives, with the device's number and the kernel's time. Each is written as one block of a file in the format pcapng,
// which tcpdump and Wireshark read: it has the names of the devices, and which way a packet went.
//
// The socket keeps the namespace alive, so its end is no sign: who captures is told the end by a descriptor that becomes
// readable, a pidfd. What comes faster than it can be written is dropped by the kernel, which counts it.
package capture

import (
	"encoding/binary"
	"io"
	"time"
)

// Packet is one packet.
type Packet struct {
	// Interface is the number of its device, from Writer.Interface.
	Interface int
	Time      time.Time
	// Sent: it left through the device; else it came.
	Sent bool
	// Data is its beginning, and Length how long it was.
	Data   []byte
	Length int
}

// Writer writes a file in the format pcapng, version 1.0. https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/
type Writer struct {
	out        io.Writer
	interfaces int
	snapshot   int
}

// Types of blocks, and numbers of options.
const (
	sectionBlock   = 0x0A0D0D0A
	interfaceBlock = 1
	packetBlock    = 6

	optionEnd         = 0
	optionApplication = 4 // shb_userappl
	optionName        = 2 // if_name
	optionResolution  = 9 // if_tsresol
	optionFlags       = 2 // epb_flags
)

// NewWriter begins a file. Packets will have at most snapshot bytes.
func NewWriter(out io.Writer, snapshot int) (*Writer, error) {
	w := &Writer{out: out, snapshot: snapshot}
	body := binary.NativeEndian.AppendUint32(nil, 0x1A2B3C4D) // from which readers see the order of bytes
	body = binary.NativeEndian.AppendUint16(body, 1)
	body = binary.NativeEndian.AppendUint16(body, 0)
	body = binary.NativeEndian.AppendUint64(body, ^uint64(0)) // how long the section is: not known
	body = option(body, optionApplication, []byte("containr"))
	return w, w.block(sectionBlock, option(body, optionEnd, nil))
}

// Interface adds an Ethernet device, and returns its number in this file.
func (w *Writer) Interface(name string) (int, error) {
	const ethernet, nanoseconds = 1, 9
	body := binary.NativeEndian.AppendUint16(nil, ethernet)
	body = binary.NativeEndian.AppendUint16(body, 0)
	body = binary.NativeEndian.AppendUint32(body, uint32(w.snapshot))
	body = option(body, optionName, []byte(name))
	body = option(body, optionResolution, []byte{nanoseconds})
	w.interfaces++
	return w.interfaces - 1, w.block(interfaceBlock, option(body, optionEnd, nil))
}

// Packet writes a packet.
func (w *Writer) Packet(p Packet) error {
	const inbound, outbound = 1, 2
	direction := uint32(inbound)
	if p.Sent {
		direction = outbound
	}
	at := uint64(p.Time.UnixNano())
	body := binary.NativeEndian.AppendUint32(nil, uint32(p.Interface))
	body = binary.NativeEndian.AppendUint32(body, uint32(at>>32))
	body = binary.NativeEndian.AppendUint32(body, uint32(at))
	body = binary.NativeEndian.AppendUint32(body, uint32(len(p.Data)))
	body = binary.NativeEndian.AppendUint32(body, uint32(p.Length))
	body = padded(body, p.Data)
	body = option(body, optionFlags, binary.NativeEndian.AppendUint32(nil, direction))
	return w.block(packetBlock, option(body, optionEnd, nil))
}

// block writes a block in one piece. Its length stands before and behind.
func (w *Writer) block(kind uint32, body []byte) error {
	size := uint32(12 + len(body))
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, size), kind)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = append(b, body...)
	_, err := w.out.Write(binary.NativeEndian.AppendUint32(b, size))
	return err
}

func option(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, kind)
	return padded(binary.NativeEndian.AppendUint16(b, uint16(len(value))), value)
}

func padded(b, value []byte) []byte {
	return append(append(b, value...), make([]byte, -len(value)&3)...)
}
