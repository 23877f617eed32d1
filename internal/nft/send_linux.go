package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds an answer of the kernel's, in bytes. Errors are answered with the
// message that they are about.
const maxAnswer = 64 << 10

// Transact sends messages as one transaction: the kernel makes all of it at once, or
// nothing. The error is the first that the kernel found, an errno.
//
// Errors are answered whether asked for or not. An answer to each message that succeeds would overflow the socket's buffer,
// which the kernel reports instead of anything else; so there is one, for the last.
func Transact(messages ...string) error {
	if len(messages) == 0 {
		return nil
	}
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return transact(fd, messages)
}

// Delete sends the messages of a Message, or of several one after the other, as one transaction, as Transact does. Who closes the
// socket after a deletion waits until the kernel has freed what was deleted, some 10 ms: that goes on beside the caller.
func Delete(bytes string) error {
	fd, err := open()
	if err != nil {
		return err
	}
	defer func() { go unix.Close(fd) }()
	var messages []string
	for len(bytes) >= header {
		n := int(binary.NativeEndian.Uint32([]byte(bytes)))
		if n < header || n > len(bytes) {
			break
		}
		messages, bytes = append(messages, bytes[:n]), bytes[n:]
	}
	if len(bytes) > 0 || len(messages) == 0 {
		return errors.New("nftables: a message is cut off")
	}
	return transact(fd, messages)
}

func transact(fd int, messages []string) error {
	batch := frame(nil, batchBegin, 0)
	for i, m := range messages {
		start := len(batch)
		batch = append(batch, m...)
		if i == len(messages)-1 {
			flags := binary.NativeEndian.Uint16(batch[start+6:])
			binary.NativeEndian.PutUint16(batch[start+6:], flags|flagAck)
		}
		binary.NativeEndian.PutUint32(batch[start+8:], uint32(i+1))
	}
	batch = frame(batch, batchEnd, uint32(len(messages)+1))
	if err := roomFor(fd, len(batch), len(messages)); err != nil {
		return err
	}
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return awaitAll(fd, 1)
}

// roomFor makes a socket's buffers large enough for a batch, and for an error about each of its messages.
func roomFor(fd, bytes, messages int) error {
	const usual, answer = 128 << 10, 1 << 10 // what every kernel gives at least; an answer with what the kernel needs to keep it
	for option, size := range map[int]int{unix.SO_SNDBUFFORCE: 2 * bytes, unix.SO_RCVBUFFORCE: messages * answer} {
		if size <= usual {
			continue
		}
		if err := makeRoom(fd, option, size); err != nil {
			return fmt.Errorf("nftables: a buffer of %d bytes: %w", size, err)
		}
	}
	return nil
}

// makeRoom makes a buffer larger than the administrator's bound (net.core.wmem_max, rmem_max), which takes rights over the host; or else,
// in the namespaces of an ordinary user, up to that: twice of it counts (socket(7)), and a batch that is larger fails with EMSGSIZE.
func makeRoom(fd, option, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size)
	if err != unix.EPERM {
		return err
	}
	usual := unix.SO_SNDBUF
	if option == unix.SO_RCVBUFFORCE {
		usual = unix.SO_RCVBUF
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, usual, size)
}

// Exists reports whether there is the table.
func Exists(t Table) (bool, error) { return isThere(t.message(msgGetTable, flagAck)) }

// Exists reports whether there is the set, and its table.
func (s Set) Exists() (bool, error) {
	return isThere(s.Table.message(msgGetSet, flagAck, text(2, s.Name)))
}

// ask sends a question, and returns the socket that the answer comes to.
func ask(question string) (fd int, err error) {
	if fd, err = open(); err != nil {
		return -1, err
	}
	m := []byte(question)
	binary.NativeEndian.PutUint32(m[8:], 1) // its number; the kernel repeats it
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("nftables: %w", err)
	}
	return fd, nil
}

// isThere asks for one thing.
func isThere(question string) (bool, error) {
	fd, err := ask(question)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	err = awaitAll(fd, 1)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// DataOf asks for what a map has for the key that a message of Delete names; nil if there is
// nothing.
func DataOf(deletion string) ([]byte, error) {
	question := []byte(deletion)
	binary.NativeEndian.PutUint16(question[4:], subsystem<<8|msgGetElement)
	fd, err := ask(string(question))
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, maxAnswer)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil || n < header {
		return nil, fmt.Errorf("nftables: an answer of %d bytes: %w", n, err)
	}
	if binary.NativeEndian.Uint16(buf[4:]) == unix.NLMSG_ERROR {
		if code := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[16:]))); code != unix.ENOENT {
			return nil, code
		}
		return nil, nil
	}
	return find(buf[header:n], 3, 1, 2, 1), nil // elements, the first of them, its data, their value
}

// Count is how many elements a set has. The error is ENOENT if there is no such set.
func Count(s Set) (int, error) {
	count := 0
	err := dump(s.Table.message(msgGetElement, flagDump, text(2, s.Name)), func(m []byte) { count += children(find(m[header:], 3)) })
	return count, err
}

// children counts attributes.
func children(b []byte) int {
	n := 0
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		n++
		b = b[min(len(b), (size+3)&^3):]
	}
	return n
}

// find goes down a path of nested attributes.
func find(b []byte, path ...uint16) []byte {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&0x3fff == path[0] {
			if len(path) == 1 {
				return b[4:n]
			}
			return find(b[4:n], path[1:]...)
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

// Marks of a transaction's begin and end, NFNL_MSG_BATCH_.
const (
	batchBegin = 16
	batchEnd   = 17
)

func frame(b []byte, kind uint16, seq uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, header)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flagRequest)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, unix.AF_UNSPEC, 0)
	return binary.BigEndian.AppendUint16(b, subsystem)
}

func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("nftables: netlink socket: %w", err)
	}
	return fd, nil
}

// awaitAll reads until the kernel has answered that many messages, or refused the whole.
func awaitAll(fd, count int) error {
	if count <= 0 {
		return nil
	}
	return receive(fd, func(kind uint16, m []byte) (bool, error) {
		if kind == unix.NLMSG_ERROR && len(m) >= header {
			if code := int32(binary.NativeEndian.Uint32(m[16:])); code != 0 {
				return true, unix.Errno(-code)
			}
			count--
		}
		return count <= 0, nil
	})
}

// receive reads what the kernel sends, and has each message looked at, head included, until that says that it was the last one or
// returns an error.
func receive(fd int, look func(kind uint16, m []byte) (last bool, err error)) error {
	buf := make([]byte, maxAnswer)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		for b := buf[:n]; len(b) >= 16; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < 16 || size > len(b) {
				return errors.New("nftables: a message is cut off")
			}
			if last, err := look(binary.NativeEndian.Uint16(b[4:]), b[:size]); last || err != nil {
				return err
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
