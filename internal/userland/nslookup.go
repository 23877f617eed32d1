package userland

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nslookupPatience is how long a name server may take, and nslookupTries how often it is asked.
const (
	nslookupPatience = 5 * time.Second
	nslookupTries    = 2
)

var nslookupTypes = map[string]dnsmessage.Type{"a": dnsmessage.TypeA, "aaaa": dnsmessage.TypeAAAA, "cname": dnsmessage.TypeCNAME,
	"mx": dnsmessage.TypeMX, "ns": dnsmessage.TypeNS, "ptr": dnsmessage.TypePTR, "txt": dnsmessage.TypeTXT}

func runNslookup(p *Proc) error {
	kind := p.String("type", "t", "", "ask for records of `TYPE`: A, AAAA, CNAME, MX, NS, PTR, TXT; else A and AAAA")
	tcp := p.Bool("tcp", "", "ask over TCP")
	operands, err := p.Parse(1, 2)
	if err != nil {
		return err
	}
	// -type=A, with one dash, is how this command has always been called.
	word := strings.ToLower(strings.TrimPrefix(*kind, "ype="))
	types := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	name := operands[0]
	if a, err := netip.ParseAddr(name); err == nil {
		name, types = reverseName(a), []dnsmessage.Type{dnsmessage.TypePTR}
	}
	if word != "" {
		t, ok := nslookupTypes[word]
		if !ok {
			return Usagef("%s: no type of records that is known here", *kind)
		}
		types = []dnsmessage.Type{t}
	}
	server, err := nslookupServer(operands[1:])
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Out, "Server:\t\t%s\nAddress:\t%s\n\n", server.Addr(), server)
	found := 0
	for _, t := range types {
		records, err := nslookup(name, t, server, *tcp)
		if err != nil {
			return fmt.Errorf("%s: %w", operands[0], err)
		}
		for _, r := range records {
			found++
			p.printRecord(r)
		}
	}
	if found == 0 {
		fmt.Fprintf(p.Out, "*** Can't find %s: No answer\n", operands[0])
	}
	return nil
}

// nslookupServer is the server that was named, or the first of resolv.conf.
func nslookupServer(named []string) (netip.AddrPort, error) {
	if len(named) == 0 {
		text, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			return netip.AddrPort{}, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
				named = f[1:2]
				break
			}
		}
		if len(named) == 0 {
			return netip.AddrPort{}, errors.New("/etc/resolv.conf names no server")
		}
	}
	if a, err := netip.ParseAddrPort(named[0]); err == nil {
		return a, nil
	}
	a, err := netip.ParseAddr(named[0])
	return netip.AddrPortFrom(a, 53), err
}

// reverseName is the name that stands for an address.
func reverseName(a netip.Addr) string {
	var b strings.Builder
	s := a.AsSlice()
	for i := len(s) - 1; i >= 0; i-- {
		if a.Is4() {
			fmt.Fprintf(&b, "%d.", s[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", s[i]&0xf, s[i]>>4)
		}
	}
	if a.Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}

// nslookup asks a server, again over TCP if the answer did not fit.
func nslookup(name string, t dnsmessage.Type, server netip.AddrPort, tcp bool) ([]dnsmessage.Resource, error) {
	full, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: full, Type: t, Class: dnsmessage.ClassINET}}}
	var id [2]byte
	rand.Read(id[:])
	m.ID = binary.BigEndian.Uint16(id[:])
	question, err := m.Pack()
	if err != nil {
		return nil, err
	}
	var answer dnsmessage.Message
	for range nslookupTries {
		if answer, err = askServer(question, server, tcp); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	if err == nil && answer.Truncated && !tcp {
		return nslookup(name, t, server, true)
	}
	if err != nil {
		return nil, err
	}
	if answer.RCode != dnsmessage.RCodeSuccess {
		return nil, errors.New(rcodeWord(answer.RCode))
	}
	return answer.Answers, nil
}

// rcodeWord is what everybody calls an error of DNS.
func rcodeWord(c dnsmessage.RCode) string {
	words := map[dnsmessage.RCode]string{dnsmessage.RCodeFormatError: "FORMERR", dnsmessage.RCodeServerFailure: "SERVFAIL",
		dnsmessage.RCodeNameError: "NXDOMAIN", dnsmessage.RCodeNotImplemented: "NOTIMP", dnsmessage.RCodeRefused: "REFUSED"}
	if w, ok := words[c]; ok {
		return w
	}
	return fmt.Sprintf("RCODE %d", c)
}

func askServer(question []byte, server netip.AddrPort, tcp bool) (answer dnsmessage.Message, err error) {
	network := map[bool]string{false: "udp", true: "tcp"}[tcp]
	conn, err := net.DialTimeout(network, server.String(), nslookupPatience)
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(nslookupPatience)); err != nil {
		return answer, err
	}
	if tcp {
		question = append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...)
	}
	if _, err := conn.Write(question); err != nil {
		return answer, err
	}
	buf := make([]byte, 65535)
	n := 0
	if tcp {
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return answer, err
		}
		n, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
	} else {
		n, err = conn.Read(buf)
	}
	if err == nil {
		err = answer.Unpack(buf[:n])
	}
	return answer, err
}

func (p *Proc) printRecord(r dnsmessage.Resource) {
	name := strings.TrimSuffix(r.Header.Name.String(), ".")
	switch b := r.Body.(type) {
	case *dnsmessage.AResource:
		fmt.Fprintf(p.Out, "Name:\t%s\nAddress: %s\n", name, netip.AddrFrom4(b.A))
	case *dnsmessage.AAAAResource:
		fmt.Fprintf(p.Out, "Name:\t%s\nAddress: %s\n", name, netip.AddrFrom16(b.AAAA))
	case *dnsmessage.CNAMEResource:
		fmt.Fprintf(p.Out, "%s\tcanonical name = %s\n", name, b.CNAME)
	case *dnsmessage.PTRResource:
		fmt.Fprintf(p.Out, "%s\tname = %s\n", name, b.PTR)
	case *dnsmessage.MXResource:
		fmt.Fprintf(p.Out, "%s\tmail exchanger = %d %s\n", name, b.Pref, b.MX)
	case *dnsmessage.NSResource:
		fmt.Fprintf(p.Out, "%s\tnameserver = %s\n", name, b.NS)
	case *dnsmessage.TXTResource:
		fmt.Fprintf(p.Out, "%s\ttext = %q\n", name, strings.Join(b.TXT, ""))
	}
}
