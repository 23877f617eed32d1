package usernet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/containr/containr/internal/sys"
)

// ourMAC is the address of everybody but the container: there is only one machine at the other
// end of the cable.
const ourMAC = tcpip.LinkAddress("\x02\xc0\x00\x00\x02\x02")

// virtioSize is sizeof(struct virtio_net_hdr), which is in front of every frame: it says which
// checksum is still to be made, and into what pieces a long segment is to be cut.
const virtioSize = 10

// Values of struct virtio_net_hdr, linux/virtio_net.h.
const (
	virtioNeedsChecksum = 1
	virtioTCP4          = 1
	virtioTCP6          = 4
)

// maxSegment is the longest segment that travels whole, in bytes.
const maxSegment = 65535 - 128

// maxFrame is the longest frame with its headers.
const maxFrame = virtioSize + header.EthernetMinimumSize + 65535

// link is the stack's device: frames are read from the tap and written there.
type link struct {
	tap *os.File
	fd  int // the same
	mtu uint32
	// intercept takes packets that the stack shall not see.
	intercept func(protocol tcpip.NetworkProtocolNumber, frame []byte) bool

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher

	// patient says that the packets that the stack writes are about little that has come.
	patient atomic.Bool
	waiting sync.Mutex
	// withheld is an acknowledgement that waits, and fresh that it does since the clock has struck last, if that is timed.
	withheld     *stack.PacketBuffer
	fresh, timed bool

	// failed says that nothing can be read any more. It is the reader's.
	failed bool
}

func newLink(tap *os.File, mtu uint32, intercept func(tcpip.NetworkProtocolNumber, []byte) bool) (*link, error) {
	raw, err := tap.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &link{tap: tap, mtu: mtu, intercept: intercept}
	return l, raw.Control(func(fd uintptr) { l.fd = int(fd) })
}

// readOne passes a frame to the stack, if there is one, and returns its length. That there will be none is noted.
func (l *link) readOne(scratch []byte) int {
	for {
		size, err := sys.ReadNow(l.fd, scratch)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			l.failed = !errors.Is(err, unix.EAGAIN)
			return 0
		}
		if size > virtioSize+header.EthernetMinimumSize {
			l.deliver(scratch[virtioSize:size])
		}
		return size
	}
}

func (l *link) deliver(frame []byte) {
	protocol := header.Ethernet(frame).Type()
	if l.intercept(protocol, frame) {
		return
	}
	l.mu.RLock()
	to := l.dispatcher
	l.mu.RUnlock()
	if to == nil {
		return
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer packet.DecRef()
	packet.RXChecksumValidated = true // the frame has never been on a cable
	if l.ParseHeader(packet) {
		to.DeliverNetworkPacket(protocol, packet)
	}
}

// WritePackets writes frames until the device takes no more.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for i, packet := range list.AsSlice() {
		if l.withhold(packet) {
			continue
		}
		if err := l.writePacket(packet); err != nil {
			return i, &tcpip.ErrAborted{}
		}
	}
	return list.Len(), nil
}

func (l *link) writePacket(packet *stack.PacketBuffer) error {
	head := virtioHeader(packet)
	parts := append(make([][]byte, 0, 8), head[:])
	return l.write(append(parts, packet.AsSlices()...))
}

// write writes a frame. One that the device has no room for is lost, as frames may be.
func (l *link) write(parts [][]byte) error {
	for {
		_, err := sys.WriteNow(l.fd, parts...)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// patience is how long an acknowledgement waits, or up to twice as long. Kernels have 40 ms, RFC 9293 has half a second.
const patience = time.Millisecond

// withhold keeps an acknowledgement of little data back, since what it acknowledges is often answered: then the answer says it, and one packet is
// enough. The stack itself does not wait. A second one of the same connection goes at once, so that nobody who sends much waits.
func (l *link) withhold(p *stack.PacketBuffer) bool {
	h := header.TCP(p.TransportHeader().Slice())
	if p.TransportProtocolNumber != header.TCPProtocolNumber || len(h) < header.TCPMinimumSize {
		return false
	}
	l.waiting.Lock()
	defer l.waiting.Unlock()
	before := l.withheld
	if before != nil && before.Hash == p.Hash && bytes.Equal(h[:4], before.TransportHeader().Slice()[:4]) { // the ports: it says more than the one before
		before.DecRef()
		l.withheld = nil
		return false
	}
	if !l.patient.Load() || h.Flags() != header.TCPFlagAck || p.Data().Size() > 0 {
		return false
	}
	if before != nil {
		_ = l.writePacket(before) // packets may be lost
		before.DecRef()
	}
	l.withheld = p.IncRef()
	l.fresh = true
	if !l.timed {
		l.timed = true
		time.AfterFunc(patience, l.release)
	}
	return true
}

// release writes what was withheld for long enough.
func (l *link) release() {
	l.waiting.Lock()
	defer l.waiting.Unlock()
	p := l.withheld
	switch {
	case p == nil:
		l.timed = false
		return
	case !l.fresh:
		l.withheld, l.timed = nil, false
		_ = l.writePacket(p) // packets may be lost
		p.DecRef()
		return
	}
	l.fresh = false
	time.AfterFunc(patience, l.release)
}

// virtioHeader says what is left to do with a packet.
func virtioHeader(p *stack.PacketBuffer) (h [virtioSize]byte) {
	g := p.GSOOptions
	if g.Type == stack.GSONone {
		return h
	}
	le := binary.LittleEndian
	le.PutUint16(h[2:], uint16(p.HeaderSize()))
	if g.NeedsCsum {
		h[0] = virtioNeedsChecksum
		le.PutUint16(h[6:], header.EthernetMinimumSize+g.L3HdrLen)
		le.PutUint16(h[8:], g.CsumOffset)
	}
	if p.Data().Size() > int(g.MSS) {
		h[1] = virtioTCP4
		if g.Type == stack.GSOTCPv6 {
			h[1] = virtioTCP6
		}
		le.PutUint16(h[4:], g.MSS)
	}
	return h
}

// Attach says whom frames go to.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	l.dispatcher = d
	l.mu.Unlock()
}

// IsAttached reports whether frames have somewhere to go.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// MTU is the longest packet.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU does nothing: the device has its own.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength is Ethernet's.
func (l *link) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress is ours.
func (l *link) LinkAddress() tcpip.LinkAddress { return ourMAC }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities: whoever is at the other end is asked for by ARP and its successor.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
}

// GSOMaxSize is how long a segment may be.
func (l *link) GSOMaxSize() uint32 { return maxSegment }

// SupportedGSO: the kernel at the other end cuts.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Wait has nobody to wait for: the loop ends with the process.
func (l *link) Wait() {}

// ARPHardwareType is Ethernet's.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader puts Ethernet's header in front.
func (l *link) AddHeader(p *stack.PacketBuffer) {
	header.Ethernet(p.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: p.EgressRoute.LocalLinkAddress, DstAddr: p.EgressRoute.RemoteLinkAddress, Type: p.NetworkProtocolNumber})
}

// ParseHeader takes it off.
func (l *link) ParseHeader(p *stack.PacketBuffer) bool {
	_, ok := p.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close leaves the descriptor to the end of the process.
func (l *link) Close() {}

// SetOnCloseAction does nothing, as Close.
func (l *link) SetOnCloseAction(func()) {}
