package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// Request asks for the packets of a process's network.
type Request struct {
	// PID is the process, and End a descriptor that becomes readable when there is nothing to wait for any more.
	PID, End int
	// Interface, if it is not empty, is the only device of which packets are wanted.
	Interface string
	// Count, if it is not 0, is how many packets are enough; Snapshot how many bytes of each are written, 0 for all.
	Count, Snapshot int
	// Open opens what is written to, when there is something to write: who names a wrong interface loses no old capture.
	Open func() (io.Writer, error)
	// Ready, if set, is called when no packet is missed any more.
	Ready func()
}

// Result is what has become of packets.
type Result struct{ Written, Dropped int }

// buffer is how much of what comes may wait for being written, in bytes.
const buffer = 16 << 20

// largest is how long a packet can be, with the header of Ethernet: those that the kernel has put together included.
const largest = 256 << 10

// Run captures until the context or the process ends, or there are enough.
func Run(ctx context.Context, r Request) (result Result, err error) {
	c := &capturing{Request: r, numbers: map[int]int{}}
	if c.Snapshot == 0 {
		c.Snapshot = largest
	}
	if err := sys.InNetworkOf(r.PID, c.open); err != nil {
		return result, err
	}
	defer unix.Close(c.fd)
	defer c.route.Close()
	if err := c.begin(); err != nil {
		return result, err
	}
	if r.Ready != nil {
		r.Ready()
	}
	err = c.loop(ctx)
	result.Written = c.written
	if s, statErr := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); statErr == nil {
		result.Dropped = int(s.Drops)
	}
	return result, err
}

// capturing is one capture.
type capturing struct {
	Request
	w     *Writer
	fd    int
	route *sys.Route
	// numbers are those that devices have in the file, by the kernel's; -1 for one that is not wanted.
	numbers map[int]int
	written int
}

// open opens the sockets. It is called in the network namespace.
func (c *capturing) open() (err error) {
	everything := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err = errors.Join(unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer), unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)); err == nil {
		c.route, err = sys.OpenRoute()
	}
	if err != nil {
		unix.Close(c.fd)
	}
	return err
}

// begin looks whether there is what is wanted, and then opens what is written to.
func (c *capturing) begin() error {
	links, err := c.route.Links()
	if err != nil {
		return err
	}
	found := c.Interface == ""
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
		found = found || l.Name == c.Interface
	}
	if !found {
		return fmt.Errorf("interface %s: there is none of this name; there are %s", c.Interface, strings.Join(names, ", "))
	}
	out, err := c.Open()
	if err != nil {
		return err
	}
	if c.w, err = NewWriter(out, c.Snapshot); err != nil {
		return err
	}
	return c.learn()
}

// learn writes the devices down that are new.
func (c *capturing) learn() error {
	links, err := c.route.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, known := c.numbers[l.Index]; known {
			continue
		}
		c.numbers[l.Index] = -1
		if c.Interface != "" && l.Name != c.Interface {
			continue
		}
		if c.numbers[l.Index], err = c.w.Interface(l.Name); err != nil {
			return err
		}
	}
	return nil
}

// loop waits for packets, and for a reason to end: then it takes what is there already.
func (c *capturing) loop(ctx context.Context) error {
	interrupted, interrupt, err := os.Pipe()
	if err != nil {
		return err
	}
	defer interrupted.Close()
	defer interrupt.Close()
	defer context.AfterFunc(ctx, func() { interrupt.Close() })()
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.End), Events: unix.POLLIN}, {Fd: int32(interrupted.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		enough, err := c.take()
		if err != nil || enough || fds[1].Revents != 0 || fds[2].Revents != 0 {
			return err
		}
	}
}

// take writes the packets that are there.
func (c *capturing) take() (enough bool, err error) {
	data, control := make([]byte, largest), make([]byte, 64)
	for {
		n, controls, _, from, err := unix.Recvmsg(c.fd, data, control, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // a device is gone, others are not
			continue
		case err != nil:
			return false, fmt.Errorf("packet socket: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		if enough, err := c.packet(link, data[:min(n, len(data))], n, timeIn(control[:controls])); err != nil || enough {
			return enough, err
		}
	}
}

// packet writes one packet, if it is wanted. What the loopback device sends is not: it comes again at once.
func (c *capturing) packet(link *unix.SockaddrLinklayer, data []byte, length int, at time.Time) (enough bool, err error) {
	sent := link.Pkttype == unix.PACKET_OUTGOING
	if sent && link.Hatype == unix.ARPHRD_LOOPBACK {
		return false, nil
	}
	number, known := c.numbers[link.Ifindex]
	if !known {
		if err := c.learn(); err != nil {
			return false, err
		}
		if number, known = c.numbers[link.Ifindex]; !known { // it came and went
			return false, nil
		}
	}
	if number < 0 {
		return false, nil
	}
	if err := c.w.Packet(Packet{Interface: number, Time: at, Sent: sent, Data: data[:min(len(data), c.Snapshot)], Length: length}); err != nil {
		return false, err
	}
	c.written++
	return c.Count > 0 && c.written >= c.Count, nil
}

// timeIn finds the kernel's time of a packet, and is the present if there is none.
func timeIn(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		const word = 8 // of struct timespec on 64 bits; on 32 it is 4
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 2*word {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[word:])))
		}
	}
	return time.Now()
}
