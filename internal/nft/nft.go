// Package nft writes rules of the kernel's packet filter, nf_tables, as the kernel reads
// them, beside their text as nft(8) does.
//
// # Theory of operation
//
// nf_tables is told by messages on a netlink socket what to add and to delete. Messages
// between a "begin" and an "end" are a transaction: all of it happens at one moment, or
// none. A rule is a list of expressions for a small machine with registers of 4 bytes: load
// something of the packet, compare it, look it up in a set, give a verdict.
//
// A Message is data: its text, for people, and its bytes. Both are made here from the same
// words (rule.go), so that what is shown is what is sent; a test has nft(8) list what was
// sent, and compares. Transact (send_linux.go) sends messages.
//
// Only what containr's own table needs is here. Numbers are those of
// linux/netfilter/nf_tables.h.
package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Message is one addition or deletion.
type Message struct {
	// Text is what nft(8) is told for the same.
	Text string
	// Bytes is the netlink message, with the sequence number 0.
	Bytes string
}

// Families of tables: those that see version 4 and 6 of IP, NFPROTO_INET, and those of bridges, NFPROTO_BRIDGE.
const (
	family       = 1
	bridgeFamily = 7
)

// Kinds of messages, NFT_MSG_.
const (
	msgNewTable   = 0
	msgGetTable   = 1
	msgDelTable   = 2
	msgNewChain   = 3
	msgNewRule    = 6
	msgDelRule    = 8
	msgNewSet     = 9
	msgGetSet     = 10
	msgGetElement = 13
	msgNewElement = 12
	msgDelElement = 14
	msgGetChain   = 4
	msgDelChain   = 5
	msgDelSet     = 11
	msgNewObject  = 18
	msgGetObject  = 19
	msgDelObject  = 20
)

// Flags of netlink messages.
const (
	flagRequest = 0x1
	flagAck     = 0x4
	flagDump    = 0x300
	flagExcl    = 0x200
	flagCreate  = 0x400
	flagAppend  = 0x800
)

// subsystem is NFNL_SUBSYS_NFTABLES.
const subsystem = 10

// header is struct nlmsghdr and struct nfgenmsg.
const header = 16 + 4

// message builds a netlink message.
func message(kind, flags uint16, attributes ...[]byte) string {
	b := make([]byte, header, 256)
	for _, a := range attributes {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], subsystem<<8|kind)
	binary.NativeEndian.PutUint16(b[6:], flagRequest|flags)
	b[16] = family
	return string(b)
}

// attribute is struct nlattr with its value, padded to 4 bytes.
//
//go:noinline
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

//go:noinline
func number(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

//go:noinline
func text(kind uint16, s string) []byte { return attribute(kind, append([]byte(s), 0)) }

// nested is an attribute that holds others.
//
//go:noinline
func nested(kind uint16, inner ...[]byte) []byte {
	var all []byte
	for _, a := range inner {
		all = append(all, a...)
	}
	return attribute(kind|0x8000, all)
}

// value is a NFTA_DATA_VALUE in an attribute.
//
//go:noinline
func value(kind uint16, data []byte) []byte { return nested(kind, attribute(1, data)) }

// Table is the name of a table that belongs to us alone. It sees both versions of IP, or, if its name begins with BridgeFamily, what
// goes through bridges.
type Table string

// BridgeFamily is the beginning of the name of a table that sees what goes through bridges.
const BridgeFamily = "bridge "

func (t Table) name() string { return strings.TrimPrefix(string(t), BridgeFamily) }

func (t Table) isBridge() bool { return t.name() != string(t) }

func (t Table) words() string {
	if t.isBridge() {
		return string(t)
	}
	return "inet " + string(t)
}

// message builds a netlink message about the table or what is in it.
func (t Table) message(kind, flags uint16, attributes ...[]byte) string {
	b := []byte(message(kind, flags, append([][]byte{text(1, t.name())}, attributes...)...))
	if t.isBridge() {
		b[header-4] = bridgeFamily
	}
	return string(b)
}

// New makes the table, if there is none of the name.
func (t Table) New() Message {
	return Message{"add table " + t.words(), t.message(msgNewTable, flagCreate)}
}

// Delete deletes the table with all that is in it.
func (t Table) Delete() Message {
	return Message{"delete table " + t.words(), t.message(msgDelTable, 0)}
}

// Flush deletes all rules of the table's chains. Chains and sets stay.
func (t Table) Flush() Message {
	return Message{"flush table " + t.words(), t.message(msgDelRule, 0)}
}

// Hook is where in a packet's way a chain begins: its type, hook and priority.
type Hook struct {
	Type     string
	Hook     string
	Priority int32
}

var hooks = map[string]uint32{"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

// BaseChain makes a chain, if it is not there, that packets come through, and go on from
// unless a rule says otherwise.
func (t Table) BaseChain(name string, h Hook) Message {
	m := Message{Text: "add chain " + t.words() + " " + name + " { type " + h.Type + " hook " + h.Hook + " priority " + strconv.Itoa(int(h.Priority)) + "; }"}
	m.Bytes = t.message(msgNewChain, flagCreate, text(3, name),
		nested(4, number(1, hooks[h.Hook]), number(2, uint32(h.Priority))), number(5, verdictAccept), text(7, h.Type))
	return m
}

// Chain makes a chain, if it is not there, that rules of others jump to.
func (t Table) Chain(name string) Message {
	return Message{"add chain " + t.words() + " " + name, t.message(msgNewChain, flagCreate, text(3, name))}
}

// Field is a part of what sets hold: its name, its number for nft(8), which shows sets by
// it, and its length in bytes.
type Field struct {
	Name string
	kind uint32
	size int
}

// The fields that our sets have.
var (
	IPv4      = Field{"ipv4_addr", 7, 4}
	IPv6      = Field{"ipv6_addr", 8, 16}
	Protocol  = Field{"inet_proto", 12, 1}
	Port      = Field{"inet_service", 13, 2}
	Interface = Field{"ifname", 41, 16}
	MAC       = Field{"ether_addr", 9, 6}
)

// Set is a set, or with Data a map, of a table.
type Set struct {
	Table Table
	Name  string
	Key   []Field
	Data  []Field
	// Interval sets hold ranges of addresses.
	Interval bool
	// Verdicts makes it a map to verdicts, in place of Data.
	Verdicts bool
	// Timeout, if it is not 0, is how long an element stays that is added without a time of its own.
	Timeout time.Duration
	// Dynamic sets get their elements from rules, at most Size of them.
	Dynamic bool
	Size    uint32
	// ID is a number of its own in its transaction.
	ID uint32
}

//go:noinline
func join(fields []Field) (words string, kind, size uint32) {
	for i, f := range fields {
		if i > 0 {
			words += " . "
		}
		words += f.Name
		kind = kind<<6 | f.kind
		size += uint32(f.size+3) &^ 3
	}
	if len(fields) == 1 {
		size = uint32(fields[0].size)
	}
	return words, kind, size
}

// hostOrder tells nft(8) that the key is in the order of the host's bytes: kind 0, four bytes, 1.
var hostOrder = append([]byte{0, 4}, binary.NativeEndian.AppendUint32(nil, 1)...)

// New makes the set, if it is not there.
func (s Set) New() Message {
	const interval, isMap, timed, dynamic, concat, verdicts = 0x4, 0x8, 0x10, 0x20, 0x80, 0xffffff00
	words, kind, size := join(s.Key)
	what, flags := "set", uint32(0)
	attributes := [][]byte{text(2, s.Name), number(4, kind), number(5, size), number(10, s.ID)}
	if len(s.Data) > 0 {
		dataWords, dataKind, dataSize := join(s.Data)
		what, flags, words = "map", flags|isMap, words+" : "+dataWords
		attributes = append(attributes, number(6, dataKind), number(7, dataSize))
	}
	if s.Verdicts {
		what, flags, words = "map", flags|isMap, words+" : verdict"
		attributes = append(attributes, number(6, verdicts))
	}
	var description [][]byte
	if s.Size != 0 {
		description = append(description, number(1, s.Size))
	}
	if len(s.Key) > 1 {
		flags |= concat
		var fields [][]byte
		for _, f := range s.Key {
			fields = append(fields, nested(1, number(1, uint32(f.size))))
		}
		description = append(description, nested(2, fields...))
	}
	if len(description) > 0 {
		attributes = append(attributes, nested(9, description...))
	}
	if len(s.Key) == 1 && s.Key[0] == Interface {
		attributes = append(attributes, attribute(13, hostOrder)) // for nft(8), which shows the names backwards else
	}
	words = "type " + words + ";"
	var named []string
	for _, f := range []struct {
		is   bool
		bit  uint32
		name string
	}{{s.Interval, interval, "interval"}, {s.Timeout != 0, timed, "timeout"}, {s.Dynamic, dynamic, "dynamic"}} {
		if f.is {
			flags |= f.bit
			named = append(named, f.name)
		}
	}
	if s.Size != 0 {
		words += " size " + strconv.Itoa(int(s.Size)) + ";"
	}
	if len(named) > 0 {
		words += " flags " + strings.Join(named, ",") + ";"
	}
	if s.Timeout != 0 {
		words += " timeout " + seconds(s.Timeout) + ";"
		attributes = append(attributes, attribute(11, milliseconds(s.Timeout)))
	}
	attributes = append(attributes, number(3, flags))
	return Message{"add " + what + " " + s.Table.words() + " " + s.Name + " { " + words + " }", s.Table.message(msgNewSet, flagCreate, attributes...)}
}

// seconds and milliseconds are a time as nft(8) and as the kernel have it.
//
//go:noinline
func seconds(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + "s" }

//go:noinline
func milliseconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(d.Milliseconds()))
}

// Item is a part of an element: an address, a port, ...
type Item struct {
	text string
	data []byte
}

// Address is an item of the field IPv4 or IPv6.
func Address(a netip.Addr) Item { return Item{a.String(), a.AsSlice()} }

// PortNumber is an item of the field Port.
func PortNumber(n uint16) Item {
	return Item{strconv.Itoa(int(n)), binary.BigEndian.AppendUint16(nil, n)}
}

// ProtocolName is an item of the field Protocol: tcp, udp or sctp.
func ProtocolName(name string) Item { return Item{name, []byte{protocols[name]}} }

var protocols = map[string]byte{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58}

// InterfaceName is an item of the field Interface.
func InterfaceName(name string) Item {
	b := make([]byte, 16)
	copy(b, name)
	return Item{strconv.Quote(name), b}
}

// HardwareAddress is an item of the field MAC, of 6 bytes.
func HardwareAddress(mac string) Item {
	var words []string
	for _, b := range []byte(mac) {
		words = append(words, strconv.FormatUint(uint64(b)+0x100, 16)[1:])
	}
	return Item{strings.Join(words, ":"), []byte(mac)}
}

func joinItems(items []Item) (words string, data []byte) {
	for i, item := range items {
		if i > 0 {
			words += " . "
		}
		words += item.text
		data = append(data, item.data...)
		if len(items) > 1 {
			data = append(data, make([]byte, -len(item.data)&3)...)
		}
	}
	return words, data
}

// elements is the message about one element.
func (s Set) elements(action string, kind, flags uint16, words string, list ...[]byte) Message {
	return Message{action + " element " + s.Table.words() + " " + s.Name + " { " + words + " }",
		s.Table.message(kind, flags, text(2, s.Name), nested(3, list...))}
}

// Add adds an element. With once it must not be there yet.
func (s Set) Add(key, data []Item, once bool) Message {
	words, keyData := joinItems(key)
	parts := [][]byte{value(1, keyData)}
	if len(data) > 0 {
		dataWords, b := joinItems(data)
		words, parts = words+" : "+dataWords, append(parts, value(2, b))
	}
	flags, action := uint16(flagCreate), "add"
	if once {
		flags, action = flags|flagExcl, "create"
	}
	return s.elements(action, msgNewElement, flags, words, nested(1, parts...))
}

// Delete deletes an element.
func (s Set) Delete(key []Item) Message {
	words, data := joinItems(key)
	return s.elements("delete", msgDelElement, 0, words, nested(1, value(1, data)))
}

// DataBytes is what DataOf returns for these items.
func DataBytes(items []Item) string { _, data := joinItems(items); return string(data) }

// AddRange adds the addresses of a prefix to an interval set.
func (s Set) AddRange(p netip.Prefix) Message {
	return s.elements("add", msgNewElement, flagCreate, p.String(), bounds(p)...)
}

// DeleteRange deletes what AddRange has added.
func (s Set) DeleteRange(p netip.Prefix) Message {
	return s.elements("delete", msgDelElement, 0, p.String(), bounds(p)...)
}

// bounds are the two elements that a range of addresses is: its first address, and the
// first behind it.
func bounds(p netip.Prefix) [][]byte {
	const intervalEnd = 1
	first, last := p.Masked().Addr().AsSlice(), p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	list := [][]byte{nested(1, value(1, first))}
	after, _ := netip.AddrFromSlice(last)
	if after = after.Next(); after.IsValid() {
		list = append(list, nested(1, number(3, intervalEnd), value(1, after.AsSlice())))
	}
	return list
}
