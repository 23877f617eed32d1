package erofs

import (
	"encoding/binary"
	"slices"
)

// A directory is a sequence of blocks. Each begins with struct erofs_dirent for as many names as are in it, in the order of
// their bytes, and the names follow: the kernel finds a name by halving, first among the blocks, then within one.

const direntSize = 12

// fileTypes are what a directory says of the types of files (FT_REG_FILE and so on, as in many file systems of Linux).
var fileTypes = map[uint32]uint8{Regular: 1, Dir: 2, CharDev: 3, BlockDev: 4, Fifo: 5, Socket: 6, Link: 7}

// dirNames are the names in a directory, sorted, "." and ".." among them.
func dirNames(n *Node) []string {
	names := make([]string, 0, len(n.Children)+2)
	for name := range n.Children {
		names = append(names, name)
	}
	names = append(names, ".", "..")
	slices.Sort(names)
	return names
}

// dirBlocks cuts sorted names into what fits into blocks.
func dirBlocks(names []string) (blocks [][]string) {
	first, used := 0, 0
	for i, name := range names {
		size := direntSize + len(name)
		if used+size > Block {
			blocks = append(blocks, names[first:i])
			first, used = i, 0
		}
		used += size
	}
	return append(blocks, names[first:])
}

// dirSize is the length of a directory. It depends on its names alone.
func dirSize(n *Node) int64 {
	blocks := dirBlocks(dirNames(n))
	size := int64(len(blocks)-1) * Block
	for _, name := range blocks[len(blocks)-1] {
		size += int64(direntSize + len(name))
	}
	return size
}

// dirContent is a directory as it is in the image.
func dirContent(n *Node) []byte {
	var out []byte
	for i, names := range dirBlocks(dirNames(n)) {
		if i > 0 {
			out = append(out, zeros[:-len(out)&(Block-1)]...)
		}
		at := direntSize * len(names)
		for _, name := range names {
			c := n.child(name)
			out = binary.LittleEndian.AppendUint64(out, c.nid())
			out = binary.LittleEndian.AppendUint16(out, uint16(at))
			out = append(out, fileTypes[c.Type()], 0)
			at += len(name)
		}
		for _, name := range names {
			out = append(out, name...)
		}
	}
	return out
}

func (n *Node) child(name string) *Node {
	switch name {
	case ".":
		return n
	case "..":
		return n.at.parent
	}
	return n.Children[name]
}
