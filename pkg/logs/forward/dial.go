package forward

import (
	"crypto/tls"
	"net"
	"syscall"
)

// dial connects, within sendTime: with TLS if there is a configuration of it.
func dial(network, address string, c *tls.Config) (net.Conn, error) {
	d := &net.Dialer{Timeout: sendTime}
	if c == nil {
		return d.Dial(network, address)
	}
	conn, err := tls.DialWithDialer(d, "tcp", address, c)
	if err != nil { // conn is a nil pointer, which is no nil net.Conn
		return nil, err
	}
	return conn, nil
}

// hungUp reports whether the other side of a stream has closed it. What is written after that is lost, and the first
// write has no error: a server that was started anew would miss a line.
func hungUp(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if _, packets := conn.(net.PacketConn); !ok || packets && conn.LocalAddr().Network() != "unix" {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var b [1]byte
	var readErr error
	if err := raw.Control(func(fd uintptr) {
		n, _, readErr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return true
	}
	return readErr == nil && n == 0 || readErr != nil && readErr != syscall.EAGAIN && readErr != syscall.EINTR
}
