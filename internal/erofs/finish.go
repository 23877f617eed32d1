package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// Finish writes the tree that begins at root, and so completes the image. id is a name for it by which the kernel tells it
// from others; it should be another for each.
func (w *Writer) Finish(root *Node, id [16]byte) error {
	if w.ended || root.Type() != Dir {
		return errors.New("an image is finished once, and its root is a directory")
	}
	w.ended = true
	l := layout{}
	if err := l.collect(root, root); err != nil {
		return err
	}
	for _, n := range l.nodes {
		if err := l.find(n); err != nil {
			return err
		}
	}
	w.sum.From, w.out.sum = w.out.end(), &w.sum.CRC
	if err := w.writeBlocks(&l); err != nil {
		return err
	}
	meta, err := blockAt(w.out.end())
	if err != nil {
		return err
	}
	if err := errors.Join(w.tails.flush(), w.writeMeta(&l)); err != nil {
		return err
	}
	blocks, err := blockAt(w.out.end())
	if err != nil {
		return err
	}
	if err := w.out.flush(); err != nil {
		return err
	}
	if err := w.image.Truncate(w.out.at); err != nil { // it may end in a hole
		return err
	}
	_, err = w.image.WriteAt(w.super(&l, root, id, meta, blocks), 0)
	return err
}

// layout is where everything is in the metadata.
type layout struct {
	nodes []*Node // each once, in the order of the tree
	end   int64   // of the blocks that are in use
	open  []room  // blocks with something left in them
}

// room is what is left of a block of metadata.
type room struct{ offset, left int64 }

// collect lists the nodes below n, and counts their names.
func (l *layout) collect(n, parent *Node) error {
	n.at = place{known: true, names: 2, parent: parent}
	l.nodes = append(l.nodes, n)
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%.300q is no name of a file", name)
		}
		c := n.Children[name]
		switch {
		case c.Type() == Dir && c.at.known:
			return fmt.Errorf("the directory %q has two names", name)
		case c.Type() == Dir:
			n.at.names++
			if err := l.collect(c, n); err != nil {
				return err
			}
		case c.at.known:
			c.at.names++
		default:
			c.at = place{known: true, names: 1}
			l.nodes = append(l.nodes, c)
		}
	}
	return nil
}

// inlineSize is how many bytes follow a node and its attributes.
func (n *Node) inlineSize() int {
	switch {
	case n.data.chunks != nil:
		return 4 * len(n.data.chunks)
	case n.Type() == Regular:
		return n.data.inline
	}
	var tail int
	switch n.Type() {
	case Dir:
		tail = int(dirSize(n) & (Block - 1))
	case Link:
		tail = len(n.Target)
	}
	if nodeSize+xattrSize(n.Xattrs)+tail > Block {
		return 0
	}
	return tail
}

// openBlocks is how many blocks may be filled further.
const openBlocks = 16

// find finds a place for a node: where it fits best, in the beginning of new blocks otherwise. The first slots are left
// free, as many programs take the inode 0 for none.
func (l *layout) find(n *Node) error {
	for name, value := range n.Xattrs {
		if err := CheckXattr(name, value); err != nil {
			return err
		}
	}
	attrs := xattrSize(n.Xattrs)
	if units := (attrs - xattrHeader) / xattrEntry; units >= 1<<16-1 {
		return fmt.Errorf("%w: all of a file's together have at most %d bytes", errXattr, xattrEntry<<16)
	}
	size := align(int64(nodeSize+attrs+n.inlineSize()), slotSize)
	if l.end == 0 {
		l.end, l.open = Block, []room{{nodeSize, Block - nodeSize}}
	}
	best := -1
	for i, r := range l.open {
		if r.left >= size && (best < 0 || r.left < l.open[best].left) {
			best = i
		}
	}
	if best >= 0 {
		r := &l.open[best]
		n.at.offset = r.offset
		r.offset, r.left = r.offset+size, r.left-size
		return nil
	}
	n.at.offset = l.end
	l.end += align(size, Block)
	l.leave(room{n.at.offset + size, l.end - n.at.offset - size})
	return nil
}

// leave lets a block be filled further; the fullest gives way.
func (l *layout) leave(r room) {
	if r.left < nodeSize {
		return
	}
	if len(l.open) < openBlocks {
		l.open = append(l.open, r)
		return
	}
	least := 0
	for i := range l.open {
		if l.open[i].left < l.open[least].left {
			least = i
		}
	}
	if l.open[least].left < r.left {
		l.open[least] = r
	}
}

// nid is the number of a node.
func (n *Node) nid() uint64 { return uint64(n.at.offset / slotSize) }

// writeBlocks writes what is in blocks, but for the data of files: directories, and symbolic links that are too long to be
// inline.
func (w *Writer) writeBlocks(l *layout) error {
	for _, n := range l.nodes {
		var content []byte
		switch n.Type() {
		case Dir:
			content = dirContent(n)
		case Link:
			content = []byte(n.Target)
		default:
			continue
		}
		whole := content[:len(content)-n.inlineSize()]
		n.data.size = int64(len(content))
		if len(whole) == 0 {
			continue
		}
		var err error
		if n.data.block, err = blockAt(w.out.end()); err != nil {
			return err
		}
		if err := errors.Join(w.out.write(whole), w.out.pad()); err != nil {
			return err
		}
	}
	return nil
}

// writeMeta writes the metadata, in the order of their places.
func (w *Writer) writeMeta(l *layout) error {
	start := w.out.end()
	nodes := slices.Clone(l.nodes)
	slices.SortFunc(nodes, func(a, b *Node) int { return int(a.nid()) - int(b.nid()) })
	var buf []byte
	for i, n := range nodes {
		gap := start + n.at.offset - w.out.end()
		for gap > 0 {
			part := min(gap, Block)
			if err := w.out.write(zeros[:part]); err != nil {
				return err
			}
			gap -= part
		}
		buf = n.append(buf[:0], uint32(i+1))
		switch size := n.inlineSize(); {
		case n.data.chunks != nil:
			for _, c := range n.data.chunks {
				buf = binary.LittleEndian.AppendUint32(buf, c)
			}
		case size == 0:
		case n.Type() == Dir:
			content := dirContent(n)
			buf = append(buf, content[len(content)-size:]...)
		case n.Type() == Link:
			buf = append(buf, n.Target...)
		default:
			at := len(buf)
			buf = append(buf, zeros[:size]...)
			if _, err := w.spool.ReadAt(buf[at:], n.data.tail); err != nil {
				return err
			}
		}
		if err := w.out.write(buf); err != nil {
			return err
		}
	}
	return w.out.pad()
}

// append writes struct erofs_inode_extended and the attributes.
func (n *Node) append(b []byte, number uint32) []byte {
	le := binary.LittleEndian
	layout, links := uint16(layoutPlain), n.at.names
	u := n.data.block
	switch {
	case n.data.chunks != nil:
		layout, u = layoutChunks, uint32(n.data.chunkBits)
	case n.Type() == CharDev || n.Type() == BlockDev:
		u = n.Minor&0xff | n.Major<<8 | n.Minor&^0xff<<12 // new_encode_dev of linux/kdev_t.h
	case n.inlineSize() > 0:
		layout = layoutInline
	}
	attrs, count := xattrSize(n.Xattrs), uint16(0)
	if attrs > 0 {
		count = uint16((attrs-xattrHeader)/xattrEntry + 1)
	}
	b = le.AppendUint16(b, 1|layout<<1)
	b = le.AppendUint16(b, count)
	b = le.AppendUint16(b, uint16(n.Mode))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(n.data.size))
	b = le.AppendUint32(b, u)
	b = le.AppendUint32(b, number) // for 32 bits of st_ino
	b = le.AppendUint32(b, n.UID)
	b = le.AppendUint32(b, n.GID)
	b = le.AppendUint64(b, uint64(n.Seconds))
	b = le.AppendUint32(b, n.Nanoseconds)
	b = le.AppendUint32(b, links)
	b = append(b, zeros[:16]...)
	if attrs > 0 {
		b = appendXattrs(b, n.Xattrs)
	}
	return b
}

// appendXattrs writes attributes, none of them shared with other nodes.
func appendXattrs(b []byte, attrs map[string]string) []byte {
	b = append(b, zeros[:xattrHeader]...)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		index, rest, _ := splitXattr(name)
		b = append(b, uint8(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, rest...), value...)
		size := len(rest) + len(value)
		b = append(b, zeros[:align(size, xattrEntry)-size]...)
	}
	return b
}

// super writes block 0, with struct erofs_super_block in it.
func (w *Writer) super(l *layout, root *Node, id [16]byte, meta, blocks uint32) []byte {
	b := make([]byte, Block)
	s := b[superAt:]
	le := binary.LittleEndian
	le.PutUint32(s, magic)
	le.PutUint32(s[8:], featureChecksum|featureMtime)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(root.nid()))
	le.PutUint64(s[16:], uint64(len(l.nodes)))
	le.PutUint32(s[36:], blocks)
	le.PutUint32(s[40:], meta)
	copy(s[48:64], id[:])
	if w.holes {
		le.PutUint32(s[80:], featureChunks)
	}
	le.PutUint32(s[4:], ^crc32.Checksum(s, castagnoli))
	return b
}
