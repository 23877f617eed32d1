package userland

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func runNc(p *Proc) error {
	listen := p.Bool("listen", "l", "wait for a connection")
	udp := p.Bool("udp", "u", "UDP in place of TCP")
	unixSocket := p.Bool("unixsock", "U", "a Unix socket; the operand is its path")
	port := p.String("port", "p", "", "listen on this `PORT`")
	timeout := p.Int("timeout", "w", 0, "give up after `SECONDS`")
	scan := p.Bool("zero", "z", "only connect, to see whether something listens")
	verbose := p.Bool("verbose", "v", "say what happens")
	operands, err := p.Parse(0, 2)
	if err != nil {
		return err
	}
	network := "tcp"
	switch {
	case *unixSocket:
		network = "unix"
	case *udp:
		network = "udp"
	}
	address, err := ncAddress(operands, *port, *listen, *unixSocket)
	if err != nil {
		return err
	}
	conn, err := ncConnect(network, address, *listen, time.Duration(*timeout)*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if *verbose {
		fmt.Fprintf(p.Stderr, "connected to %s\n", conn.RemoteAddr())
	}
	if *scan {
		return nil
	}
	return p.relay(conn)
}

// ncAddress is what the operands of nc mean: HOST PORT, with -l [HOST] PORT, with -U PATH.
func ncAddress(operands []string, port string, listen, unixSocket bool) (string, error) {
	if port != "" {
		operands = append(operands, port)
	}
	switch {
	case unixSocket && len(operands) == 1:
		return operands[0], nil
	case len(operands) == 2:
		return net.JoinHostPort(operands[0], operands[1]), nil
	case len(operands) == 1 && listen:
		return ":" + operands[0], nil
	}
	return "", Usagef("give HOST and PORT, or -l and PORT, or -U and PATH")
}

func ncConnect(network, address string, listen bool, timeout time.Duration) (net.Conn, error) {
	switch {
	case !listen:
		return net.DialTimeout(network, address, timeout)
	case network == "udp":
		return ncAcceptUDP(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Accept()
}

// ncAcceptUDP waits for a first datagram and connects the socket to its sender.
func ncAcceptUDP(address string) (net.Conn, error) {
	l, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	n, from, err := l.ReadFrom(buf)
	if err != nil {
		l.Close()
		return nil, err
	}
	return &udpConn{PacketConn: l, peer: from, first: buf[:n]}, nil
}

// udpConn is a bound UDP socket that talks to one peer.
type udpConn struct {
	net.PacketConn
	peer  net.Addr
	first []byte
}

func (c *udpConn) RemoteAddr() net.Addr { return c.peer }

func (c *udpConn) Write(b []byte) (int, error) { return c.WriteTo(b, c.peer) }

func (c *udpConn) Read(b []byte) (int, error) {
	if c.first != nil {
		n := copy(b, c.first)
		c.first = nil
		return n, nil
	}
	n, _, err := c.ReadFrom(b)
	return n, err
}

// relay copies both ways until the peer ends. The end of standard input is passed on as a half-close.
func (p *Proc) relay(conn net.Conn) error {
	go func() {
		io.Copy(conn, p.Stdin)
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	}()
	_, err := io.Copy(p.stdout, conn)
	return err
}

func runWget(p *Proc) error {
	output := p.String("output-document", "O", "", "write to this `FILE`; - is standard output")
	quiet := p.Bool("quiet", "q", "say nothing")
	spider := p.Bool("spider", "", "only see whether it is there")
	headers := p.Strings("header", "", "send this `HEADER`")
	post := p.String("post-data", "", "", "send this `TEXT` with POST")
	timeout := p.Int("timeout", "T", 30, "give up when nothing happens for `SECONDS`")
	operands, err := p.Parse(1, 1)
	if err != nil {
		return err
	}
	get := fetch{headers: *headers, body: *post, timeout: time.Duration(*timeout) * time.Second}
	url := operands[0]
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	body, finalURL, err := get.follow(url)
	if err != nil {
		return err
	}
	defer body.Close()
	if *spider {
		return nil
	}
	name := *output
	if name == "" {
		name = finalURL[strings.LastIndexByte(finalURL, '/')+1:]
		if name == "" || !strings.Contains(strings.TrimPrefix(finalURL, "http://"), "/") {
			name = "index.html"
		}
	}
	if name == "-" {
		_, err := io.Copy(p.Out, body)
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	err = errors.Join(err, f.Close())
	if err == nil && !*quiet {
		fmt.Fprintf(p.Stderr, "'%s' saved (%d bytes)\n", name, n)
	}
	return err
}

// fetch is a request of HTTP/1.1 (RFC 9112) over plain TCP. There is no TLS here: the image carries no root
// certificates, and the client and its certificates would double its size.
type fetch struct {
	headers []string
	body    string
	timeout time.Duration
}

const maxRedirects = 10

// follow requests url and what it redirects to, and returns the body of the answer.
func (f *fetch) follow(url string) (io.ReadCloser, string, error) {
	for range maxRedirects {
		body, location, err := f.request(url)
		if err != nil || location == "" {
			return body, url, err
		}
		if strings.HasPrefix(location, "/") {
			host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
			location = "http://" + host + location
		}
		url = location
	}
	return nil, url, fmt.Errorf("%s: more than %d redirections", url, maxRedirects)
}

func (f *fetch) request(url string) (body io.ReadCloser, location string, err error) {
	rest, ok := strings.CutPrefix(url, "http://")
	if !ok {
		return nil, "", fmt.Errorf("%s: only http:// is known here", url)
	}
	host, path, _ := strings.Cut(rest, "/")
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	conn, err := net.DialTimeout("tcp", address, f.timeout)
	if err != nil {
		return nil, "", err
	}
	conn.SetDeadline(time.Now().Add(f.timeout))
	request := "GET"
	if f.body != "" {
		request = "POST"
	}
	request += " /" + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: containr-base\r\nAccept: */*\r\nConnection: close\r\n"
	for _, h := range f.headers {
		request += h + "\r\n"
	}
	if f.body != "" {
		request += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(f.body)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"+f.body); err != nil {
		conn.Close()
		return nil, "", err
	}
	body, location, err = f.answer(conn, url)
	if err != nil || location != "" {
		conn.Close()
	}
	return body, location, err
}

// answer reads the status line and the header, and returns the body, or where to go on.
func (f *fetch) answer(conn net.Conn, url string) (io.ReadCloser, string, error) {
	in := bufio.NewReader(conn)
	status, err := in.ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("%s: no answer: %w", url, err)
	}
	header := map[string]string{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, "", fmt.Errorf("%s: the header ends too early: %w", url, err)
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	words := strings.Fields(status)
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return nil, "", fmt.Errorf("%s: not an HTTP answer: %q", url, strings.TrimSpace(status))
	}
	if location := header["location"]; words[1][0] == '3' && location != "" {
		return nil, location, nil
	}
	if words[1][0] != '2' {
		return nil, "", fmt.Errorf("%s: %s", url, strings.Join(words[1:], " "))
	}
	var body io.Reader = in
	if strings.EqualFold(header["transfer-encoding"], "chunked") {
		body = &chunked{in: in}
	} else if n, err := strconv.ParseInt(header["content-length"], 10, 64); err == nil {
		body = &exactly{in: in, left: n}
	}
	return &answerBody{body, conn, f.timeout}, "", nil
}

// answerBody extends the deadline with every read: a slow answer may take long, a silent one may not.
type answerBody struct {
	io.Reader
	conn    net.Conn
	timeout time.Duration
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.conn.SetDeadline(time.Now().Add(b.timeout))
	return b.Reader.Read(p)
}

func (b *answerBody) Close() error { return b.conn.Close() }

// exactly reads a body of known length; an earlier end is an error.
type exactly struct {
	in   io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.in.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunked reads a chunked body (RFC 9112, section 7.1).
type chunked struct {
	in   *bufio.Reader
	left int64
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		if c.left, err = strconv.ParseInt(size, 16, 64); err != nil || c.left < 0 {
			return 0, fmt.Errorf("invalid chunk size %q", size)
		}
		if c.left == 0 {
			c.done = true
			return 0, io.EOF
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.left == 0 && err == nil {
		_, err = c.in.Discard(2)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func runPing(p *Proc) error {
	count := p.Int("count", "c", 0, "send `N` requests")
	wait := p.Int("timeout", "W", 1, "wait `SECONDS` for an answer")
	interval := p.String("interval", "i", "1", "`SECONDS` between requests")
	operands, err := p.Parse(1, 1)
	if err != nil {
		return err
	}
	pause, err := parseDuration(*interval)
	if err != nil {
		return Usagef("invalid interval %q", *interval)
	}
	addr, err := net.ResolveIPAddr("ip4", operands[0])
	if err != nil {
		return err
	}
	// A datagram ICMP socket needs no privilege where net.ipv4.ping_group_range allows it (icmp(7)), a raw one needs
	// CAP_NET_RAW.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	}
	if err != nil {
		return fmt.Errorf("open ICMP socket: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(time.Duration(*wait) * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Addr: [4]byte(addr.IP.To4())}
	fmt.Fprintf(p.Out, "PING %s (%s)\n", operands[0], addr)
	answered, sent := 0, 0
	for *count == 0 || sent < *count {
		if sent > 0 {
			time.Sleep(pause)
		}
		sent++
		took, err := echo(fd, to, uint16(sent))
		if err != nil {
			fmt.Fprintf(p.Out, "no answer from %s: seq=%d: %v\n", addr, sent, err)
		} else {
			answered++
			fmt.Fprintf(p.Out, "answer from %s: seq=%d time=%.3f ms\n", addr, sent, float64(took.Microseconds())/1000)
		}
		p.Out.Flush()
	}
	fmt.Fprintf(p.Out, "%d sent, %d answered\n", sent, answered)
	if answered == 0 {
		return exitStatus(1)
	}
	return nil
}

// echo sends one ICMP echo request (RFC 792) and waits for its reply.
func echo(fd int, to *unix.SockaddrInet4, seq uint16) (time.Duration, error) {
	id := uint16(os.Getpid())
	packet := make([]byte, 64)
	packet[0] = 8 // echo request
	binary.BigEndian.PutUint16(packet[4:], id)
	binary.BigEndian.PutUint16(packet[6:], seq)
	binary.BigEndian.PutUint16(packet[2:], checksum(packet))
	start := time.Now()
	if err := unix.Sendto(fd, packet, 0, to); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		reply := buf[:n]
		if n > 20 && reply[0]>>4 == 4 { // a raw socket also gives the IP header
			reply = reply[int(reply[0]&15)*4:]
		}
		if len(reply) >= 8 && reply[0] == 0 && binary.BigEndian.Uint16(reply[6:]) == seq {
			return time.Since(start), nil
		}
	}
}

// checksum is the Internet checksum (RFC 1071).
func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
