package nft

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// dump asks for all of a kind and calls f with each answer, head included. The error is ENOENT if there is no such table or set.
func dump(question string, f func(answer []byte)) error {
	fd, err := ask(question)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return receive(fd, func(kind uint16, m []byte) (bool, error) {
		switch {
		case kind == unix.NLMSG_DONE:
			return true, nil
		case len(m) < header:
			return true, errors.New("nftables: an answer is cut off")
		case kind == unix.NLMSG_ERROR:
			return true, unix.Errno(-int32(binary.NativeEndian.Uint32(m[16:])))
		}
		f(m)
		return false, nil
	})
}

func word(b []byte) string { return unix.ByteSliceToString(b) }

// Contents is what a table has, by name.
type Contents struct {
	Chains, Sets, Limits []string
	// Counters are the packets and bytes that each has counted.
	Counters map[string]Tallied
}

// Tallied is what a counter says.
type Tallied struct{ Packets, Bytes uint64 }

// Contents asks what a table has. One that is not there has nothing.
func (t Table) Contents() (Contents, error) {
	c := Contents{Counters: map[string]Tallied{}}
	collect := func(kind uint16, f func([]byte)) error {
		err := dump(t.message(kind, flagDump), func(m []byte) {
			b := m[header:]
			if word(find(b, 1)) == t.name() { // some kernels answer for all tables
				f(b)
			}
		})
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	const chainName, setName, objectName = 3, 2, 2
	err := collect(msgGetChain, func(b []byte) { c.Chains = append(c.Chains, word(find(b, chainName))) })
	if err == nil {
		err = collect(msgGetSet, func(b []byte) {
			if name := word(find(b, setName)); len(name) > 1 && name[:2] != "__" { // not those of single rules
				c.Sets = append(c.Sets, name)
			}
		})
	}
	if err == nil {
		err = collect(msgGetObject, func(b []byte) {
			const objectType, objectData = 3, 4
			name, kind := word(find(b, objectName)), find(b, objectType)
			if len(kind) == 4 && binary.BigEndian.Uint32(kind) == objectLimit {
				c.Limits = append(c.Limits, name)
				return
			}
			c.Counters[name] = tallied(find(b, objectData))
		})
	}
	return c, err
}

// tallied reads NFTA_COUNTER_BYTES and NFTA_COUNTER_PACKETS.
func tallied(b []byte) (n Tallied) {
	if v := find(b, 1); len(v) == 8 {
		n.Bytes = binary.BigEndian.Uint64(v)
	}
	if v := find(b, 2); len(v) == 8 {
		n.Packets = binary.BigEndian.Uint64(v)
	}
	return n
}

// Element is one of a dynamic set's.
type Element struct {
	// Key is as Item has it; Left is how long it stays, if the set has a timeout.
	Key  string
	Left time.Duration
	Tallied
}

// Elements lists a set's elements. One that is not there has none.
func (s Set) Elements() ([]Element, error) {
	var list []Element
	const list3, keyAttr, expires, expr, exprData = 3, 1, 5, 7, 2
	err := dump(s.Table.message(msgGetElement, flagDump, text(2, s.Name)), func(m []byte) {
		b := m[header:]
		for all := find(b, list3); len(all) >= 4; {
			n := int(binary.NativeEndian.Uint16(all))
			if n < 4 || n > len(all) {
				return
			}
			one := all[4:n]
			e := Element{Key: string(find(one, keyAttr, 1)), Tallied: tallied(find(one, expr, exprData))}
			if v := find(one, expires); len(v) == 8 {
				e.Left = time.Duration(binary.BigEndian.Uint64(v)) * time.Millisecond
			}
			list = append(list, e)
			all = all[min(len(all), (n+3)&^3):]
		}
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return list, err
}

// DeleteKey deletes the element with a key as Elements has it.
func (s Set) DeleteKey(key string) Message {
	return s.elements("delete", msgDelElement, 0, "...", nested(1, value(1, []byte(key))))
}
