package resolver

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes of messages over UDP, in bytes.
const (
	// plainSize is what everybody takes, RFC 1035.
	plainSize = 512
	// ownSize is what we take and send at most: it fits into one packet, RFC 9715.
	ownSize = 1232
)

// tcpSize is the most that fits into a message over TCP.
const tcpSize = 65535

// headerSize is that of every message.
const headerSize = 12

// question is a question that was understood.
type question struct {
	dnsmessage.Header
	dnsmessage.Question
	// edns says that the asker speaks EDNS, of this version, and takes size bytes.
	edns    bool
	version byte
	size    int
}

// rcodeBadVersion is BADVERS, RFC 6891: its upper bits go into the OPT record.
const rcodeBadVersion dnsmessage.RCode = 16

// parse reads a question. If it cannot be one, code says what to answer; drop, that nothing is to be said: whatever it is,
// it is no question.
func parse(message []byte) (q question, code dnsmessage.RCode, drop bool) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response {
		return q, 0, true
	}
	q.Header, q.size = h, plainSize
	if h.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented, false
	}
	if binary.BigEndian.Uint16(message[4:]) != 1 {
		return q, dnsmessage.RCodeFormatError, false
	}
	if q.Question, err = p.Question(); err != nil {
		q.Question = dnsmessage.Question{}
		return q, dnsmessage.RCodeFormatError, false
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil || q.options(&p) != nil {
		return q, dnsmessage.RCodeFormatError, false
	}
	switch {
	case q.edns && q.version != 0:
		return q, rcodeBadVersion, false
	case q.Class != dnsmessage.ClassINET:
		return q, dnsmessage.RCodeRefused, false
	}
	return q, dnsmessage.RCodeSuccess, false
}

// options reads what the question says about EDNS.
func (q *question) options(p *dnsmessage.Parser) error {
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns, q.version = true, byte(h.TTL>>16)
			q.size = max(plainSize, int(h.Class))
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// name is the question's, as the view has it.
func (q question) name() string {
	return strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
}

// found is what is known about a question here.
type found struct {
	// local says that the question is ours to answer: if there is nothing, then nowhere.
	local bool
	code  dnsmessage.RCode
	// addresses or target are the answer.
	addresses []netip.Addr
	target    string
}

// look answers a question out of the view. turn is how far addresses are rotated: who takes the first one shall not always
// get the same.
func (v *view) look(a asker, q question, turn int) found {
	if addr, ok := addressOf(q.name()); ok {
		name, ours := v.reverse(a, addr)
		f := found{local: ours, target: name}
		if name == "" {
			f.code = dnsmessage.RCodeNameError
		}
		if q.Type != dnsmessage.TypePTR && q.Type != dnsmessage.TypeALL {
			f.target = ""
		}
		return f
	}
	all := v.find(a, q.name())
	f := found{local: len(all) > 0}
	for i := range all {
		addr := all[(i+turn)%len(all)]
		if q.Type == dnsmessage.TypeALL || q.Type == dnsmessage.TypeA && addr.Is4() || q.Type == dnsmessage.TypeAAAA && addr.Is6() {
			f.addresses = append(f.addresses, addr)
		}
	}
	return f
}

// addressOf reads the name that stands for an address, such as 2.0.192.10.in-addr.arpa.
func addressOf(name string) (netip.Addr, bool) {
	if four, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		var b [4]byte
		labels := strings.Split(four, ".")
		if len(labels) != len(b) {
			return netip.Addr{}, false
		}
		for i, l := range labels {
			n, err := strconv.ParseUint(l, 10, 8)
			if err != nil || strconv.Itoa(int(n)) != l {
				return netip.Addr{}, false
			}
			b[len(b)-1-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	six, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(six) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		n, err := strconv.ParseUint(six[2*i:2*i+1], 16, 4)
		if err != nil || i < 31 && six[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

// reply writes an answer of at most size bytes. One that is longer is cut off to nothing but a sign that it is: then it is
// asked for again over TCP.
func reply(q question, f found, size int) []byte {
	message, err := q.build(f, false)
	if err == nil && len(message) > size {
		message, err = q.build(found{local: f.local}, true)
	}
	if err != nil { // a target that is no name
		message, err = q.build(found{code: dnsmessage.RCodeServerFailure}, false)
	}
	if err != nil { // the question's name cannot be repeated
		return failure(q.Header, dnsmessage.RCodeFormatError)
	}
	return message
}

// failure is the shortest answer: it does not repeat the question.
func failure(h dnsmessage.Header, code dnsmessage.RCode) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, headerSize), answering(h, code))
	message, err := b.Finish()
	if err != nil {
		return nil
	}
	return message
}

func answering(h dnsmessage.Header, code dnsmessage.RCode) dnsmessage.Header {
	return dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code & 0xf}
}

// build writes an answer, whatever its length.
func (q question) build(f found, truncated bool) ([]byte, error) {
	h := answering(q.Header, f.code)
	h.Authoritative, h.Truncated = f.local, truncated
	b := dnsmessage.NewBuilder(make([]byte, 0, plainSize), h)
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.Question); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if err := q.answers(&b, f); err != nil {
		return nil, err
	}
	if q.edns {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var opt dnsmessage.ResourceHeader
		if err := opt.SetEDNS0(ownSize, f.code, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(opt, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// answers writes the records. They are good for this moment: a container may end in the next.
func (q question) answers(b *dnsmessage.Builder, f found) error {
	header := func(t dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: q.Name, Type: t, Class: dnsmessage.ClassINET}
	}
	for _, a := range f.addresses {
		var err error
		if a.Is4() {
			err = b.AResource(header(dnsmessage.TypeA), dnsmessage.AResource{A: a.As4()})
		} else {
			err = b.AAAAResource(header(dnsmessage.TypeAAAA), dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return err
		}
	}
	if f.target == "" {
		return nil
	}
	target, err := dnsmessage.NewName(f.target + ".")
	if err != nil {
		return err
	}
	return b.PTRResource(header(dnsmessage.TypePTR), dnsmessage.PTRResource{PTR: target})
}
